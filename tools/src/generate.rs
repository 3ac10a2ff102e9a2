//! Man pages and shell completions, made from the command line itself: for packagers.

use std::io;
use std::path::Path;
use std::{env, fs};

use clap::{Command, CommandFactory};
use clap_complete::Shell;

use crate::{Cli, model, testpmd};

/// Writes `man1/*.1` and one file a shell into `folder`, which is made if need be.
pub fn write(folder: &Path) -> io::Result<()> {
    let man = folder.join("man1");
    fs::create_dir_all(&man)?;
    let mut command = Cli::command();
    command.build();
    page(&man, "mana", command.clone())?;
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        let name = format!("mana-{}", sub.get_name());
        match sub.get_name() {
            // Their words are not clap's.
            "testpmd" => verbatim(&man, &name, sub, &testpmd::help())?,
            "model" => verbatim(&man, &name, sub, model::USAGE)?,
            "help" => {}
            _ => page(&man, &name, sub.clone())?,
        }
    }
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut Cli::command(), "mana", folder)?;
    }
    Ok(())
}

fn page(folder: &Path, name: &str, command: Command) -> io::Result<()> {
    let mut text = Vec::new();
    clap_mangen::Man::new(command)
        .title(name)
        .source(concat!("mana ", env!("CARGO_PKG_VERSION")))
        .render(&mut text)?;
    fs::write(folder.join(format!("{name}.1")), text)
}

/// A page of a text that is already laid out.
fn verbatim(folder: &Path, name: &str, command: &Command, text: &str) -> io::Result<()> {
    let about = command
        .get_about()
        .map(ToString::to_string)
        .unwrap_or_default();
    let body: String = text
        .replace('\\', "\\e")
        .replace('-', "\\-")
        .lines()
        // A dot or an apostrophe at the start of a line is a request to roff.
        .map(|line| format!("\\&{line}\n"))
        .collect();
    let version = env!("CARGO_PKG_VERSION");
    let page = format!(
        ".TH {} 1 \"\" \"mana {version}\"\n.SH NAME\n{} \\- {about}\n.SH DESCRIPTION\n.nf\n{body}.fi\n",
        name,
        name.replace('-', "\\-"),
    );
    fs::write(folder.join(format!("{name}.1")), page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_and_every_shell_its_completions() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path()).unwrap();
        for name in [
            "mana",
            "mana-testpmd",
            "mana-doctor",
            "mana-setup",
            "mana-model",
        ] {
            let page = fs::read_to_string(folder.path().join(format!("man1/{name}.1"))).unwrap();
            assert!(page.contains(".SH NAME") && page.contains(".TH"), "{page}");
        }
        let testpmd = fs::read_to_string(folder.path().join("man1/mana-testpmd.1")).unwrap();
        assert!(testpmd.contains("\\-\\-forward\\-mode"));
        for name in ["mana.bash", "_mana", "mana.fish"] {
            let text = fs::read_to_string(folder.path().join(name)).unwrap();
            assert!(text.contains("doctor"), "{name}");
        }
    }
}
