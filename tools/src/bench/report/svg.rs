//! Plots as SVG: bars and lines, each with everything that is needed to read it.

use std::fmt::Write as _;

use super::super::stacks::Stack;

/// Width of every plot.
const WIDTH: f64 = 760.0;
/// Left of what is drawn: names of bars, or numbers of an axis.
const LEFT: f64 = 150.0;
/// Right of it: numbers behind bars.
const RIGHT: f64 = 150.0;
/// Above it: title and legend.
const TOP: f64 = 78.0;

/// A stack's colour.
fn colour(stack: Stack) -> &'static str {
    match stack {
        Stack::C => "#c0562f",
        Stack::RdmaCore => "#6fa3d8",
        Stack::Uverbs => "#1d5a9e",
        Stack::Floor => "#8d8d8d",
    }
}

/// A group of bars, one for each stack.
pub struct Group {
    pub name: String,
    /// Value, and what is written behind it.
    pub bars: Vec<(Stack, f64, String)>,
}

/// Horizontal bars from 0 on.
pub fn bars(title: &str, unit: &str, groups: &[Group]) -> String {
    const BAR: f64 = 18.0;
    const GAP: f64 = 16.0;
    let count: usize = groups.iter().map(|group| group.bars.len()).sum();
    let height = TOP + count as f64 * BAR + groups.len() as f64 * GAP + 34.0;
    let values = groups.iter().flat_map(|group| &group.bars);
    let largest = values
        .clone()
        .map(|(_, value, _)| *value)
        .fold(0.0, f64::max);
    let (top, step) = scale(largest);
    let x = |value: f64| LEFT + value / top * (WIDTH - LEFT - RIGHT);
    let mut stacks: Vec<Stack> = values.map(|(stack, ..)| *stack).collect();
    stacks.sort();
    stacks.dedup();
    let mut svg = begin(title, unit, height, &stacks);
    let bottom = height - 34.0;
    let mut tick = 0.0;
    while tick <= top * 1.0001 {
        line(&mut svg, (x(tick), TOP), (x(tick), bottom), "#e3e3e3", 1.0);
        text(
            &mut svg,
            (x(tick), bottom + 16.0),
            "middle",
            12,
            "#555",
            &number(tick),
        );
        tick += step;
    }
    let mut y = TOP + GAP / 2.0;
    for group in groups {
        let middle = y + group.bars.len() as f64 * BAR / 2.0 + 4.0;
        text(
            &mut svg,
            (LEFT - 10.0, middle),
            "end",
            14,
            "#222",
            &group.name,
        );
        for (stack, value, label) in &group.bars {
            let width = (x(*value) - LEFT).max(1.0);
            push(
                &mut svg,
                format_args!(
                    r#"<rect x="{LEFT}" y="{:.1}" width="{width:.1}" height="{:.1}" fill="{}"><title>{}: {label}</title></rect>"#,
                    y + 2.0,
                    BAR - 4.0,
                    colour(*stack),
                    stack.title()
                ),
            );
            text(
                &mut svg,
                (x(*value) + 6.0, y + 13.0),
                "start",
                12,
                "#222",
                label,
            );
            y += BAR;
        }
        y += GAP;
    }
    line(&mut svg, (LEFT, TOP), (LEFT, bottom), "#222", 1.0);
    svg.push_str("</svg>\n");
    svg
}

/// A stack's values, one for each place on the axis; none where it was not measured.
pub struct Series {
    pub stack: Stack,
    pub values: Vec<Option<f64>>,
}

/// Lines over places that stand side by side, from 0 on.
pub fn lines(title: &str, unit: &str, axis: &str, places: &[String], series: &[Series]) -> String {
    const HEIGHT: f64 = 380.0;
    const LEFT: f64 = 60.0;
    const RIGHT: f64 = 70.0;
    let bottom = HEIGHT - 56.0;
    let all = series.iter().flat_map(|one| one.values.iter().flatten());
    let (top, step) = scale(all.copied().fold(0.0, f64::max));
    let y = |value: f64| bottom - value / top * (bottom - TOP);
    let distance = (WIDTH - LEFT - RIGHT) / (places.len().max(2) - 1) as f64;
    let x = |index: usize| LEFT + index as f64 * distance;
    let stacks: Vec<Stack> = series.iter().map(|one| one.stack).collect();
    let mut svg = begin(title, unit, HEIGHT, &stacks);
    let mut tick = 0.0;
    while tick <= top * 1.0001 {
        let (from, to) = ((LEFT, y(tick)), (WIDTH - RIGHT, y(tick)));
        line(&mut svg, from, to, "#e3e3e3", 1.0);
        text(
            &mut svg,
            (LEFT - 8.0, y(tick) + 4.0),
            "end",
            12,
            "#555",
            &number(tick),
        );
        tick += step;
    }
    for (index, place) in places.iter().enumerate() {
        line(
            &mut svg,
            (x(index), bottom),
            (x(index), bottom + 5.0),
            "#222",
            1.0,
        );
        text(
            &mut svg,
            (x(index), bottom + 19.0),
            "middle",
            12,
            "#222",
            place,
        );
    }
    line(
        &mut svg,
        (LEFT, bottom),
        (WIDTH - RIGHT, bottom),
        "#222",
        1.0,
    );
    let middle = (LEFT + WIDTH - RIGHT) / 2.0;
    text(
        &mut svg,
        (middle, HEIGHT - 12.0),
        "middle",
        13,
        "#222",
        axis,
    );
    let mut ends = Vec::new();
    for one in series {
        let points: Vec<(f64, f64, f64)> = one
            .values
            .iter()
            .enumerate()
            .filter_map(|(index, value)| value.map(|value| (x(index), y(value), value)))
            .collect();
        let path: Vec<String> = points
            .iter()
            .map(|(x, y, _)| format!("{x:.1},{y:.1}"))
            .collect();
        let dashes = if one.stack == Stack::Floor {
            r#" stroke-dasharray="5 4""#
        } else {
            ""
        };
        push(
            &mut svg,
            format_args!(
                r#"<polyline points="{}" fill="none" stroke="{}" stroke-width="2.2"{dashes}/>"#,
                path.join(" "),
                colour(one.stack)
            ),
        );
        for (x, y, value) in &points {
            push(
                &mut svg,
                format_args!(
                    r#"<circle cx="{x:.1}" cy="{y:.1}" r="3.4" fill="{}"><title>{}: {value:.1}</title></circle>"#,
                    colour(one.stack),
                    one.stack.title()
                ),
            );
        }
        if let Some(end) = points.last() {
            ends.push((*end, one.stack));
        }
    }
    // Numbers at the ends, from the lowest up, so that those of lines that meet stand in their order.
    ends.sort_by(|((_, one, _), _), ((_, other, _), _)| other.total_cmp(one));
    let mut lowest = f64::INFINITY;
    for ((x, y, value), stack) in ends {
        let at = (y + 4.0).min(lowest - 12.0);
        lowest = at;
        let value = format!("{value:.1}");
        text(&mut svg, (x + 9.0, at), "start", 12, colour(stack), &value);
    }
    svg.push_str("</svg>\n");
    svg
}

