//! Licences and bans: every package of the lock file is in `crates/xtask/dependencies.txt`, under
//! the licence it states.

use std::collections::BTreeMap;

use super::verdict;
use crate::workspace::{Package, Workspace};

/// The committed list: a licence in brackets, below it the packages allowed under it.
const LIST: &str = include_str!("../../dependencies.txt");
const FILE: &str = "crates/xtask/dependencies.txt";

/// Where packages may come from. Git repositories and other registries may not.
const SOURCE: &str = "registry+";

/// No package outside the list, none under another licence, none in the list without a use.
pub fn check(workspace: &Workspace) -> Result<(), String> {
    verdict(faults(&parse(LIST)?, workspace))
}

/// Package → licence.
type Allowed<'a> = BTreeMap<&'a str, &'a str>;

fn parse(list: &str) -> Result<Allowed<'_>, String> {
    let mut allowed = Allowed::new();
    let mut licence = None;
    for (index, line) in list.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
        } else if let Some(name) = line
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            licence = Some(name);
        } else {
            let place = format!("{FILE}:{}", index + 1);
            let licence = licence.ok_or_else(|| format!("{place}: no licence above `{line}`"))?;
            if allowed.insert(line, licence).is_some() {
                return Err(format!("{place}: `{line}` is listed twice"));
            }
        }
    }
    Ok(allowed)
}

fn faults(allowed: &Allowed, workspace: &Workspace) -> Vec<String> {
    let mut faults = Vec::new();
    let mut used: Vec<&str> = Vec::new();
    for package in workspace.packages.iter().filter(|package| !package.member) {
        used.push(&package.name);
        faults.extend(fault(allowed, package));
    }
    for name in allowed.keys().filter(|name| !used.contains(name)) {
        faults.push(format!(
            "{name} is listed and no longer used: remove its line from {FILE}"
        ));
    }
    faults
}

fn fault(allowed: &Allowed, package: &Package) -> Option<String> {
    let Package {
        name,
        version,
        licence,
        source,
        ..
    } = package;
    if !source
        .as_deref()
        .is_some_and(|source| source.starts_with(SOURCE))
    {
        return Some(format!("{name} {version} does not come from the registry"));
    }
    match allowed.get(name.as_str()) {
        // Old manifests write a slash for OR.
        Some(known) if known == licence || *known == licence.replace('/', " OR ") => None,
        Some(known) => Some(format!(
            "{name} {version} is under `{licence}`, the list says `{known}`: if that can be \
             accepted, move it under [{licence}] in {FILE}"
        )),
        None if allowed.values().any(|known| known == licence) => Some(format!(
            "{name} {version} is not in the list: if it is needed, add the line `{name}` under \
             [{licence}] in {FILE}"
        )),
        None => Some(format!(
            "{name} {version} is not in the list, nor is its licence `{licence}`: if it can be \
             linked into MIT OR Apache-2.0 programs, add [{licence}] with the line `{name}` to \
             {FILE}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::fake::{member, third_party, workspace};

    const SMALL: &str = "# why\n[MIT OR Apache-2.0]\nlibc # calls\n\n[MIT]\nloom\n";

    fn faults_with(extra: Option<Package>) -> Vec<String> {
        let mut packages = vec![
            member("gdma", &[]),
            third_party("libc", "MIT OR Apache-2.0"),
            third_party("loom", "MIT"),
        ];
        packages.extend(extra);
        faults(&parse(SMALL).unwrap(), &workspace(packages))
    }

    #[test]
    fn listed_packages_under_the_listed_licence_pass() {
        assert_eq!(faults_with(None), [""; 0]);
    }

    #[test]
    fn an_unknown_package_fails_and_the_line_to_add_is_named() {
        let found = faults_with(Some(third_party("rand", "MIT")));
        assert_eq!(found.len(), 1);
        assert!(
            found[0].contains("add the line `rand` under [MIT] in crates/xtask"),
            "{found:?}"
        );
    }

    #[test]
    fn an_unknown_licence_fails() {
        let found = faults_with(Some(third_party("readline", "GPL-3.0")));
        assert!(
            found[0].contains("nor is its licence `GPL-3.0`"),
            "{found:?}"
        );
    }

    #[test]
    fn a_changed_licence_fails() {
        let found = faults_with(Some(third_party("libc", "BUSL-1.1")));
        assert!(found[0].contains("is under `BUSL-1.1`"), "{found:?}");
    }

    #[test]
    fn a_slash_is_an_or() {
        let old = third_party("libc", "MIT/Apache-2.0");
        assert_eq!(faults_with(Some(old)), [""; 0]);
        assert_eq!(
            faults_with(Some(third_party("loom", "MIT/Apache-2.0"))).len(),
            1
        );
    }

    #[test]
    fn a_git_dependency_fails() {
        let mut package = third_party("libc", "MIT OR Apache-2.0");
        package.source = Some("git+https://example.org/libc".to_owned());
        assert!(faults_with(Some(package))[0].contains("not come from the registry"));
    }

    #[test]
    fn a_listed_package_that_nobody_uses_fails() {
        let found = faults(&parse(SMALL).unwrap(), &workspace(vec![]));
        assert_eq!(found.len(), 2, "{found:?}");
    }

    #[test]
    fn a_malformed_list_is_refused() {
        assert!(parse("libc").is_err());
        assert!(parse("[MIT]\nlibc\nlibc").is_err());
    }
}
