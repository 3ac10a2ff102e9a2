//! The tiers, in the order in which they are run.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Instant;

use crate::report::{Report, Tally};
use crate::runner::{self, How, TestProgram};
use crate::workspace::Workspace;
use crate::{checks, conformance, debian, ethdev, instructions, kernel, package, process, program};

/// Packages whose tests need the device model and the program: the tiers `model`, `host`, `stack` and
/// `kernel`.
const MODEL: &[&str] = &["mana-pmd", "mana", "conformance"];
/// How the names of the test programs of the tier `host` begin.
const HOST: &str = "host_";
/// How the names of the test programs of the tier `stack` begin.
const STACK: &str = "stack_";
/// The library that the tier `stack` puts in front of Debian's programs.
const PRELOAD: &str = "mana-model-preload";
/// Packages with tests to be run under loom as well.
const LOOM: &[&str] = &["gdma", "mana-pmd", "pmd-api"];

/// A group of tests with one purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// Format, clippy, docs, licences and bans, arrows, unsafe code, forbidden text, aarch64.
    Check,
    /// Each crate's own tests, doc tests, loom.
    Unit,
    /// The driver, the program and the suites on the device model.
    Model,
    /// The host kernel's own traffic through the program: needs root.
    Host,
    /// Debian's DPDK and rdma-core, unmodified, on the device model.
    Stack,
    /// Debian's kernels and their own drivers in guests, with the device model as their hardware.
    Kernel,
    /// Instructions a packet, counted by callgrind, and none more than each kind of burst may take.
    Instructions,
    /// The Debian package of the tool, in roots of Debian 12 and 13.
    Package,
}

impl Tier {
    /// Every tier.
    pub const ALL: [Tier; 8] = [
        Tier::Check,
        Tier::Unit,
        Tier::Model,
        Tier::Host,
        Tier::Stack,
        Tier::Kernel,
        Tier::Instructions,
        Tier::Package,
    ];

    fn name(self) -> &'static str {
        match self {
            Tier::Check => "check",
            Tier::Unit => "unit",
            Tier::Model => "model",
            Tier::Host => "host",
            Tier::Stack => "stack",
            Tier::Kernel => "kernel",
            Tier::Instructions => "instructions",
            Tier::Package => "package",
        }
    }

    /// The tier of that name.
    pub fn from_name(name: &str) -> Result<Tier, String> {
        Tier::ALL
            .into_iter()
            .find(|tier| tier.name() == name)
            .ok_or_else(|| {
                format!(
                    "unknown tier `{name}`; there are {}",
                    Tier::ALL.map(Tier::name).join(", ")
                )
            })
    }
}

/// Runs the tiers and prints the report. True when nothing failed.
pub fn run(workspace: &Workspace, tiers: &[Tier]) -> bool {
    let mut report = Report::default();
    let mut built = Built::default();
    for &tier in tiers {
        let start = Instant::now();
        let mut tally = Tally::new(tier.name());
        match tier {
            Tier::Check => checks::run(workspace, &mut tally),
            Tier::Unit => unit(workspace, &mut built, &mut tally),
            Tier::Model => model(workspace, &mut built, &mut tally),
            Tier::Host => host(workspace, &mut built, &mut tally),
            Tier::Stack => stack(workspace, &mut built, &mut tally),
            Tier::Kernel => {
                let programs = built.programs(workspace, &mut tally).to_vec();
                if let Some((_, mana)) = mana(&mut tally) {
                    kernel::run(workspace, &programs, &mana, false, &mut tally);
                }
            }
            Tier::Instructions => instructions::run(workspace, &mut tally),
            Tier::Package => package::tier(workspace, &mut tally),
        }
        tally.seconds = start.elapsed().as_secs();
        report.tiers.push(tally);
    }
    println!("\n{report}");
    report.good()
}

/// The test programs of the whole house, built once for the tiers that share them.
#[derive(Default)]
struct Built(Option<Vec<TestProgram>>);

impl Built {
    fn programs(&mut self, workspace: &Workspace, tally: &mut Tally) -> &[TestProgram] {
        self.0.get_or_insert_with(|| {
            println!("== build: the tests");
            let (programs, built) =
                runner::build(workspace, process::cargo().args(["test", "--workspace"]));
            if let Err(reason) = built {
                tally.fail("build of the tests", reason);
            }
            programs
        })
    }
}

fn unit(workspace: &Workspace, built: &mut Built, tally: &mut Tally) {
    let programs = built.programs(workspace, tally);
    let how = How {
        environment: headers(workspace).into_iter().collect(),
        ..How::default()
    };
    for program in programs
        .iter()
        .filter(|program| !MODEL.contains(&program.package.as_str()))
    {
        program.run(workspace, &how, tally);
    }
    runner::doc_tests(workspace, tally);
    loom(workspace, tally);
}

