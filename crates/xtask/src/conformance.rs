//! `mana conformance` over Debian's libraries, each suite counted by its name.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::report::Tally;
use crate::workspace::Workspace;
use crate::{debian, process, program, runner};

/// Releases of rdma-core: the variable with the tree, and how the version of the real libibverbs in
/// it begins.
const RELEASES: [(&str, &str, &str); 2] = [
    ("rdma-core 56", "MANA_DPDK_TREE", "libibverbs.so.1.14.56."),
    (
        "rdma-core 44",
        "MANA_RDMA_CORE_44_TREE",
        "libibverbs.so.1.14.44.",
    ),
];
const KERNELS: [&str; 2] = ["6.12", "7.3"];
/// Of each run, for the suite `soak`: together with those of `tests/tests/soak.rs` about a minute.
const SOAK_SECONDS: &str = "5";
const LOADER: &str = "ld-linux-x86-64.so.2";
/// Where a tree has its libraries.
const FOLDERS: [&str; 2] = ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"];

/// What the tool writes of a run.
#[derive(Debug, Deserialize)]
struct Whole {
    provider: Option<String>,
    libraries: Vec<PathBuf>,
    suites: Vec<Suite>,
}

#[derive(Debug, Deserialize)]
struct Suite {
    name: String,
    result: String,
    reason: Option<String>,
}

