//! Who is measured, and how each is started.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Serialize;

use super::compile;
use super::error::Error;
use super::plan::{Offload, Plan, Ready};
use super::tree::Dpdk;
use crate::{model, program};

/// The address that the model gives its first device.
const ADDRESS: &str = "7870:00:00.0";
/// Memory of DPDK in MiB, for the most buffers that a plan needs.
const MEMORY: &str = "512";

/// A driver and what it stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Stack {
    /// DPDK's driver in C on rdma-core
    C,
    /// This driver over libibverbs and libmana
    RdmaCore,
    /// This driver over the kernel's own interface
    Uverbs,
    /// The least that is possible
    Floor,
}

impl Stack {
    /// In the order of the tables.
    pub const ALL: [Self; 4] = [Self::C, Self::RdmaCore, Self::Uverbs, Self::Floor];

    /// Its name on the command line and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::C => "c",
            Self::RdmaCore => "rdma-core",
            Self::Uverbs => "uverbs",
            Self::Floor => "floor",
        }
    }

    /// Its name to people.
    pub fn title(self) -> &'static str {
        match self {
            Self::C => "C PMD",
            Self::RdmaCore => "ours, rdma-core",
            Self::Uverbs => "ours, uverbs",
            Self::Floor => "floor",
        }
    }

    /// Why it can't be measured under these conditions.
    pub fn cannot(self, plan: &Plan) -> Option<&'static str> {
        let simple = plan.segments == 1
            && plan.queues == 1
            && plan.coalescing == 1
            && plan.offload == Offload::Off
            && plan.traffic
            && plan.burst <= plan.ring / 2;
        (self == Self::Floor && !simple).then_some("the floor is of one simple case")
    }

    /// Whether a model may have found this without that packets are lost or wrong: the driver in C
    /// rings no completion queue's doorbell and leaves in a UDP checksum's request what its stack held
    /// (docs/c-pmd-defects.md), and the floor rings nothing that is not needed for packets to move.
    pub fn may_have(self, findings: &[String]) -> bool {
        const NO_DOORBELL: &str = "no CQ doorbell for 8 laps";
        let harmless: &[&str] = match self {
            Self::C => &[NO_DOORBELL, "offload request does not fit the packet"],
            Self::Floor => &[NO_DOORBELL],
            Self::RdmaCore | Self::Uverbs => &[],
        };
        let known = |finding: &String| harmless.iter().any(|text| finding.contains(text));
        findings.iter().all(known)
    }

    /// Whether the libraries that it has mapped are those it shall be measured on.
    fn check_mapped(self, ready: &Ready, root: Option<&Path>) -> Result<(), String> {
        let mapped = &ready.libraries;
        let wanted: &[&str] = match self {
            Self::C => &["librte_net_mana.so", "libmana.so", "libibverbs.so"],
            Self::RdmaCore => &["libmana.so", "libibverbs.so"],
            Self::Uverbs | Self::Floor => &[],
        };
        let is = |path: &PathBuf, name: &str| {
            let file = path.file_name().unwrap_or_default();
            file.to_string_lossy().starts_with(name)
        };
        for name in wanted {
            let found: Vec<&PathBuf> = mapped.iter().filter(|path| is(path, name)).collect();
            match (found.as_slice(), root) {
                ([one], Some(root)) if one.starts_with(root) => {}
                ([_], None) => {}
                (found, _) => {
                    return Err(format!("{name} is mapped as {found:?}, not from {root:?}"));
                }
            }
        }
        let strange = mapped
            .iter()
            .find(|path| !wanted.iter().any(|name| is(path, name)));
        match strange {
            Some(path) => Err(format!("{} is mapped", path.display())),
            None => Ok(()),
        }
    }
}

/// What stacks are started with.
pub struct Means {
    /// DPDK, and the program in C; or why there is none.
    c: Result<(Dpdk, PathBuf), String>,
    /// Libraries of rdma-core that are not the machine's.
    rdma_core: Option<Dpdk>,
    /// Whether the model can be preloaded; or why not.
    preload: Result<(), String>,
    words: Vec<OsString>,
    program: PathBuf,
    /// For what programs write.
    folder: tempfile::TempDir,
    /// The processor that everything runs on.
    pub core: usize,
    /// Whether buffers and rings lie in huge pages.
    pub huge: bool,
}

impl Means {
    /// Finds what there is; compiles the program in C.
    pub fn find(
        dpdk: Option<&Path>,
        headers: Option<&Path>,
        core: usize,
        huge: bool,
    ) -> Result<Self, Error> {
        let folder = tempfile::Builder::new().prefix("mana-bench-").tempdir()?;
        let preload = match model::find_preload() {
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        };
        let dpdk = match dpdk {
            Some(root) => Dpdk::at(root),
            None => Err("no DPDK was named: `cargo xtask bench` fetches Debian's".to_owned()),
        };
        let c = preload.clone().and_then(|()| {
            let dpdk = dpdk.clone()?;
            let headers = headers.unwrap_or(dpdk.root()).to_owned();
            let program = compile::compile(&dpdk, &headers, folder.path())?;
            Ok((dpdk, program))
        });
        Ok(Self {
            c,
            rdma_core: dpdk.ok().filter(Dpdk::has_rdma_core),
            preload,
            words: program::words().map_err(Error::Start)?,
            program: program::path().map_err(Error::Start)?,
            folder,
            core,
            huge,
        })
    }

