//! Which CPUs the lcores of a run are: core lists as DPDK writes them, the cores the machine has,
//! and on a model the sharing of cores it has not.

use std::fs;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::error::Error;

/// The highest core number that is accepted, exclusive (what a CPU set holds).
pub const MAX_CORES: u32 = CpuSet::MAX_CPU as u32;

/// A logical core of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lcore {
    /// Its number on the command line, which is also what the output shows.
    pub id: u32,
    /// The CPU it runs on; another one than `id` where the machine lacks that.
    pub cpu: u32,
}

/// The cores of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CorePlan {
    /// Prints and waits; does not forward.
    pub main: Lcore,
    /// The forwarding candidates in ascending order; `--nb-cores` takes the first of them.
    pub workers: Vec<Lcore>,
    /// Lcores that the machine lacks and that therefore share a CPU.
    pub lacking: Vec<u32>,
}

impl CorePlan {
    /// Plans the cores. Without a list all of `available`; a single one is then main core and
    /// forwarding core at once. `may_share` allows (on a model) cores that `available` lacks.
    ///
    /// # Errors
    ///
    /// A list with only one core, a main core outside it, and, unless `may_share`, a core that the
    /// machine lacks.
    pub fn new(
        list: Option<&[u32]>,
        main: Option<u32>,
        available: &[u32],
        may_share: bool,
    ) -> Result<CorePlan, Error> {
        let given = list.unwrap_or(available);
        let main = main.or_else(|| given.first().copied()).unwrap_or(0);
        if !given.contains(&main) {
            return Err(Error::MainCore {
                main,
                cores: format_list(given),
            });
        }
        let mut ids: Vec<u32> = given.iter().copied().filter(|id| *id != main).collect();
        if ids.is_empty() {
            if list.is_some() {
                return Err(Error::NoForwardingCore { main });
            }
            ids.push(main);
        }
        let lacking: Vec<u32> = given
            .iter()
            .copied()
            .filter(|id| !available.contains(id))
            .collect();
        if !lacking.is_empty() && (!may_share || available.is_empty()) {
            return Err(Error::MissingCores {
                missing: format_list(&lacking),
                existing: format_list(available),
            });
        }
        let main = Lcore {
            id: main,
            cpu: placed(main, available, &[]),
        };
        // The main core mostly sleeps: it counts half of a forwarding core.
        let mut taken = vec![main.cpu];
        for own in ids.iter().filter(|id| available.contains(id)) {
            taken.extend([*own, *own]);
        }
        let mut workers = Vec::with_capacity(ids.len());
        for id in ids {
            let cpu = placed(id, available, &taken);
            if cpu != id {
                taken.extend([cpu, cpu]);
            }
            workers.push(Lcore { id, cpu });
        }
        Ok(CorePlan {
            main,
            workers,
            lacking,
        })
    }

    /// Whether the first `count` forwarding cores must give way to one another, or to `others`
    /// further busy threads of this process (the device thread of a model), because there are
    /// fewer CPUs than busy threads.
    pub fn crowded(&self, count: usize, others: usize, available: usize) -> bool {
        let mut cpus: Vec<u32> = self
            .workers
            .iter()
            .take(count)
            .map(|core| core.cpu)
            .collect();
        cpus.sort_unstable();
        cpus.dedup();
        cpus.len() < count.min(self.workers.len()) || cpus.len() + others > available
    }
}

/// The CPU for lcore `id`: its own, or the available one that the fewest of `taken` use.
fn placed(id: u32, available: &[u32], taken: &[u32]) -> u32 {
    if available.contains(&id) {
        return id;
    }
    let users = |cpu: &u32| taken.iter().filter(|used| *used == cpu).count();
    available.iter().copied().min_by_key(users).unwrap_or(id)
}

/// Reads a core list such as `1-3,5`: ascending and without repetition, as DPDK makes a set of it.
///
/// # Errors
///
/// A text that says what is wrong.
pub fn parse_list(text: &str) -> Result<Vec<u32>, String> {
    if text.contains(['@', '(', ')', '[', ']']) {
        return Err("only plain core lists such as 1-3,5 are supported: \
                    an lcore is the CPU of the same number"
            .to_owned());
    }
    let number = |text: &str| {
        let number = text.trim().parse::<u32>().ok();
        number
            .filter(|core| *core < MAX_CORES)
            .ok_or_else(|| format!("`{text}` is no core number below {MAX_CORES}"))
    };
    let mut cores = Vec::new();
    for part in text.split(',') {
        match part.split_once('-') {
            Some((first, last)) => {
                let (first, last) = (number(first)?, number(last)?);
                // DPDK accepts a range in either direction.
                cores.extend(first.min(last)..=first.max(last));
            }
            None => cores.push(number(part)?),
        }
    }
    cores.sort_unstable();
    cores.dedup();
    Ok(cores)
}

/// Reads a hexadecimal core mask such as `0x6`.
///
/// # Errors
///
/// A text that says what is wrong.
pub fn parse_mask(text: &str) -> Result<Vec<u32>, String> {
    let digits = text.trim_start_matches("0x").trim_start_matches("0X");
    let wrong = || "expected a hexadecimal mask with at least one bit, such as 0x6".to_owned();
    let mut cores = Vec::new();
    for (at, digit) in digits.chars().rev().enumerate() {
        let bits = digit.to_digit(16).ok_or_else(wrong)?;
        let base = at as u32 * 4;
        cores.extend(
            (0..4)
                .filter(|bit| bits >> bit & 1 == 1)
                .map(|bit| base + bit),
        );
    }
    match cores.last() {
        None => Err(wrong()),
        Some(highest) if *highest >= MAX_CORES => Err(format!("cores end at {}", MAX_CORES - 1)),
        Some(_) => Ok(cores),
    }
}

