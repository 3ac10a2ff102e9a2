//! The conditions that are measured: one point, and axes around it, one at a time.

use mana_model::Cooling;

use super::error::Error;
use super::plan::{Direction, Offload, Plan};

/// Packets of a figure, where a packet is no longer than [`LONG`].
const PACKETS: u64 = 3_000_000;
/// Packets of a figure beside the point in a quick run.
const QUICK: u64 = 150_000;
/// Bytes from which on the model takes longer for a packet than the figure is worth.
const LONG: u32 = 2048;

/// One set of conditions and what is measured under them.
#[derive(Debug, Clone)]
pub struct Point {
    /// The axis; `base` for the point itself.
    pub axis: &'static str,
    /// Where on it.
    pub value: String,
    pub plan: Plan,
    pub directions: &'static [Direction],
    /// Packets of each figure.
    pub packets: u64,
    /// Whether instructions are counted, too.
    pub instructions: bool,
}

/// Ways in which the conditions make a difference.
const BOTH: &[Direction] = &Direction::MOVING;
const TX: &[Direction] = &[Direction::Tx];
const RX: &[Direction] = &[Direction::Rx];
const POLL: &[Direction] = &[Direction::Poll];

/// All points, or those of a quick run: the point itself and one of each axis on which drivers
/// differ most.
pub fn points(full: bool) -> Vec<Point> {
    let mut points = Vec::new();
    let mut add = |quick: bool, axis, value: String, directions, plan: Plan| {
        if !full && !quick {
            return;
        }
        let packets = match (full, axis, plan.size >= LONG) {
            (false, "base", _) => PACKETS,
            (false, ..) => QUICK,
            (true, _, false) => PACKETS,
            (true, _, true) => PACKETS / 10,
        };
        points.push(Point {
            axis,
            value,
            instructions: axis == "base"
                || full && matches!(axis, "segments" | "offload" | "poll" | "coalescing")
                || full && axis == "burst" && plan.burst == 1,
            plan,
            directions,
            packets,
        });
    };
    let base = Plan::default;
    add(true, "base", "base".to_owned(), BOTH, base());
    for burst in [1, 2, 4, 8, 16, 64, 128] {
        let plan = Plan { burst, ..base() };
        add(burst == 1, "burst", burst.to_string(), BOTH, plan);
    }
    for size in [64, 128, 256, 512, 1024, 1514, 4096, 9000] {
        let plan = Plan { size, ..base() };
        add(false, "size", size.to_string(), BOTH, plan);
    }
    for segments in [2, 4] {
        let plan = Plan { segments, ..base() };
        add(segments == 2, "segments", segments.to_string(), TX, plan);
    }
    for ring in [128, 512, 1024] {
        let plan = Plan { ring, ..base() };
        add(false, "ring", ring.to_string(), BOTH, plan);
    }
    for (offload, value) in [(Offload::Checksum, "checksum"), (Offload::Vlan, "vlan")] {
        let plan = Plan { offload, ..base() };
        add(false, "offload", value.to_owned(), TX, plan);
    }
    let coalescing = 4;
    let plan = Plan {
        coalescing,
        ..base()
    };
    add(false, "coalescing", coalescing.to_string(), RX, plan);
    let plan = Plan {
        traffic: false,
        ..base()
    };
    add(true, "poll", "empty".to_owned(), POLL, plan);
    for queues in [2, 4, 8] {
        let plan = Plan { queues, ..base() };
        add(false, "queues", queues.to_string(), BOTH, plan);
    }
    for cool in [Cooling::L3, Cooling::Memory] {
        let plan = Plan { cool, ..base() };
        add(true, "completions", cool.to_string(), BOTH, plan);
    }
    let plan = Plan {
        drain: true,
        ..base()
    };
    add(false, "drain", "yes".to_owned(), BOTH, plan);
    points
}

/// Those on the axes of these names; all without one.
pub fn chosen(full: bool, axes: &[String]) -> Result<Vec<Point>, Error> {
    let all = points(full);
    let is = |axis: &String| all.iter().any(|point| point.axis == axis);
    if let Some(unknown) = axes.iter().find(|axis| !is(axis)) {
        let mut known: Vec<&str> = all.iter().map(|point| point.axis).collect();
        known.dedup();
        let known = known.join(", ");
        return Err(Error::Usage(format!(
            "--axis {unknown}: there are {known}, and more with --full"
        )));
    }
    let wanted = |point: &Point| axes.is_empty() || axes.iter().any(|axis| axis == point.axis);
    Ok(all.into_iter().filter(wanted).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_full_run_has_every_axis_and_a_quick_one_fewer_points() {
        let (full, quick) = (points(true), points(false));
        let axes: BTreeSet<&str> = full.iter().map(|point| point.axis).collect();
        let expected = [
            "base",
            "burst",
            "coalescing",
            "completions",
            "drain",
            "offload",
            "poll",
            "queues",
            "ring",
            "segments",
            "size",
        ];
        assert_eq!(axes.into_iter().collect::<Vec<_>>(), expected);
        assert!(quick.len() < full.len() / 3, "{}", quick.len());
        assert!(quick[0].plan == Plan::default() && quick[0].packets >= 3_000_000);
        for point in &full {
            assert!(point.packets >= 3_000_000 || point.plan.size >= LONG);
        }
    }
}