/// The variable with the folders of the headers of two releases of rdma-core, for the test that
/// holds our structures against them. Unset where they can't be fetched: the test says so itself.
fn headers(workspace: &Workspace) -> Option<(&'static str, OsString)> {
    let folders = [&debian::RDMA_CORE_44, &debian::DPDK].map(|group| {
        let tree = group.fetch(workspace);
        tree.inspect_err(|reason| println!("{reason}"))
            .map(|tree| tree.join("usr/include"))
    });
    let folders: Vec<PathBuf> = folders.into_iter().flatten().collect();
    let joined = std::env::join_paths(&folders).ok()?;
    (folders.len() == 2).then_some(("MANA_RDMA_HEADERS", joined))
}

/// The tests with `loom` in their name, in crates compiled for it. They have a target directory of
/// their own, because the cfg would make cargo build everything anew at every change of tier.
fn loom(workspace: &Workspace, tally: &mut Tally) {
    println!("== build: the tests under loom");
    let flags = std::env::var("RUSTFLAGS").unwrap_or_default();
    let mut cargo = process::cargo();
    cargo
        .args(["test", "--release", "--lib", "--target-dir"])
        .arg(workspace.target.join("loom"));
    cargo.env("RUSTFLAGS", format!("{flags} --cfg mana_loom"));
    // Searching the interleavings takes longer than the tests take to build; linking need not.
    cargo
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "false");
    for package in LOOM {
        cargo.args(["--package", package]);
    }
    let (programs, built) = runner::build(workspace, &mut cargo);
    if let Err(reason) = built {
        tally.fail("build of the tests under loom", reason);
    }
    let how = How {
        filter: "loom",
        ..How::default()
    };
    for program in programs {
        if program.run(workspace, &how, tally) == 0 {
            tally.fail(
                format!("{} under loom", program.package),
                "no test with `loom` in its name",
            );
        }
    }
}

fn model(workspace: &Workspace, built: &mut Built, tally: &mut Tally) {
    let programs = built.programs(workspace, tally);
    let how = How {
        environment: mana(tally).into_iter().collect(),
        ..How::default()
    };
    for program in programs
        .iter()
        .filter(|program| MODEL.contains(&program.package.as_str()))
        .filter(|program| !program.target.starts_with(HOST))
        .filter(|program| !program.target.starts_with(STACK))
        .filter(|program| !kernel::is_its(&program.target))
    {
        program.run(workspace, &how, tally);
    }
}

fn host(workspace: &Workspace, built: &mut Built, tally: &mut Tally) {
    let programs = built.programs(workspace, tally);
    let mut environment: Vec<(&str, OsString)> = mana(tally).into_iter().collect();
    match debian::HOST.fetch(workspace) {
        Ok(tree) => environment.push(("MANA_HOST_TOOLS", tree.into())),
        Err(reason) => environment.push(("MANA_HOST_SKIP", reason.into())),
    }
    println!("== build: the driver's examples");
    match program::examples("mana-pmd") {
        Ok(folder) => environment.push(("MANA_EXAMPLES", folder.into())),
        Err(reason) => tally.fail("build of the driver's examples", reason),
    }
    let how = How {
        serial: true,
        environment,
        ..How::default()
    };
    for program in programs
        .iter()
        .filter(|program| program.target.starts_with(HOST))
    {
        program.run(workspace, &how, tally);
    }
}

fn stack(workspace: &Workspace, built: &mut Built, tally: &mut Tally) {
    let programs: Vec<&TestProgram> = built
        .programs(workspace, tally)
        .iter()
        .filter(|program| program.target.starts_with(STACK))
        .collect();
    if programs.is_empty() {
        tally.skip("stack", "no test program is named stack_*");
        return;
    }
    let mut environment: Vec<(&str, OsString)> = mana(tally).into_iter().collect();
    for (variable, group) in [
        ("MANA_DPDK_TREE", &debian::DPDK),
        ("MANA_RDMA_CORE_44_TREE", &debian::RDMA_CORE_44),
        ("MANA_HOST_TOOLS", &debian::HOST),
    ] {
        match group.fetch(workspace) {
            Ok(tree) => environment.push((variable, tree.into())),
            Err(reason) => environment.push(("MANA_STACK_SKIP", reason.into())),
        }
    }
    environment.extend(ethdev::variable(workspace, tally));
    println!("== build: {PRELOAD}");
    match program::library(PRELOAD) {
        Ok(library) => environment.push(("MANA_PRELOAD", library.into())),
        Err(reason) => tally.fail(format!("build of {PRELOAD}"), reason),
    }
    println!("== build: mana, linked statically");
    match program::linked_statically(workspace) {
        Ok(program) => environment.push(("MANA_STATIC_BIN", program.into())),
        Err(reason) => tally.fail("build of mana, linked statically", reason),
    }
    let how = How {
        serial: true,
        environment,
        ..How::default()
    };
    for program in programs {
        program.run(workspace, &how, tally);
    }
    conformance::run(&how.environment, tally);
}

/// The variable with the path of the program, built now.
fn mana(tally: &mut Tally) -> Option<(&'static str, OsString)> {
    println!("== build: mana");
    let mana = program::build("mana", "mana", false);
    mana.map_err(|reason| tally.fail("build of mana", reason))
        .ok()
        .map(|path: PathBuf| ("MANA_BIN", path.into()))
}
