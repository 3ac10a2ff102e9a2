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

/// The end of what belongs to a warning.
const END: &str = "---[ end trace";

/// Where Linux 7 warns when a device asks for a reset: it then waits for an answer of the device no longer than
/// for its next tick, and a busy machine is slower. What it could not destroy goes with the reset.
const HASTY: [&str; 4] = [
    "ib_dealloc_pd_user",
    "ib_mad_port_close",
    "rdma_restrack_clean",
    "uverbs_destroy_ufile_hw",
];

/// The first complaint and up to `lines` lines from it on. Where the device asks for resets, what the kernel
/// then warns of in its haste is none.
pub fn complaint(log: &str, lines: usize, resets: bool) -> Option<String> {
    let excused = |line: &str| {
        let named = |name: &&str| line.contains(&format!(" {name}+"));
        resets && line.contains("WARNING: ") && HASTY.iter().any(named)
    };
    let wrong =
        |line: &str| COMPLAINTS.iter().any(|text| line.contains(text)) && !line.contains(EXCUSED);
    let mut within = false;
    let at = log.lines().position(|line| {
        within |= excused(line);
        let found = !within && wrong(line);
        within &= !line.contains(END);
        found
    })?;
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
            complaint(log, 2, false).unwrap(),
            "[2.0] BUG: kernel NULL pointer\n[2.1] RIP"
        );
        assert!(complaint("[3] mana: HWC: Request timed out!\n", 9, false).is_some());
        let well = "[1] clocksource: Watchdog remote CPU 1 read timed out\n[2.0] mana: attached\n";
        assert_eq!(complaint(well, 9, false), None);
    }

    #[test]
    fn a_warning_in_haste_is_no_complaint_where_resets_are_asked_for_and_what_follows_it_is() {
        let warning = "[1] WARNING: ib_verbs.h:3816 at ib_mad_port_close+0x13d/0x170 [ib_core]\n\
                       [1] Call Trace:\n[1]  ib_mad_port_close+0x1\n[1] ---[ end trace 0 ]---\n";
        assert!(complaint(warning, 9, false).is_some());
        assert_eq!(complaint(warning, 9, true), None);
        let more = format!("{warning}[2] WARNING: at other+0x1/0x2\n");
        let found = complaint(&more, 1, true).unwrap();
        assert_eq!(found, "[2] WARNING: at other+0x1/0x2");
    }

    #[test]
    fn an_end_is_the_last_lines() {
        assert_eq!(end("a\nb\nc\n", 2), "b\nc");
        assert_eq!(end("a\n", 2), "a");
    }
}
