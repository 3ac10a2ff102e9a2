//! Instructions a packet, counted by valgrind's callgrind: the figure that is the same in every run.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::thread;

use super::error::Error;
use super::plan::Direction;
use super::points::Point;
use super::process::{Process, Started};
use super::stacks::{Means, Stack};
use super::tree::Valgrind;

/// What a stack's bursts cost, by direction; or why that is not known.
type Counted = Result<Vec<(Direction, f64)>, String>;

/// Counts the stacks at a point, as many at a time as there are processors.
pub fn count(
    means: &Means,
    valgrind: &Valgrind,
    stacks: &[Stack],
    point: &Point,
    packets: u64,
) -> Vec<(Stack, Counted)> {
    let able = stacks
        .iter()
        .filter(|stack| stack.cannot(&point.plan).is_none());
    let waiting: Mutex<VecDeque<Stack>> = Mutex::new(able.copied().collect());
    let done: Mutex<Vec<(Stack, Counted)>> = Mutex::new(Vec::new());
    let work = || {
        loop {
            let next = waiting.lock().map(|mut waiting| waiting.pop_front());
            let Ok(Some(stack)) = next else { return };
            let counted = count_one(means, valgrind, stack, point, packets);
            let counted = counted.map_err(|error| error.to_string());
            if let Ok(mut done) = done.lock() {
                done.push((stack, counted));
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    done.into_inner().unwrap_or_default()
}

fn count_one(
    means: &Means,
    valgrind: &Valgrind,
    stack: Stack,
    point: &Point,
    packets: u64,
) -> Result<Vec<(Direction, f64)>, Error> {
    let folder = tempfile::Builder::new()
        .prefix("callgrind-")
        .tempdir_in(means.folder())?;
    let out = folder.path().join("out");
    let mut before: Vec<OsString> = vec![valgrind.program.clone().into()];
    before
        .extend(["-q", "--tool=callgrind", "--toggle-collect=*timed_*_burst*"].map(OsString::from));
    // A file of its own for each direction.
    before.push("--dump-before=*section_end*".into());
    let mut option = OsString::from("--callgrind-out-file=");
    option.push(&out);
    before.push(option);
    let mut command = means.command(stack, &point.plan, &before);
    if let Some(library) = &valgrind.library {
        command.env("VALGRIND_LIB", library);
    }
    let started = Process::start(stack, command, |ready| means.check(stack, ready))?;
    let Started::Ready(mut process) = started else {
        return Ok(Vec::new());
    };
    let mut moved = Vec::new();
    for &direction in point.directions {
        moved.push((direction, process.count(direction, packets)?.packets));
    }
    process.end()?;
    let mut counts = Vec::new();
    for (part, (direction, packets)) in (1..).zip(moved) {
        let file = out.with_extension(part.to_string());
        let instructions = total(&file)?;
        counts.push((direction, instructions as f64 / packets as f64));
    }
    Ok(counts)
}

/// What a profile sums up to.
fn total(file: &Path) -> Result<u64, Error> {
    let text = fs::read_to_string(file)?;
    let line = text.lines().find_map(|line| line.strip_prefix("totals: "));
    let total = line.and_then(|line| line.trim().parse().ok());
    total
        .filter(|total| *total > 0)
        .ok_or_else(|| Error::failed("callgrind saw none of the bursts"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_read_from_its_line_and_zero_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("out.1");
        fs::write(
            &file,
            "events: Ir\nfn=(1) timed_tx_burst\n16 3\ntotals: 33100\n",
        )
        .unwrap();
        assert_eq!(total(&file).unwrap(), 33_100);
        fs::write(&file, "totals: 0\n").unwrap();
        assert!(total(&file).is_err());
    }
}
