//! What came of it.

use std::collections::BTreeMap;

use serde::Serialize;

use super::plan::{Direction, Plan};
use super::stacks::Stack;

/// What a stack's packets cost.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Figure {
    /// Cycles a packet: the median of the rounds' medians.
    pub median: f64,
    /// The least that a sample of 256 packets had.
    pub min: f64,
    /// All cycles over all packets, interruptions included.
    pub mean: f64,
    /// The rounds' medians, in their order.
    pub rounds: Vec<f64>,
    /// Packets that were measured.
    pub packets: u64,
    /// Instructions a packet.
    pub instructions: Option<f64>,
    /// What the kernel and the processor counted a packet, by name.
    pub events: BTreeMap<String, f64>,
}

/// One direction at one point.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Measured {
    pub stacks: BTreeMap<Stack, Figure>,
}

impl Measured {
    /// How much one stack costs of another: the median over the rounds of the ratio in each round.
    pub fn cycles(&self, one: Stack, of: Stack) -> Option<f64> {
        let (one, of) = (self.stacks.get(&one)?, self.stacks.get(&of)?);
        let mut ratios: Vec<f64> = one
            .rounds
            .iter()
            .zip(&of.rounds)
            .map(|(one, of)| one / of)
            .collect();
        let ratio = median(&mut ratios)?;
        ratio.is_finite().then_some(ratio)
    }

    /// The same of instructions.
    pub fn instructions(&self, one: Stack, of: Stack) -> Option<f64> {
        let of_stack = |stack| self.stacks.get(&stack)?.instructions;
        let ratio = of_stack(one)? / of_stack(of)?;
        ratio.is_finite().then_some(ratio)
    }
}

/// One set of conditions.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    pub axis: &'static str,
    pub value: String,
    pub plan: Plan,
    pub directions: BTreeMap<Direction, Measured>,
}

/// Something that was not measured.
#[derive(Debug, Clone, Serialize)]
pub struct Skipped {
    pub what: String,
    pub reason: String,
}

/// What is said of a stack.
#[derive(Debug, Clone, Serialize)]
pub struct About {
    pub stack: Stack,
    pub provider: String,
    /// The libraries that were mapped.
    pub libraries: Vec<String>,
    /// Memory of a pair of queues in KiB, without buffers.
    pub kib_per_queue_pair: Option<f64>,
    /// What the model found.
    pub findings: Vec<String>,
}

/// The machine.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    pub processor: String,
    pub kernel: String,
    pub tsc_mhz: f64,
    pub core: usize,
    pub pages: &'static str,
    /// Load average of the last minute when it began.
    pub load: f64,
    /// Whether the model stood in the kernel's place.
    pub preloaded: bool,
}

/// This driver over uverbs against others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Ratios {
    pub cycles_vs_c: Option<f64>,
    pub instructions_vs_c: Option<f64>,
    pub cycles_vs_floor: Option<f64>,
}

impl Ratios {
    pub fn of(measured: &Measured) -> Self {
        Self {
            cycles_vs_c: measured.cycles(Stack::Uverbs, Stack::C),
            instructions_vs_c: measured.instructions(Stack::Uverbs, Stack::C),
            cycles_vs_floor: measured.cycles(Stack::Uverbs, Stack::Floor),
        }
    }
}

/// Everything, in the order in which it is written.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub version: &'static str,
    pub full: bool,
    pub rounds: u32,
    pub seconds: f64,
    pub machine: Machine,
    pub stacks: Vec<About>,
    pub points: Vec<Row>,
    pub skipped: Vec<Skipped>,
    /// At the point around which axes are varied.
    pub ratios: BTreeMap<Direction, Ratios>,
}

impl Report {
    /// What was measured of one direction at the base point.
    pub fn base(&self, direction: Direction) -> Option<&Measured> {
        let base = self.points.iter().find(|row| row.axis == "base")?;
        base.directions.get(&direction)
    }
}

/// The median; sorts the values.
pub fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        length if length % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(rounds: &[f64], instructions: Option<f64>) -> Figure {
        Figure {
            rounds: rounds.to_vec(),
            instructions,
            ..Figure::default()
        }
    }

    #[test]
    fn ratios_are_of_the_same_round_and_missing_where_a_stack_is() {
        let mut measured = Measured::default();
        let ours = figure(&[5.0, 50.0, 6.0], Some(60.0));
        measured.stacks.insert(Stack::Uverbs, ours);
        assert_eq!(Ratios::of(&measured), Ratios::default());
        // A round in which the machine was slow does not show.
        let c = figure(&[50.0, 500.0, 60.0], Some(480.0));
        measured.stacks.insert(Stack::C, c);
        let ratios = Ratios::of(&measured);
        assert_eq!(ratios.cycles_vs_c, Some(0.1));
        assert_eq!(ratios.instructions_vs_c, Some(0.125));
        assert_eq!(ratios.cycles_vs_floor, None);
        measured
            .stacks
            .insert(Stack::Floor, figure(&[0.0; 3], None));
        assert_eq!(Ratios::of(&measured).cycles_vs_floor, None, "not finite");
    }

    #[test]
    fn a_median_of_an_even_number_is_between_two() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&mut [4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&mut []), None);
    }
}