/// The end of an axis that holds `largest`, and the distance of its ticks: 1, 2 or 5 times a power of
/// ten.
fn scale(largest: f64) -> (f64, f64) {
    if !largest.is_finite() || largest <= 0.0 {
        return (1.0, 0.5);
    }
    let rough = largest / 6.0;
    let power = 10.0_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power);
    let step = step
        .into_iter()
        .find(|step| *step >= rough)
        .unwrap_or(rough);
    ((largest / step).ceil() * step, step)
}

fn begin(title: &str, unit: &str, height: f64, stacks: &[Stack]) -> String {
    let mut svg = format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0}" width="{WIDTH}" height="{height:.0}" font-family="Helvetica, Arial, sans-serif" role="img"><title>{}</title>"#,
        escape(title)
    );
    svg.push('\n');
    push(
        &mut svg,
        format_args!(r##"<rect width="{WIDTH}" height="{height:.0}" fill="#ffffff"/>"##),
    );
    text(&mut svg, (14.0, 24.0), "start", 17, "#111", title);
    text(&mut svg, (14.0, 42.0), "start", 12, "#555", unit);
    let mut x = 14.0;
    for stack in stacks {
        push(
            &mut svg,
            format_args!(
                r#"<rect x="{x:.1}" y="52" width="12" height="12" fill="{}"/>"#,
                colour(*stack)
            ),
        );
        text(
            &mut svg,
            (x + 17.0, 62.5),
            "start",
            13,
            "#222",
            stack.title(),
        );
        x += 36.0 + 7.2 * stack.title().len() as f64;
    }
    svg
}

fn push(svg: &mut String, element: std::fmt::Arguments<'_>) {
    // Writing to a String does not fail.
    let _always = writeln!(svg, "{element}");
}

fn line(svg: &mut String, from: (f64, f64), to: (f64, f64), colour: &str, width: f64) {
    let ((x1, y1), (x2, y2)) = (from, to);
    push(
        svg,
        format_args!(
            r#"<line x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}" stroke="{colour}" stroke-width="{width}"/>"#
        ),
    );
}

fn text(svg: &mut String, at: (f64, f64), anchor: &str, size: u32, colour: &str, text: &str) {
    let ((x, y), text) = (at, escape(text));
    push(
        svg,
        format_args!(
            r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}" font-size="{size}" fill="{colour}">{text}</text>"#
        ),
    );
}

/// Without digits behind the point where there are none.
fn number(value: f64) -> String {
    format!("{:.2}", value)
        .trim_end_matches('0')
        .trim_end_matches('.')
        .to_owned()
}

/// Text as it may stand in SVG and HTML.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_above_what_they_show_at_round_numbers() {
        assert_eq!(scale(76.9), (80.0, 20.0));
        assert_eq!(scale(140.0), (150.0, 50.0));
        assert_eq!(scale(9.3), (10.0, 2.0));
        assert_eq!(scale(0.0), (1.0, 0.5));
        for value in [0.07, 1.0, 3.3, 60.0, 61.0, 487.0, 12345.0] {
            let (top, step) = scale(value);
            assert!(top >= value && top / step <= 7.0, "{value}: {top} {step}");
        }
        assert_eq!(
            (number(20.0), number(0.5), number(100.0)),
            ("20".into(), "0.5".into(), "100".into())
        );
    }

    #[test]
    fn plots_hold_every_value_once_and_no_bare_ampersand() {
        let group = Group {
            name: "a & b".to_owned(),
            bars: vec![
                (Stack::C, 70.0, "70.0".to_owned()),
                (Stack::Uverbs, 5.0, "5.0".to_owned()),
            ],
        };
        let svg = bars("title", "unit", &[group]);
        assert_eq!(
            svg.matches("<rect").count(),
            1 + 2 + 2,
            "ground, legend, bars"
        );
        assert!(svg.contains("a &amp; b") && !svg.contains("a & b"));
        let series = [Stack::C, Stack::Floor].map(|stack| Series {
            stack,
            values: vec![Some(1.0), None, Some(3.0)],
        });
        let places = ["1", "2", "3"].map(str::to_owned);
        let svg = lines("title", "unit", "axis", &places, &series);
        assert_eq!(svg.matches("<circle").count(), 4);
        assert_eq!(svg.matches("<polyline").count(), 2);
    }
}
