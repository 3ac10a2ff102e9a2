//! The table on standard output.

use std::collections::BTreeSet;

use super::plan::Direction;
use super::results::{Measured, Report};
use super::stacks::Stack;

/// Everything that was measured, as text.
pub fn text(report: &Report) -> String {
    let machine = &report.machine;
    let mut lines = vec![
        format!(
            "{}, time-stamp counter {:.0} MHz, core {}, {} pages, load {:.1}; {} rounds",
            machine.processor.trim(),
            machine.tsc_mhz,
            machine.core,
            machine.pages,
            machine.load,
            report.rounds
        ),
        String::new(),
    ];
    for about in &report.stacks {
        let memory = about.kib_per_queue_pair;
        let memory = memory.map_or(String::new(), |kib| {
            format!(", {kib:.1} KiB a pair of queues")
        });
        let mapped = if about.libraries.is_empty() {
            String::new()
        } else {
            format!(", on {}", about.libraries.join(", "))
        };
        lines.push(format!(
            "{:16} {}{mapped}{memory}",
            about.stack.title(),
            about.provider
        ));
    }
    lines.push(String::new());
    lines.push(format!(
        "{:24} {:8} {:>22} {:>22} {:>22} {:>22} {:>8} {:>8}",
        "cycles a packet: median (least), instructions",
        "",
        Stack::C.title(),
        Stack::RdmaCore.title(),
        Stack::Uverbs.title(),
        Stack::Floor.title(),
        "of C",
        "floors"
    ));
    // The first column's head is wider than it.
    if let Some(head) = lines.last_mut() {
        *head = head.replacen("instructions         ", "instructions", 1);
    }
    for row in &report.points {
        for (direction, measured) in &row.directions {
            let name = match row.axis {
                "base" => "burst 32, 60 B, ring 256".to_owned(),
                axis => format!("{axis} {}", row.value),
            };
            lines.push(format!("{name:24} {}", cells(*direction, measured)));
        }
    }
    lines.extend(events(report));
    for skipped in &report.skipped {
        lines.push(format!("skipped: {}: {}", skipped.what, skipped.reason));
    }
    lines.join("\n")
}

fn cells(direction: Direction, measured: &Measured) -> String {
    let mut line = format!("{:8}", direction.name());
    for stack in Stack::ALL {
        let cell = measured.stacks.get(&stack).map(|figure| {
            let instructions = figure.instructions;
            let instructions = instructions.map_or(String::new(), |count| format!(" {count:6.1}"));
            format!("{:.1} ({:.1}){instructions}", figure.median, figure.min)
        });
        line.push_str(&format!(" {:>22}", cell.as_deref().unwrap_or("-")));
    }
    let ratio = |ratio: Option<f64>| ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.3}"));
    let of_c = ratio(measured.cycles(Stack::Uverbs, Stack::C));
    let floors = ratio(measured.cycles(Stack::Uverbs, Stack::Floor));
    format!("{line} {of_c:>8} {floors:>8}")
}

/// What was counted a packet at the base point.
fn events(report: &Report) -> Vec<String> {
    let mut lines = Vec::new();
    for direction in Direction::ALL {
        let Some(measured) = report.base(direction) else {
            continue;
        };
        let names: BTreeSet<&String> = (measured.stacks.values())
            .flat_map(|figure| figure.events.keys())
            .collect();
        for name in names {
            let mut line = format!("{name:24} {:8}", direction.name());
            for stack in Stack::ALL {
                let count = measured.stacks.get(&stack);
                let count = count.and_then(|figure| figure.events.get(name));
                let cell = count.map_or("-".to_owned(), |count| format!("{count:.3}"));
                line.push_str(&format!(" {cell:>22}"));
            }
            lines.push(line);
        }
    }
    if !lines.is_empty() {
        let head = "counters a packet, at burst 32, 60 B, ring 256, in user space";
        lines.insert(0, head.to_owned());
        lines.insert(0, String::new());
    }
    lines
}
