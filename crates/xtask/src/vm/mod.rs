//! `cargo xtask vm`: a guest with Debian's kernel, its unmodified drivers of MANA and a device that
//! `mana model serve` plays, from packages unpacked under `target/` alone.
//!
//! `options` reads the command line, `packages` fetches the trees, `initramfs` writes what the guest
//! boots into (as `cpio`) with `init.sh` as its first program, `image` what QEMU boots it by, `qemu` has the machine, `server` the device,
//! `run` brings them together in the `folder` of the run and judges the `log`. Nothing of a run outlives
//! it but its logs.
//!
//! The exit status is the command's, or [`FAILED`] where there is none or the guest's kernel complained.

mod cpio;
mod elf;
mod folder;
mod follow;
mod image;
mod initramfs;
mod log;
mod options;
mod packages;
mod qemu;
mod run;
mod server;
mod signals;

pub use options::{Kernel, Options, USAGE};

use crate::program;
use crate::workspace::Workspace;

use folder::Folder;
use packages::Trees;
use run::Run;
use signals::Signals;

/// Exit status of a run that has none of its command's, or may not have it.
pub const FAILED: u8 = 125;

/// Fetches what a guest of this kernel is made of.
pub fn fetch(workspace: &Workspace, kernel: Kernel) -> Result<(), String> {
    Trees::fetch(workspace, kernel, false).map(drop)
}

/// Runs a guest to its end; returns its command's exit status.
pub fn run(workspace: &Workspace, options: &Options) -> Result<u8, String> {
    let trees = Trees::fetch(workspace, options.kernel, options.dpdk)?;
    let mana = match &options.mana {
        Some(mana) => {
            std::path::absolute(mana).map_err(|error| format!("{}: {error}", mana.display()))?
        }
        None => program::build("mana", "mana", false)?,
    };
    let signals = Signals::take()?;
    let folder = Folder::new(&workspace.target.join("vm"))?;
    Run {
        options,
        trees: &trees,
        mana: &mana,
        folder: &folder,
        kernels: &workspace.target.join("kernels"),
        signals: &signals,
    }
    .run()
}
