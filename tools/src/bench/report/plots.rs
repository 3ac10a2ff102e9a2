//! Which plots there are.

use super::super::plan::Direction;
use super::super::results::{Figure, Measured, Report, Row};
use super::super::stacks::Stack;
use super::svg::{Group, Series, bars, lines};

/// A plot and the name of its file, without the ending.
pub struct Plot {
    pub file: String,
    pub svg: String,
    /// What it shows, in a sentence.
    pub caption: String,
}

/// What the cycles are.
const CYCLES: &str = "time-stamp counter cycles a packet, driver only; less is better";

/// A direction, to people.
pub fn title(direction: Direction) -> &'static str {
    match direction {
        Direction::Tx => "send",
        Direction::Rx => "receive",
        Direction::Forward => "forward",
        Direction::Poll => "empty poll",
    }
}

/// All plots for which there are figures.
pub fn plots(report: &Report) -> Vec<Plot> {
    let mut plots = Vec::new();
    plots.extend(base(report));
    plots.extend(instructions(report));
    let axes = [
        ("burst", "packets of a burst", Some(("32", 5))),
        ("size", "bytes of a packet", Some(("60", 0))),
        ("ring", "descriptors of a ring", Some(("256", 1))),
        (
            "queues",
            "queues each way, served in turn by one thread",
            Some(("1", 0)),
        ),
    ];
    for (axis, name, own) in axes {
        for direction in Direction::MOVING {
            plots.extend(along(report, axis, name, own, direction));
        }
    }
    plots.extend(completions(report));
    plots.extend(work(report));
    plots
}

fn group(
    name: &str,
    measured: &Measured,
    label: impl Fn(&Figure) -> Option<(f64, String)>,
) -> Group {
    let bars = measured
        .stacks
        .iter()
        .filter_map(|(stack, figure)| label(figure).map(|(value, text)| (*stack, value, text)));
    Group {
        name: name.to_owned(),
        bars: bars.collect(),
    }
}

fn cycles(figure: &Figure) -> Option<(f64, String)> {
    let text = format!("{:.1} (least {:.1})", figure.median, figure.min);
    Some((figure.median, text))
}

fn base(report: &Report) -> Option<Plot> {
    let groups: Vec<Group> = Direction::MOVING
        .into_iter()
        .filter_map(|direction| Some(group(title(direction), report.base(direction)?, cycles)))
        .collect();
    (!groups.is_empty()).then(|| Plot {
        file: "cycles".to_owned(),
        svg: bars(
            "What a packet costs: bursts of 32, 60 bytes, rings of 256",
            CYCLES,
            &groups,
        ),
        caption:
            "The base point. Median over all rounds; in brackets the least of any 256 packets."
                .to_owned(),
    })
}

fn instructions(report: &Report) -> Option<Plot> {
    let count = |figure: &Figure| {
        let count = figure.instructions?;
        Some((count, format!("{count:.1}")))
    };
    let groups: Vec<Group> = Direction::MOVING
        .into_iter()
        .filter_map(|direction| Some(group(title(direction), report.base(direction)?, count)))
        .filter(|group| !group.bars.is_empty())
        .collect();
    (!groups.is_empty()).then(|| Plot {
        file: "instructions".to_owned(),
        svg: bars(
            "Instructions of a packet at the base point",
            "counted by callgrind, the same in every run; less is better",
            &groups,
        ),
        caption: "What does not depend on the machine: instructions that the driver executes for a packet.".to_owned(),
    })
}

/// A line a stack along an axis, with the base point in its place.
fn along(
    report: &Report,
    axis: &str,
    name: &str,
    own: Option<(&str, usize)>,
    direction: Direction,
) -> Option<Plot> {
    let mut rows: Vec<(String, &Row)> = report
        .points
        .iter()
        .filter(|row| row.axis == axis && row.directions.contains_key(&direction))
        .map(|row| (row.value.clone(), row))
        .collect();
    if rows.len() < 2 {
        return None;
    }
    let base = report.points.iter().find(|row| row.axis == "base");
    if let (Some(base), Some((value, at))) = (base, own) {
        rows.insert(at.min(rows.len()), (value.to_owned(), base));
    }
    let value = |row: &Row, stack: Stack| {
        let measured = row.directions.get(&direction)?;
        measured.stacks.get(&stack).map(|figure| figure.median)
    };
    let series: Vec<Series> = Stack::ALL
        .into_iter()
        .map(|stack| Series {
            stack,
            values: rows.iter().map(|(_, row)| value(row, stack)).collect(),
        })
        .filter(|series| series.values.iter().any(Option::is_some))
        .collect();
    let places: Vec<String> = rows.into_iter().map(|(place, _)| place).collect();
    let what = title(direction);
    Some(Plot {
        file: format!("{axis}-{}", direction.name()),
        svg: lines(
            &format!("To {what}, by {name}"),
            CYCLES,
            name,
            &places,
            &series,
        ),
        caption: format!("Cost of a packet to {what}, by {name}; all else as at the base point."),
    })
}

fn completions(report: &Report) -> Option<Plot> {
    let mut groups = Vec::new();
    for direction in Direction::MOVING {
        let places = [
            ("base", "base", "in L1"),
            ("completions", "l3", "in L3"),
            ("completions", "memory", "in memory"),
        ];
        for (axis, value, name) in places {
            let row = report
                .points
                .iter()
                .find(|row| row.axis == axis && row.value == value);
            if let Some(measured) = row.and_then(|row| row.directions.get(&direction)) {
                groups.push(group(
                    &format!("{}, {name}", title(direction)),
                    measured,
                    cycles,
                ));
            }
        }
    }
    (groups.len() > 3).then(|| Plot {
        file: "completions".to_owned(),
        svg: bars("Where completions lie when the driver reads them", CYCLES, &groups),
        caption: "Hardware writes completions to memory or to the last cache, the model to this core's \
                  first. Here they were moved away after they were written, under all stacks alike: \
                  misses cost every driver the same, so ratios shrink while the difference stays."
            .to_owned(),
    })
}

/// Points that have no axis of their own.
fn work(report: &Report) -> Option<Plot> {
    let rows = report.points.iter().filter(|row| {
        matches!(
            row.axis,
            "segments" | "offload" | "coalescing" | "poll" | "drain"
        ) || row.axis == "burst" && row.value == "1"
    });
    let mut groups = Vec::new();
    for row in rows {
        for (direction, measured) in &row.directions {
            let name = match (row.axis, row.value.as_str()) {
                ("segments", count) => format!("{count} segments"),
                ("offload", what) => format!("send, {what}"),
                ("coalescing", count) => format!("{count} a completion"),
                ("poll", _) => "empty poll".to_owned(),
                ("drain", _) => format!("{}, drained", title(*direction)),
                _ => format!("{}, burst of 1", title(*direction)),
            };
            groups.push(group(&name, measured, cycles));
        }
    }
    (!groups.is_empty()).then(|| Plot {
        file: "work".to_owned(),
        svg: bars("Other work", CYCLES, &groups),
        caption: "Packets of several segments, with offloads, several a completion, with the store buffer \
                  drained inside the timed region, polls that find nothing (a poll in place of a packet), \
                  and bursts of one."
            .to_owned(),
    })
}
