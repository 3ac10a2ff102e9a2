//! Which crates may use unsafe code, stated by themselves: the attributes are there, and the house's
//! lints are on.

use std::fs;
use std::path::Path;

use super::verdict;
use crate::workspace::{Package, Workspace};

const FORBID: &str = "#![forbid(unsafe_code)]";
const DENY: &str = "#![deny(unsafe_code)]";

/// Packages without any unsafe code, in no target.
const FORBIDDING: &[&str] = &["mana", "conformance", "xtask"];
/// Packages that deny it, and the files excepted from that.
const DENYING: &[(&str, &[&str])] = &[
    ("mana-pmd", &["src/queue/gate.rs", "src/queue/rings.rs"]),
    ("mana-model-pci", &["src/memory.rs"]),
];

/// Every attribute is where it was decided, and exceptions are nowhere else.
pub fn check(workspace: &Workspace) -> Result<(), String> {
    let mut faults = Vec::new();
    for package in workspace.members() {
        if !inherits_lints(&read(&package.folder.join("Cargo.toml"))?) {
            faults.push(format!(
                "{}: Cargo.toml lacks [lints] workspace = true",
                package.name
            ));
        }
        if FORBIDDING.contains(&package.name.as_str()) {
            for target in &package.targets {
                faults.extend(lacks(&target.source, FORBID)?);
            }
        }
        let denying = DENYING.iter().find(|(name, _)| *name == package.name);
        if let Some((_, excepted)) = denying {
            for target in package.targets.iter().filter(|target| target.kind == "lib") {
                faults.extend(lacks(&target.source, DENY)?);
            }
            faults.extend(exceptions(package, excepted)?);
        }
    }
    verdict(faults)
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn lacks(source: &Path, attribute: &str) -> Result<Option<String>, String> {
    let stated = read(source)?.lines().any(|line| line.trim() == attribute);
    Ok((!stated).then(|| format!("{} lacks {attribute}", source.display())))
}

fn inherits_lints(manifest: &str) -> bool {
    let section = manifest
        .lines()
        .skip_while(|line| line.trim() != "[lints]")
        .skip(1);
    section
        .take_while(|line| !line.starts_with('['))
        .any(|line| line.split('=').map(str::trim).eq(["workspace", "true"]))
}

/// Files of the package that lift its `deny` without being excepted.
fn exceptions(package: &Package, excepted: &[&str]) -> Result<Vec<String>, String> {
    let mut faults = Vec::new();
    for (path, text) in package.sources()? {
        if lifts_deny(&text) && !excepted.iter().any(|excepted| path == Path::new(excepted)) {
            faults.push(format!(
                "{} {}: only {} may allow unsafe code",
                package.name,
                path.display(),
                excepted.join(", ")
            ));
        }
    }
    Ok(faults)
}

fn lifts_deny(source: &str) -> bool {
    source.lines().any(|line| {
        let line = line.trim();
        line.starts_with('#') && line.contains("unsafe_code") && line != FORBID && line != DENY
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lints_are_inherited_by_their_own_section_only() {
        assert!(inherits_lints(
            "[package]\nname = \"x\"\n\n[lints]\nworkspace = true\n"
        ));
        assert!(!inherits_lints(
            "[package]\n[lints]\n[features]\nworkspace = true\n"
        ));
        assert!(!inherits_lints("[package]\nworkspace = true\n"));
    }

    #[test]
    fn an_exception_is_told_from_the_rule() {
        assert!(lifts_deny(
            "#![deny(unsafe_code)]\n#[allow(unsafe_code)]\nmod rings;"
        ));
        assert!(lifts_deny("#![expect(unsafe_code, reason = \"x\")]"));
        assert!(!lifts_deny(
            "#![deny(unsafe_code)]\n// unsafe_code is denied"
        ));
    }
}
