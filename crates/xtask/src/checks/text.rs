//! What no committed file may contain: hosts of package registries (every machine has its own
//! mirrors) and absolute paths of the machine it was written on.

use std::env;
use std::fs;
use std::process::Command;

use crate::process;
use crate::report::Verdict;
use crate::workspace::Workspace;

/// Registry hosts, each in two parts so that this file does not contain them.
const HOSTS: &[(&str, &str)] = &[
    ("index.", "crates.io"),
    ("static.", "crates.io"),
    ("deb.", "debian.org"),
    ("security.", "debian.org"),
    ("ftp.", "debian.org"),
    ("snapshot.", "debian.org"),
    ("archive.", "ubuntu.com"),
    ("registry.", "npmjs.org"),
    ("pypi", ".org/simple"),
    ("files.", "pythonhosted.org"),
    ("pkg", ".dev/"),
];

/// Folders of the machines this house is written on, likewise in two parts.
const FOLDERS: &[(&str, &str)] = &[("/work", "/main"), ("/work", "/shared"), ("/ro", "ot")];

/// Every file git knows or would add.
pub fn check(workspace: &Workspace) -> Verdict {
    let listed = process::capture(
        Command::new("git")
            // The clone may belong to another user than the one who runs this.
            .args(["-c", "safe.directory=*", "ls-files", "-z"])
            .args(["--cached", "--others", "--exclude-standard"])
            .current_dir(&workspace.root),
    );
    let Ok(listed) = listed else {
        return Verdict::Skipped("not a git work tree, the committed files are unknown".to_owned());
    };
    let forbidden = Forbidden::here(&workspace.root.to_string_lossy());
    let mut faults = Vec::new();
    for name in listed.split('\0').filter(|name| !name.is_empty()) {
        // A file deleted and not yet committed, or a binary capture.
        let Ok(text) = fs::read_to_string(workspace.root.join(name)) else {
            continue;
        };
        for (index, line) in text.lines().enumerate() {
            if let Some(what) = forbidden.in_line(line) {
                faults.push(format!("{name}:{}: contains {what}", index + 1));
            }
        }
    }
    super::verdict(faults).into()
}

struct Forbidden {
    hosts: Vec<String>,
    folders: Vec<String>,
}

impl Forbidden {
    fn here(root: &str) -> Forbidden {
        let join = |(first, second): &(&str, &str)| format!("{first}{second}");
        let mut folders: Vec<String> = FOLDERS.iter().map(join).collect();
        let home = env::var("HOME").unwrap_or_default();
        // A folder such as `/src` would be found in half of all paths.
        folders.extend([root.to_owned(), home].into_iter().filter(|path| {
            path.starts_with('/') && path.split('/').filter(|part| !part.is_empty()).count() >= 2
        }));
        Forbidden {
            hosts: HOSTS.iter().map(join).collect(),
            folders,
        }
    }

    fn in_line<'a>(&'a self, line: &str) -> Option<&'a str> {
        let host = self.hosts.iter().find(|host| line.contains(host.as_str()));
        let folder = || {
            self.folders
                .iter()
                .find(|folder| contains_path(line, folder))
        };
        host.or_else(folder).map(String::as_str)
    }
}

/// Whether the line holds the path itself: not as the tail or the beginning of a longer name.
fn contains_path(line: &str, path: &str) -> bool {
    let part_of_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '/');
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + path.len()..].chars().next();
        !before.is_some_and(|c| part_of_name(c) || c == '}')
            && after.is_none_or(|c| c == '/' || !part_of_name(c))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_folders_are_found_and_their_likes_are_not() {
        let forbidden = Forbidden::here("/home/someone/mana");
        let root = ["/ro", "ot"].concat();
        for line in [
            "cd /home/someone/mana && cargo test".to_owned(),
            format!("`{root}/.cargo/bin/cargo`"),
            format!("include {root}"),
            ["https://static.", "crates.io/crates"].concat(),
        ] {
            assert!(forbidden.in_line(&line).is_some(), "{line}");
        }
        for line in [
            format!("let path = \"$TREE{root}\"; tree{root}; {root}fs; /usr{root}"),
            "registry+https://github.com/rust-lang/crates.io-index".to_owned(),
            "/home/someone/mana-model".to_owned(),
        ] {
            assert_eq!(forbidden.in_line(&line), None, "{line}");
        }
    }

    #[test]
    fn a_short_root_is_not_searched_for() {
        assert_eq!(Forbidden::here("/src").in_line("see /src/lib.rs"), None);
    }
}
