//! `help`: sections as in testpmd, and the commands of each.

use super::Prompt;
use super::commands::{SECTIONS, TABLE};
use crate::testpmd::error::Error;
use crate::testpmd::run::say;

/// `help`.
pub fn sections(_: &mut Prompt<'_, '_>, _: &[&str]) -> Result<(), Error> {
    let mut text = String::from("\nHelp is available for the following sections:\n\n");
    for (name, title) in SECTIONS {
        text.push_str(&format!("    help {name:<27}: {title}\n"));
    }
    text.push_str("    help all                        : All of the above sections.\n\n");
    say(&text)
}

/// `help SECTION`.
pub fn section(_: &mut Prompt<'_, '_>, words: &[&str]) -> Result<(), Error> {
    let mut text = String::new();
    for (name, title) in SECTIONS {
        if words[0] != name && words[0] != "all" {
            continue;
        }
        let line = "-".repeat(title.len());
        text.push_str(&format!("\n{title}\n{line}\n"));
        for spec in TABLE.iter().filter(|spec| spec.section == name) {
            text.push_str(&format!("\n{}\n    {}\n", spec.form, spec.help));
        }
        text.push('\n');
    }
    if text.is_empty() {
        let names: Vec<&str> = SECTIONS.iter().map(|(name, _)| *name).collect();
        super::complain(&format!(
            "`{}`: expected {}, all",
            words[0],
            names.join(", ")
        ));
        text = "Bad arguments\n".to_owned();
    }
    say(&text)
}
