//! What a testpmd answers to each command of a script, as one reads it on a terminal.

use std::fs;

use super::{Column, Outcome, Session, Stack};
use crate::host::Ended;

/// What stands before every command.
const PROMPT: &str = "testpmd> ";
/// What is told when a file of commands was read.
const FILE_ENDS: &str = "Read CLI commands";
/// How the model begins, which has the last word.
const FINDINGS: &str = "mana model: ";
/// How lines begin that DPDK's libraries log.
const LOGS: [&str; 6] = [
    "EAL: ",
    "ETHDEV: ",
    "MANA_DRIVER: ",
    "PCI_BUS: ",
    "TELEMETRY: ",
    "VHOST: ",
];

/// How the commands come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// Typed into standard input.
    Typing,
    /// Read from `--cmdline-file`.
    File,
}

/// A script and its answers.
#[derive(Debug)]
pub struct Dialogue {
    /// What was written before the first command.
    pub start: Vec<String>,
    /// Every command with its answer, in their order; `quit` with all that followed is the last.
    pub answers: Vec<Reply>,
    /// How it ended.
    pub outcome: Outcome,
}

/// A command and the lines that followed it up to the next one, without what libraries log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The command as it was echoed.
    pub command: String,
    /// Lines without their ends.
    pub lines: Vec<String>,
}

impl Reply {
    /// Its lines as one text, each with its end.
    #[must_use]
    pub fn text(&self) -> String {
        self.lines.iter().map(|line| format!("{line}\n")).collect()
    }
}

impl Dialogue {
    /// Runs a column's testpmd with a prompt on `model`, and these commands.
    ///
    /// # Panics
    ///
    /// If it does not end well, or breaks a rule of the hardware that is not known of it.
    #[must_use]
    #[track_caller]
    pub fn run(
        stack: &Stack,
        column: Column,
        model: &str,
        app: &str,
        by: By,
        commands: &[&str],
    ) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut app = format!("-i --total-num-mbufs=8192 {app}");
        let script: String = commands.iter().map(|line| format!("{line}\n")).collect();
        if by == By::File {
            let file = folder.path().join("commands");
            fs::write(&file, &script).expect("the file of commands can be written");
            app.push_str(&format!(" --cmdline-file={}", file.display()));
        }
        let session = Session::on_terminal(stack, column, model, "DEVICE", &app);
        let mut session = session.on_its_libraries(stack);
        if by == By::Typing {
            session.type_line(script.trim_end());
        }
        session.type_line("quit");
        Self::of(session.end())
    }

    /// The dialogue of a testpmd that has ended; its output went to a terminal.
    ///
    /// # Panics
    ///
    /// As [`Dialogue::run`].
    #[must_use]
    #[track_caller]
    pub fn of(outcome: Outcome) -> Self {
        outcome.assert_clean();
        let (start, answers) = read(&outcome.ended);
        Self {
            start,
            answers,
            outcome,
        }
    }

    /// The answer to a command, the first one.
    ///
    /// # Panics
    ///
    /// If it was not given.
    #[must_use]
    #[track_caller]
    pub fn answer(&self, command: &str) -> &Reply {
        let found = self.answers.iter().find(|answer| answer.command == command);
        found.unwrap_or_else(|| panic!("no `{command}` in {}", self.outcome.ended))
    }
}

fn read(ended: &Ended) -> (Vec<String>, Vec<Reply>) {
    let text = ended.stdout.replace('\r', "");
    let mut parts = text.split(PROMPT);
    let start = lines(parts.next().unwrap_or_default());
    let answer = |part: &str| {
        let (command, rest) = part.split_once('\n').unwrap_or((part, ""));
        // A prompt stands before the end of a file of commands, too.
        let command = command.trim();
        let is_end = command.starts_with(FILE_ENDS);
        Reply {
            command: if is_end { FILE_ENDS } else { command }.to_owned(),
            lines: lines(rest),
        }
    };
    (start, parts.map(answer).collect())
}

fn lines(text: &str) -> Vec<String> {
    text.lines()
        .take_while(|line| !line.starts_with(FINDINGS))
        .filter(|line| !LOGS.iter().any(|log| line.starts_with(log)))
        .map(str::to_owned)
        .collect()
}

/// A line without what differs from run to run: numbers are `N`, but for those that end a name as in
/// `ipv4`, MACs are `MAC`, and several spaces between words, by which numbers are padded, one.
#[must_use]
pub fn shape(line: &str) -> String {
    let indented = line.len() - line.trim_start().len();
    let words: Vec<String> = line.split_whitespace().map(word).collect();
    format!("{}{}", &line[..indented], words.join(" "))
}

fn word(word: &str) -> String {
    let is_mac = |part: &str| {
        part.len() == 17
            && part
                .split(':')
                .all(|byte| u8::from_str_radix(byte, 16).is_ok())
    };
    if let Some(at) = word.len().checked_sub(17)
        && word.is_char_boundary(at)
        && is_mac(&word[at..])
    {
        return format!("{}MAC", &word[..at]);
    }
    if word.len() == 80 && word.chars().all(|digit| digit.is_ascii_hexdigit()) {
        return "KEY".to_owned();
    }
    let mut out = String::new();
    let mut rest = word;
    while let Some(first) = rest.chars().next() {
        let digits =
            |text: &str, digit: fn(char) -> bool| text.find(|c| !digit(c)).unwrap_or(text.len());
        if let Some(hexadecimal) = rest.strip_prefix("0x") {
            out.push_str("0xN");
            rest = &hexadecimal[digits(hexadecimal, |c| c.is_ascii_hexdigit())..];
        } else if first.is_ascii_digit() {
            let (number, behind) = rest.split_at(digits(rest, |c| c.is_ascii_digit()));
            let ends_a_name = out.ends_with(|c: char| c.is_ascii_alphabetic());
            out.push_str(if ends_a_name { number } else { "N" });
            rest = behind;
        } else {
            out.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_keeps_its_words_and_loses_its_numbers() {
        for (line, shaped) in [
            (
                "  RX-packets: 1138880        RX-dropped: 3             ",
                "  RX-packets: N RX-dropped: N",
            ),
            ("MAC address: 00:0D:3A:00:00:00", "MAC address: MAC"),
            ("mempool <mb_pool_0>@0x10f7e26c0", "mempool <mb_pool_N>@0xN"),
            ("return code = -95", "return code = -N"),
            ("peer=02:00:00:00:00:00", "peer=MAC"),
            (
                "    Rx offloads=0x80000 Tx offloads=0x0",
                "    Rx offloads=0xN Tx offloads=0xN",
            ),
            ("  ipv4  ipv6-tcp", "  ipv4 ipv6-tcp"),
            ("", ""),
        ] {
            assert_eq!(shape(line), shaped);
        }
        assert_eq!(shape(&"6D5A".repeat(20)), "KEY");
    }

    #[test]
    fn answers_are_what_follows_the_echo() {
        let ended = Ended {
            name: String::new(),
            code: Some(0),
            signal: None,
            stdout:
                "EAL: x\nStarted\ntestpmd> show\r\nETHDEV: no\n a\nb\ntestpmd> quit\r\nBye...\n"
                    .to_owned(),
            stderr: String::new(),
        };
        let (start, answers) = read(&ended);
        assert_eq!(start, ["Started"]);
        assert_eq!(answers[0].command, "show");
        assert_eq!(answers[0].text(), " a\nb\n");
        assert_eq!(answers[1].lines, ["Bye..."]);
    }
}