    /// Why a stack can't be measured here at all.
    pub fn missing(&self, stack: Stack) -> Option<String> {
        match stack {
            Stack::C => self.c.as_ref().err().cloned(),
            Stack::RdmaCore if !cfg!(feature = "rdma-core") => {
                Some("this program was built without the feature rdma-core".to_owned())
            }
            Stack::RdmaCore => self.preload.as_ref().err().cloned(),
            Stack::Uverbs | Stack::Floor => None,
        }
    }

    /// What the model under the stacks is: preloaded under all of them, or in the process of each that
    /// can.
    pub fn is_preloaded(&self) -> bool {
        self.preload.is_ok()
    }

    /// Whether libraries of rdma-core were brought along.
    pub fn has_rdma_core(&self) -> bool {
        self.rdma_core.is_some()
    }

    /// A folder for files that are not kept.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Whether the process of a stack has the libraries mapped that it is said to run on.
    pub fn check(&self, stack: Stack, ready: &Ready) -> Result<(), String> {
        let root = match stack {
            Stack::C => self.c.as_ref().ok().map(|(dpdk, _)| dpdk),
            _ => self.rdma_core.as_ref(),
        };
        let own = match stack {
            // A DPDK that was built here runs on the machine's rdma-core.
            Stack::C => self.rdma_core.is_some(),
            _ => true,
        };
        if own {
            return stack.check_mapped(ready, root.map(Dpdk::root));
        }
        let driver = |path: &&PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("librte_net_mana.so")
        };
        let mapped: Vec<&PathBuf> = ready.libraries.iter().filter(driver).collect();
        let right = |path: &&PathBuf| root.is_some_and(|dpdk| path.starts_with(dpdk.root()));
        match mapped.as_slice() {
            [one] if right(one) => Ok(()),
            other => Err(format!("librte_net_mana.so is mapped as {other:?}")),
        }
    }

    /// The command that starts a stack, `before` between the model and its program: valgrind, under
    /// which there are ordinary pages only. DPDK's EAL finds no addresses for 2 MiB pages there, and
    /// instructions are the same on both.
    pub fn command(&self, stack: Stack, plan: &Plan, before: &[OsString]) -> Command {
        let huge = self.huge && before.is_empty();
        let mut words: Vec<OsString> = Vec::new();
        if self.is_preloaded() {
            // Between start and the first step the queues ring one after the other: with several,
            // plain memory would keep the last doorbell only.
            let doorbell = if plan.queues > 1 {
                "trap-until-step"
            } else {
                "step"
            };
            words.extend_from_slice(&self.words);
            words.extend(["model", "exec"].map(OsString::from));
            words.push(format!("--doorbell={doorbell}").into());
            words.push(format!("--vdev={}", plan.vdev()).into());
            words.push("--".into());
        }
        words.extend_from_slice(before);
        match stack {
            Stack::C => words.extend(self.c_words(plan, huge)),
            Stack::RdmaCore if self.rdma_core.is_some() => {
                words.extend(self.rdma_core.iter().flat_map(Dpdk::start));
                words.push(self.program.clone().into());
                words.extend(self.worker_words(stack, plan, huge));
            }
            Stack::RdmaCore | Stack::Uverbs | Stack::Floor => {
                words.extend_from_slice(&self.words);
                words.extend(self.worker_words(stack, plan, huge));
            }
        }
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        // Where DPDK puts its files, as root and as anybody else.
        for variable in ["RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR", "TMPDIR"] {
            command.env(variable, self.folder());
        }
        if let (Stack::C, Ok((dpdk, _))) = (stack, &self.c)
            && let Some(path) = dpdk.environment()
        {
            command.env("LD_LIBRARY_PATH", path);
        }
        command
    }

    fn worker_words(&self, stack: Stack, plan: &Plan, huge: bool) -> Vec<OsString> {
        let mut words = vec!["bench".into(), "--worker".into(), stack.name().into()];
        words.extend(["--plan".into(), plan.to_string().into()]);
        if huge {
            words.push("--huge".into());
        }
        words
    }

    fn c_words(&self, plan: &Plan, huge: bool) -> Vec<OsString> {
        let Ok((dpdk, program)) = &self.c else {
            return Vec::new();
        };
        let mut words = dpdk.start();
        words.push(program.into());
        let core = self.core.to_string();
        let memory: &[&str] = match huge {
            true => &["--in-memory"],
            false => &["--no-huge", "-m", MEMORY, "--no-shconf"],
        };
        // One memory region, as in C on Azure: the addresses that MANA uses are virtual ones anyway.
        let eal = [
            "-l",
            &core,
            "--iova-mode=va",
            "--no-telemetry",
            "-a",
            ADDRESS,
        ];
        let eal = memory.iter().copied().chain(eal);
        words.extend(eal.map(OsString::from));
        words.push("--".into());
        words.extend(plan.to_string().split(' ').map(OsString::from));
        words
    }
}