/// Writes cores as a list with ranges, `1-3,5`.
pub fn format_list(cores: &[u32]) -> String {
    let mut parts: Vec<(u32, u32)> = Vec::new();
    for core in cores.iter().copied() {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == core => *last = core,
            _ => parts.push((core, core)),
        }
    }
    let texts: Vec<String> = parts
        .into_iter()
        .map(|(first, last)| match first == last {
            true => first.to_string(),
            false => format!("{first}-{last}"),
        })
        .collect();
    texts.join(",")
}

/// The CPUs this process may run on.
///
/// # Errors
///
/// If the kernel does not tell.
pub fn allowed() -> Result<Vec<u32>, Error> {
    let set = sched_getaffinity(None).map_err(|errno| Error::Affinity {
        core: "the current".to_owned(),
        errno: std::io::Error::from(errno),
    })?;
    Ok((0..MAX_CORES)
        .filter(|cpu| set.is_set(*cpu as usize))
        .collect())
}

/// The CPUs that are online, whatever this process is confined to; `allowed()` if that is unknown.
///
/// # Errors
///
/// As [`allowed`].
pub fn online() -> Result<Vec<u32>, Error> {
    fs::read_to_string("/sys/devices/system/cpu/online")
        .ok()
        .and_then(|text| parse_list(text.trim()).ok())
        .map_or_else(allowed, Ok)
}

/// Binds the calling thread to one CPU.
///
/// # Errors
///
/// If the kernel refuses (a CPU outside this container's set).
pub fn pin(core: Lcore) -> Result<(), Error> {
    let mut set = CpuSet::new();
    set.set(core.cpu as usize);
    sched_setaffinity(None, &set).map_err(|errno| Error::Affinity {
        core: format!("lcore {} (CPU {})", core.id, core.cpu),
        errno: std::io::Error::from(errno),
    })
}

/// The NUMA node of a CPU, 0 where the machine does not tell.
pub fn socket_of(cpu: u32) -> u32 {
    let entries = fs::read_dir(format!("/sys/devices/system/cpu/cpu{cpu}"));
    let node = entries.ok().and_then(|entries| {
        entries.flatten().find_map(|entry| {
            let name = entry.file_name();
            name.to_str()?.strip_prefix("node")?.parse().ok()
        })
    });
    node.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpus(plan: &CorePlan) -> Vec<(u32, u32)> {
        plan.workers
            .iter()
            .map(|core| (core.id, core.cpu))
            .collect()
    }

    #[test]
    fn core_lists_read_as_dpdk_reads_them() {
        assert_eq!(parse_list("1-3").unwrap(), [1, 2, 3]);
        assert_eq!(parse_list("5,0-1,1").unwrap(), [0, 1, 5]);
        assert_eq!(parse_list("3-1").unwrap(), [1, 2, 3]);
        assert_eq!(format_list(&[0, 1, 2, 5, 7, 8]), "0-2,5,7-8");
        for wrong in ["", "a", "1-", "-1", "1,,2", "99999", "(0-2)@1", "0@1"] {
            assert!(parse_list(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn core_masks_read_as_bits() {
        assert_eq!(parse_mask("0x6").unwrap(), [1, 2]);
        assert_eq!(parse_mask("ff").unwrap(), (0..8).collect::<Vec<_>>());
        for wrong in ["", "0x", "0", "0xg"] {
            assert!(parse_mask(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_first_lcore_is_the_main_core_and_the_others_forward() {
        let plan = CorePlan::new(Some(&[1, 2, 3]), None, &[0, 1, 2, 3], false).unwrap();
        assert_eq!(plan.main, Lcore { id: 1, cpu: 1 });
        assert_eq!(cpus(&plan), [(2, 2), (3, 3)]);
        let plan = CorePlan::new(Some(&[1, 2, 3]), Some(3), &[0, 1, 2, 3], false).unwrap();
        assert_eq!(plan.main.id, 3);
        assert_eq!(cpus(&plan), [(1, 1), (2, 2)]);
    }

    #[test]
    fn on_a_model_cores_that_the_machine_lacks_are_shared() {
        let plan = CorePlan::new(Some(&[1, 2, 3]), None, &[0, 1], true).unwrap();
        assert_eq!(plan.main, Lcore { id: 1, cpu: 1 });
        assert_eq!(cpus(&plan), [(2, 0), (3, 1)]);
        assert_eq!(plan.lacking, [2, 3]);
        assert!(!plan.crowded(1, 1, 2));
        assert!(plan.crowded(2, 1, 2));
        assert!(plan.crowded(1, 1, 1), "the device thread needs a CPU too");
    }

    #[test]
    fn on_hardware_a_core_that_the_machine_lacks_is_an_error_naming_those_it_has() {
        let error = CorePlan::new(Some(&[1, 2, 3]), None, &[0, 1], false).unwrap_err();
        assert_eq!(
            error.to_string(),
            "-l names cores that this machine lacks: 2-3; it has 0-1"
        );
    }

    #[test]
    fn a_single_core_is_shared_when_none_was_asked_for_and_refused_when_it_was() {
        let plan = CorePlan::new(None, None, &[0], false).unwrap();
        assert_eq!(cpus(&plan), [(0, 0)]);
        assert!(matches!(
            CorePlan::new(Some(&[0]), None, &[0], false),
            Err(Error::NoForwardingCore { main: 0 })
        ));
        assert!(matches!(
            CorePlan::new(Some(&[1, 2]), Some(0), &[0, 1, 2], false),
            Err(Error::MainCore { .. })
        ));
    }
}
