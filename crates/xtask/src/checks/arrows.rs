//! Who may use whom: the table of ARCHITECTURE.md.

use super::verdict;
use crate::workspace::{Kind, Package, Workspace};

/// Each room, and the rooms it may use.
const ARROWS: &[(&str, &[&str])] = &[
    ("dma-memory", &[]),
    ("uverbs-abi", &[]),
    ("gdma", &[]),
    ("pmd-api", &["dma-memory"]),
    ("mana-verbs", &["uverbs-abi", "dma-memory"]),
    (
        "mana-pmd",
        &["pmd-api", "gdma", "mana-verbs", "uverbs-abi", "dma-memory"],
    ),
    (
        "mana-floor",
        &["gdma", "mana-verbs", "uverbs-abi", "dma-memory"],
    ),
    ("mana-model", &["gdma", "uverbs-abi"]),
    ("mana-model-preload", &["mana-model", "uverbs-abi"]),
    ("mana-model-pci", &["mana-model", "gdma"]),
    (
        "conformance",
        &[
            "pmd-api",
            "gdma",
            "mana-pmd",
            "dma-memory",
            "uverbs-abi",
            "mana-verbs",
            "mana-model",
            "mana-model-pci",
        ],
    ),
    (
        "mana",
        &[
            "pmd-api",
            "gdma",
            "mana-pmd",
            "dma-memory",
            "uverbs-abi",
            "mana-verbs",
            "mana-model",
            "mana-model-pci",
            "mana-floor",
            "conformance",
        ],
    ),
    ("xtask", &[]),
];

/// What examples and tests may use besides.
const DEVELOPMENT: &[(&str, &str)] = &[
    ("pmd-api", "mana-model"),
    ("mana-pmd", "mana-model"),
    // Itself with a feature, so that its examples have it.
    ("mana-pmd", "mana-pmd"),
];

/// The crates an embedder links, and all they may use of other houses.
const DRIVER: &[&str] = &[
    "dma-memory",
    "uverbs-abi",
    "gdma",
    "pmd-api",
    "mana-verbs",
    "mana-pmd",
];
const DRIVER_USES: &[&str] = &[
    "libc",
    "zerocopy",
    "bitfield-struct",
    "bitflags",
    "thiserror",
    "tracing",
    "crossbeam-utils",
];
/// What a feature that is off by default may add.
const OPTIONAL: &[(&str, &str)] = &[("mana-pmd", "smoltcp"), ("mana-pmd", "tokio")];
/// Compiled only for model checking.
const LOOM_PLATFORM: &str = "cfg(mana_loom)";

/// Every arrow between members is in the table, the driver crates keep to their list, and the
/// driver's sources never name the model.
pub fn check(workspace: &Workspace) -> Result<(), String> {
    let mut faults: Vec<String> = workspace
        .members()
        .flat_map(|package| faults_of(workspace, package))
        .collect();
    if let Some(driver) = workspace.member("mana-pmd") {
        faults.extend(names_the_model(driver)?);
    }
    verdict(faults)
}

fn faults_of(workspace: &Workspace, package: &Package) -> Vec<String> {
    let name = package.name.as_str();
    let Some((_, allowed)) = ARROWS.iter().find(|(room, _)| *room == name) else {
        return vec![format!(
            "{name} is not in the table of arrows: add it to ARROWS in {} and to ARCHITECTURE.md",
            file!()
        )];
    };
    let mut faults = Vec::new();
    for dependency in &package.dependencies {
        let other = dependency.name.as_str();
        let development = dependency.kind == Kind::Development;
        let listed = DRIVER_USES.contains(&other)
            || dependency.optional && OPTIONAL.contains(&(name, other));
        if workspace.member(other).is_some() {
            let excepted = development && DEVELOPMENT.contains(&(name, other));
            if !allowed.contains(&other) && !excepted {
                faults.push(format!(
                    "{name} must not use {other} ({:?})",
                    dependency.kind
                ));
            }
        } else if DRIVER.contains(&name)
            && !development
            && !listed
            && dependency.platform.as_deref() != Some(LOOM_PLATFORM)
        {
            faults.push(format!(
                "{name} must not use {other}: driver crates use only {}",
                DRIVER_USES.join(", ")
            ));
        }
    }
    faults
}