/// Runs every suite over the provider through each release's libraries, and over the kernel's own
/// interface, on each kernel of the preloaded model. `environment` has the paths.
pub fn run(environment: &[(&'static str, OsString)], tally: &mut Tally) {
    let value = |name: &str| {
        let found = environment.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| value.as_os_str())
    };
    let Some(mana) = value("MANA_BIN") else {
        // That it could not be built is a failure already.
        return;
    };
    for kernel in KERNELS {
        let name = format!("conformance uverbs preloaded {kernel}: ");
        let mut command = Command::new(mana);
        arguments(&mut command, "uverbs", kernel, environment);
        count(&mut command, &name, |_| Ok(()), tally);
        for (release, variable, version) in RELEASES {
            let name = format!("conformance {release} {kernel}: ");
            let Some(tree) = value(variable) else {
                let reason = value("MANA_STACK_SKIP").unwrap_or(OsStr::new("it was not fetched"));
                tally.skip(format!("{name}every suite"), reason.to_string_lossy());
                continue;
            };
            let tree = Path::new(tree);
            match under_loader(tree, mana) {
                Ok(mut command) => {
                    arguments(&mut command, "rdma-core", kernel, environment);
                    let check = |whole: &Whole| libraries(whole, tree, version);
                    count(&mut command, &name, check, tally);
                }
                Err(reason) => tally.fail(format!("{name}every suite"), reason),
            }
        }
    }
}

fn arguments(
    command: &mut Command,
    provider: &str,
    kernel: &str,
    environment: &[(&'static str, OsString)],
) {
    command
        .args(["conformance", "--json", "--preload"])
        .arg(format!("--provider={provider}"))
        .arg(format!("--vdev=model0,kernel={kernel}"))
        .env("MANA_SOAK_SECONDS", SOAK_SECONDS)
        .envs(runner::seeds())
        .envs(environment.iter().cloned());
}

/// The suite `soak` for long, through `provider` (`uverbs`, or `rdma-core` of both releases, which
/// share the time).
pub fn soak(
    workspace: &Workspace,
    provider: &str,
    seconds: u64,
    seed: Option<u64>,
) -> Result<(), String> {
    let mana = program::build("mana", "mana", false)?;
    let preload = program::library("mana-model-preload")?;
    let commands = match provider {
        "rdma-core" => [&debian::DPDK, &debian::RDMA_CORE_44]
            .iter()
            .map(|group| under_loader(&group.fetch(workspace)?, mana.as_os_str()))
            .collect::<Result<Vec<_>, _>>()?,
        _ => vec![Command::new(&mana)],
    };
    let seconds = seconds / commands.len() as u64;
    for mut command in commands {
        command
            .args(["conformance", "--preload", "--suite=soak"])
            .arg(format!("--provider={provider}"))
            .arg("--vdev=model0,kernel=7.3")
            .arg(format!("--timeout={}", seconds.saturating_add(600)))
            .env("MANA_SOAK_SECONDS", seconds.to_string())
            .env("MANA_PRELOAD", &preload)
            .envs(seed.map(|seed| ("MANA_SOAK_SEED", seed.to_string())));
        process::run(&mut command)?;
    }
    Ok(())
}

/// The program over the libraries of a tree, started by the tree's own loader.
fn under_loader(tree: &Path, program: &OsStr) -> Result<Command, String> {
    let folders: Vec<PathBuf> = FOLDERS
        .iter()
        .map(|folder| tree.join(folder))
        .filter(|folder| folder.is_dir())
        .collect();
    let loader = folders.iter().map(|folder| folder.join(LOADER));
    let loader = loader.into_iter().find(|loader| loader.is_file());
    let loader = loader.ok_or_else(|| format!("no {LOADER} under {}", tree.display()))?;
    let path = std::env::join_paths(&folders).map_err(|error| error.to_string())?;
    let mut command = Command::new(loader);
    command.arg("--library-path").arg(path).arg(program);
    Ok(command)
}

/// Whether the libraries that were mapped are the tree's, of that version, and none else.
fn libraries(whole: &Whole, tree: &Path, version: &str) -> Result<(), String> {
    let tree = tree.canonicalize().unwrap_or_else(|_| tree.to_owned());
    let told = format!("provider {:?} over {:?}", whole.provider, whole.libraries);
    let name = |path: &PathBuf| {
        path.file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    };
    let right = whole
        .libraries
        .iter()
        .any(|path| name(path).starts_with(version))
        && whole.libraries.iter().all(|path| path.starts_with(&tree))
        && whole.provider.as_deref() == Some("rdma-core");
    match right {
        true => Ok(()),
        false => Err(format!("expected {version} of {}: {told}", tree.display())),
    }
}

/// Runs the tool and counts its suites, each behind `prefix`; `check` looks at what they ran over.
fn count(
    command: &mut Command,
    prefix: &str,
    check: impl Fn(&Whole) -> Result<(), String>,
    tally: &mut Tally,
) {
    println!("== {}: {}", tally.tier, prefix.trim_end_matches([':', ' ']));
    let mut whole = None;
    command.stdout(Stdio::piped());
    let ended = runner::follow(command, |line| {
        whole = serde_json::from_str::<Whole>(line).ok().or(whole.take());
    });
    let failures = tally.failed.len();
    if let Some(whole) = &whole {
        counted(whole, prefix, tally);
        if let Err(reason) = check(whole) {
            tally.fail(format!("{prefix}libraries"), reason);
        }
    }
    match ended {
        Ok(()) if whole.is_some() => {}
        // Suites that failed have their names.
        Err(_) if tally.failed.len() > failures => {}
        Ok(()) => tally.fail(format!("{prefix}every suite"), "it told no result"),
        Err(reason) => tally.fail(format!("{prefix}every suite"), reason),
    }
}

fn counted(whole: &Whole, prefix: &str, tally: &mut Tally) {
    for suite in &whole.suites {
        let name = format!("{prefix}{}", suite.name);
        let reason = suite.reason.as_deref().unwrap_or("no reason given");
        println!("{name} ... {}", suite.result);
        match suite.result.as_str() {
            "passed" => tally.passed += 1,
            "skipped" => tally.skip(name, reason),
            _ => tally.fail(name, reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLD: &str = r#"{"device":"model0","provider":"rdma-core","libraries":["/t/libibverbs.so.1.14.56.1"],
        "passed":1,"suites":[{"name":"smoke","result":"passed","seconds":0.1,"reason":null},
        {"name":"rss","result":"failed","reason":"not equal"},
        {"name":"vlan","result":"skipped","reason":"needs more"},
        {"name":"odd","result":"unheard of","reason":null}]}"#;

    #[test]
    fn suites_are_counted_by_their_names() {
        let whole: Whole = serde_json::from_str(TOLD).unwrap();
        let mut tally = Tally::new("stack");
        counted(&whole, "44: ", &mut tally);
        let names = |list: &[crate::report::Named]| -> Vec<String> {
            list.iter()
                .map(|named| format!("{} {}", named.name, named.reason))
                .collect()
        };
        assert_eq!(tally.passed, 1);
        assert_eq!(
            names(&tally.failed),
            ["44: rss not equal", "44: odd no reason given"]
        );
        assert_eq!(names(&tally.skipped), ["44: vlan needs more"]);
    }

    #[test]
    fn libraries_of_another_version_or_place_are_not_those_asked_for() {
        let whole: Whole = serde_json::from_str(TOLD).unwrap();
        let check = |tree, version| libraries(&whole, Path::new(tree), version);
        assert_eq!(check("/t", "libibverbs.so.1.14.56."), Ok(()));
        assert!(check("/t", "libibverbs.so.1.14.44.").is_err());
        assert!(check("/other", "libibverbs.so.1.14.56.").is_err());
    }

    #[test]
    fn a_tool_that_tells_nothing_or_fails_is_a_failure() {
        for script in ["true", "exit 1", "echo '{\"suites\":'"] {
            let mut tally = Tally::new("stack");
            count(
                Command::new("sh").args(["-c", script]),
                "x: ",
                |_| Ok(()),
                &mut tally,
            );
            assert_eq!((tally.passed, tally.failed.len()), (0, 1), "{script}");
        }
    }
}
