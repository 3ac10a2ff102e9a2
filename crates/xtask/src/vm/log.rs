//! What a kernel says when something is wrong.

/// None of these stands in the log of a guest that is well.
const COMPLAINTS: [&str; 8] = [
    "BUG:",
    "Oops",
    "WARNING",
    "timed out",
    "Call Trace",
    "Kernel panic",
    "general protection",
    "detected stalls",
];

/// The clock of a guest on a busy machine: no driver's doing.
const EXCUSED: &str = "clocksource:";

/// The first complaint and up to `lines` lines from it on.
pub fn complaint(log: &str, lines: usize) -> Option<String> {
    let wrong =
        |line: &str| COMPLAINTS.iter().any(|text| line.contains(text)) && !line.contains(EXCUSED);
    let at = log.lines().position(wrong)?;
    let shown: Vec<&str> = log.lines().skip(at).take(lines).collect();
    Some(shown.join("\n"))
}

/// The last `lines` lines.
pub fn end(log: &str, lines: usize) -> String {
    let all: Vec<&str> = log.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_is_shown_with_what_follows() {
        let log = "[1.0] a\n[2.0] BUG: kernel NULL pointer\n[2.1] RIP\n[2.2] b\n";
        assert_eq!(
            complaint(log, 2).unwrap(),
            "[2.0] BUG: kernel NULL pointer\n[2.1] RIP"
        );
        assert!(complaint("[3] mana: HWC: Request timed out!\n", 9).is_some());
        let well = "[1] clocksource: Watchdog remote CPU 1 read timed out\n[2.0] mana: attached\n";
        assert_eq!(complaint(well, 9), None);
    }

    #[test]
    fn an_end_is_the_last_lines() {
        assert_eq!(end("a\nb\nc\n", 2), "b\nc");
        assert_eq!(end("a\n", 2), "a");
    }
}
