//! `mana setup`: what Azure's guide does by hand, shown first, written down, undone by one command.
//!
//! `plan` says what of it this machine still needs, as `step`s; each is written into the `journal`
//! before it is done, so that `--undo` finds the way back from wherever it was interrupted.

mod journal;
mod plan;
mod step;
#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use crate::doctor::machine::{self, Machine};
use crate::doctor::tree::Tree;
use journal::Journal;
use plan::{Plan, PlanError, Wanted};
use step::{Step, StepError};

/// Free a MANA port for the driver: modules, hugepages, interfaces down; `--undo` restores what was
#[derive(clap::Args)]
#[command(after_help = "Whatever is done is written into the journal first; run as root.")]
pub struct Args {
    /// The port: its MAC, an interface or a PCI address; without it all but the one the machine is
    /// reached by
    #[arg(long, value_name = "MAC|NETDEV|BDF")]
    port: Option<String>,
    /// Hugepages to be reserved on each NUMA node; 0 for none
    #[arg(long, value_name = "COUNT", default_value_t = 1024)]
    hugepages: u64,
    /// Size of a hugepage
    #[arg(long, value_name = "SIZE", default_value = "2M", value_parser = ["2M", "1G"])]
    hugepage_size: String,
    /// Reserve hugepages on this NUMA node only
    #[arg(long, value_name = "NODE")]
    node: Option<u32>,
    /// Move the port's synthetic channel to uio_hv_generic, for DPDK's netvsc driver: its interface
    /// disappears until --undo (this driver does not need it)
    #[arg(long)]
    netvsc: bool,
    /// Let this user pin memory and open the device
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Take down even the interface the machine is reached by
    #[arg(long)]
    force: bool,
    /// Print the commands a shell would run, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Undo everything that was set up
    #[arg(long, conflicts_with_all = ["port", "netvsc", "user", "force"])]
    undo: bool,
    /// Where is written down what was done
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/var/lib/mana/setup.journal"
    )]
    journal: String,
    /// Set up the written machine below DIR
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
}

/// Why nothing, or not everything, was done.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("--root={}: {cause}", .path.display())]
    Root { path: PathBuf, cause: io::Error },
    #[error("this needs root: sudo mana setup …, or --dry-run to see what it would do")]
    NotRoot,
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error("the journal {}: {cause}; nothing is done that is not written down", .path.display())]
    Journal { path: PathBuf, cause: io::Error },
    #[error("{command}: {cause}; {state}")]
    Step {
        command: String,
        cause: StepError,
        state: String,
    },
    #[error(
        "{0} of the steps could not be undone and stay in the journal; mend the cause and repeat"
    )]
    Undo(usize),
    #[error("{0}")]
    Output(#[from] io::Error),
}