/// The model reaches the driver as a `System`; outside comments and tests its name is a mistake.
fn names_the_model(driver: &Package) -> Result<Vec<String>, String> {
    let mut faults = Vec::new();
    for (path, text) in driver.sources()? {
        for line in lines_naming_the_model(&text) {
            faults.push(format!(
                "{} {}:{line} names mana_model",
                driver.name,
                path.display()
            ));
        }
    }
    Ok(faults)
}

fn lines_naming_the_model(text: &str) -> impl Iterator<Item = usize> {
    text.lines()
        .enumerate()
        .take_while(|(_, line)| line.trim() != "#[cfg(test)]")
        .filter(|(_, line)| line.contains("mana_model") && !line.trim_start().starts_with("//"))
        .map(|(index, _)| index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::fake::{member, third_party, workspace};

    fn faults(packages: Vec<Package>) -> Vec<String> {
        let workspace = workspace(packages);
        workspace
            .members()
            .flat_map(|package| faults_of(&workspace, package))
            .collect()
    }

    #[test]
    fn an_arrow_of_the_table_passes_and_its_reverse_fails() {
        let good = vec![
            member("pmd-api", &["dma-memory"]),
            member("dma-memory", &[]),
        ];
        assert_eq!(faults(good), [""; 0]);
        let bad = vec![member("pmd-api", &[]), member("dma-memory", &["pmd-api"])];
        assert_eq!(faults(bad), ["dma-memory must not use pmd-api (Normal)"]);
    }

    #[test]
    fn only_tests_of_the_driver_may_use_the_model() {
        let model = || member("mana-model", &[]);
        assert_eq!(
            faults(vec![member("mana-pmd", &["mana-model"]), model()]).len(),
            1
        );
        let mut driver = member("mana-pmd", &["mana-model"]);
        driver.dependencies[0].kind = Kind::Development;
        assert_eq!(faults(vec![driver, model()]), [""; 0]);
        let mut gdma = member("gdma", &["mana-model"]);
        gdma.dependencies[0].kind = Kind::Development;
        assert_eq!(faults(vec![gdma, model()]).len(), 1);
    }

    #[test]
    fn driver_crates_keep_to_their_list_and_tools_need_not() {
        let rand = || third_party("rand", "MIT");
        assert_eq!(faults(vec![member("gdma", &["zerocopy"]), rand()]), [""; 0]);
        assert_eq!(faults(vec![member("mana", &["rand"]), rand()]), [""; 0]);
        let found = faults(vec![member("gdma", &["rand"]), rand()]);
        assert!(found[0].starts_with("gdma must not use rand"), "{found:?}");
        let smoltcp = |optional| {
            let mut driver = member("mana-pmd", &["smoltcp"]);
            driver.dependencies[0].optional = optional;
            faults_of(&workspace(Vec::new()), &driver)
        };
        assert_eq!((smoltcp(false).len(), smoltcp(true).len()), (1, 0));
        let mut checked = member("gdma", &["loom"]);
        checked.dependencies[0].platform = Some(LOOM_PLATFORM.to_owned());
        assert_eq!(faults(vec![checked]), [""; 0]);
    }

    #[test]
    fn a_room_without_a_row_is_a_fault() {
        assert!(faults(vec![member("cellar", &[])])[0].contains("cellar is not in the table"));
    }

    #[test]
    fn the_model_may_be_named_in_comments_and_tests_only() {
        let text =
            "//! use mana_model::Model;\nuse mana_model::Model;\n#[cfg(test)]\nuse mana_model";
        assert_eq!(lines_naming_the_model(text).collect::<Vec<_>>(), [2]);
    }
}