/// Runs `mana setup`.
pub fn main(args: &Args) -> ExitCode {
    match run(args, &mut io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mana setup: error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args, out: &mut impl Write) -> Result<(), Error> {
    let tree = || match &args.root {
        None => Ok(Tree::live()),
        Some(path) => Tree::below(path).map_err(|cause| Error::Root {
            path: path.clone(),
            cause,
        }),
    };
    let live = args.root.is_none();
    let wanted = || args.port.as_deref().map(machine::Wanted::parse);
    let mut machine = Machine::read(tree()?, live, wanted());
    let boot = machine.tree.read("/proc/sys/kernel/random/boot_id");
    let journal = Journal::new(
        machine.tree.place(&args.journal),
        boot.ok().unwrap_or_default(),
    );
    if live && !args.dry_run && !rustix::process::geteuid().is_root() {
        return Err(Error::NotRoot);
    }
    if args.undo {
        return undo(&machine.tree, &journal, args.dry_run, out);
    }
    let drivers = plan::drivers(&machine);
    if args.dry_run && !drivers.steps.is_empty() {
        for step in &drivers.steps {
            writeln!(out, "{}", step.command())?;
        }
        writeln!(out, "# what else is to be done shows when they are loaded")?;
        return Ok(());
    }
    apply(&machine.tree, &journal, &drivers, out, &mut |_| true)?;
    if !drivers.steps.is_empty() {
        machine = Machine::read(tree()?, live, wanted());
    }
    let plan = plan::plan(
        &machine,
        &Wanted {
            hugepages: args.hugepages,
            page_kib: if args.hugepage_size == "1G" {
                1 << 20
            } else {
                2048
            },
            node: args.node,
            netvsc: args.netvsc,
            user: args.user.clone(),
            force: args.force,
        },
    )?;
    if args.dry_run {
        for step in &plan.steps {
            writeln!(out, "{}", step.command())?;
        }
    } else {
        if args.netvsc {
            writeln!(
                out,
                "# the synthetic interfaces disappear until `mana setup --undo`"
            )?;
        }
        apply(&machine.tree, &journal, &plan, out, &mut |_| true)?;
    }
    say_how_to_go_on(&drivers, &plan, args.dry_run, out)
}

fn say_how_to_go_on(
    drivers: &Plan,
    plan: &Plan,
    dry_run: bool,
    out: &mut impl Write,
) -> Result<(), Error> {
    if plan.steps.is_empty() && drivers.steps.is_empty() {
        writeln!(out, "# nothing to do: all is set up")?;
    } else if !dry_run {
        writeln!(out, "# done; back again: mana setup --undo")?;
    }
    for port in &plan.ports {
        writeln!(
            out,
            "# {}: --vdev=\"{}\"",
            port.netdev.name,
            port.selector()
        )?;
    }
    Ok(())
}

/// A point at which the machine may stop: before a step's line is in the journal, when it is, when
/// the step was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    BeforeJournal,
    BeforeStep,
    AfterStep,
}

/// Does the steps in order. When one fails, those of this run are undone.
///
/// `go_on` is asked at every moment; where it says no, this function returns as it is, as if the
/// machine had stopped there.
fn apply(
    tree: &Tree,
    journal: &Journal,
    plan: &Plan,
    out: &mut impl Write,
    go_on: &mut dyn FnMut(Moment) -> bool,
) -> Result<(), Error> {
    let before = journal.lines();
    for (done, step) in plan.steps.iter().enumerate() {
        writeln!(out, "{}", step.command())?;
        if !go_on(Moment::BeforeJournal) {
            return Ok(());
        }
        journal.write(step).map_err(|cause| Error::Journal {
            path: journal.path().to_owned(),
            cause,
        })?;
        if !go_on(Moment::BeforeStep) {
            return Ok(());
        }
        if let Err(cause) = step.apply(tree) {
            let undone = plan.steps[..=done]
                .iter()
                .rev()
                .all(|step| step.undo(tree).is_ok());
            let state = match undone && journal.keep(before).is_ok() {
                true => "what was done before it is undone".to_owned(),
                false => "`mana setup --undo` restores what was".to_owned(),
            };
            return Err(Error::Step {
                command: step.command(),
                cause,
                state,
            });
        }
        if !go_on(Moment::AfterStep) {
            return Ok(());
        }
    }
    Ok(())
}

/// Undoes what the journal has. What can't be undone stays in it.
fn undo(tree: &Tree, journal: &Journal, dry_run: bool, out: &mut impl Write) -> Result<(), Error> {
    let trouble = |cause| Error::Journal {
        path: journal.path().to_owned(),
        cause,
    };
    let steps: Vec<Step> = journal.steps().map_err(trouble)?;
    if steps.is_empty() {
        writeln!(out, "# nothing to undo")?;
    }
    let mut failed = 0;
    for step in &steps {
        writeln!(out, "{}", step.undo_command())?;
        if !dry_run && let Err(cause) = step.undo(tree) {
            writeln!(out, "# failed: {cause}")?;
            failed += 1;
        }
    }
    match failed {
        _ if dry_run || journal.is_empty() => Ok(()),
        0 => journal.clear().map_err(trouble),
        failed => Err(Error::Undo(failed)),
    }
}
