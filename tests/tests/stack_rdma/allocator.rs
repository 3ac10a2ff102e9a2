//! libmana's allocator failing at each buffer of a start, asked by strangers, and on two NUMA nodes:
//! over the real libraries of both releases. `allocator.c` stands between libmana and the provider.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use conformance::skip;
use conformance::stack::{Column, Session, Stack, Stats, only_child};
use mana_model::control::Client;

use crate::libraries::{Release, Tree};

/// The buffers of a start with two queues each way, by the operation that asks for each.
const BUFFERS: [&str; 8] = [
    "create completion queue",
    "create send queue",
    "create completion queue",
    "create send queue",
    "create completion queue",
    "create work queue",
    "create completion queue",
    "create work queue",
];
/// What ends the answer to a command that starts or stops ports.
const DONE: &str = "\nDone\n";

/// `alloc` or `free`, the context, bytes, and the address, 0 for none.
type Allocation = (String, usize, usize, usize);

/// A testpmd with a prompt, whose allocations are written down.
struct Watched {
    session: Session,
    model: Client,
    /// The process.
    id: u32,
    folder: PathBuf,
    /// Kept for the object that is preloaded.
    _tree: Tree,
}

impl Watched {
    /// None, and the test skipped, where it can't run.
    fn start(test: &str, release: Release, models: &[&str]) -> Option<Self> {
        let stack = Stack::or_skip(test)?;
        let tree = Tree::or_skip(test, release)?;
        let preload = tree.compile(test, "allocator.c", "allocator.so")?;
        let column = match release {
            Release::First => Column::OursRdmaCore44,
            Release::Current => Column::OursRdmaCore56,
        };
        let socket = tree.scratch.path().join("control");
        let mut options: Vec<String> = models.iter().map(|m| format!("--vdev={m}")).collect();
        options.push(format!("--control={}", socket.display()));
        let devices: String = (0..models.len())
            .map(|n| format!(" -a 7870:00:0{n}.0,provider=rdma-core"))
            .collect();
        let app = "-i --total-num-mbufs=4096 --rxq=2 --txq=2 --rxd=128 --txd=128";
        let mut session = Session::preloading(&stack, column, &options, &devices, app, &preload)
            .on_its_libraries(&stack);
        session.wait_until("the prompt", |text| text.ends_with("testpmd> "));
        let model = Client::wait_for(&socket, Duration::from_secs(60)).expect("the model listens");
        let id = only_child(session.id()).expect("the program runs");
        let folder = session.folder().to_owned();
        Some(Self {
            session,
            model,
            id,
            folder,
            _tree: tree,
        })
    }

    /// Types a command and returns its answer.
    #[track_caller]
    fn ask(&mut self, command: &str, end: &str) -> String {
        let before = self.session.stdout().len();
        self.session.type_line(command);
        let prompt = format!("{end}testpmd> ");
        self.session
            .wait_until(command, |text| text[before..].ends_with(&prompt));
        self.session.stdout()[before..].to_owned()
    }

    /// The `n`-th allocation from now on fails, from 1.
    fn fail_at(&self, n: usize) {
        fs::write(self.folder.join("allocator-fails"), n.to_string()).expect("it can be written");
    }

    /// How many allocations are to come before one that fails; 0 where it was, or none is to fail.
    fn still_to_fail(&self) -> usize {
        let text = fs::read_to_string(self.folder.join("allocator-fails")).expect("it is there");
        text.trim().parse().expect("a number")
    }

    /// What was allocated and freed since the last call.
    fn allocations(&self) -> Vec<Allocation> {
        let file = self.folder.join("allocations");
        let text = fs::read_to_string(&file).unwrap_or_default();
        fs::write(&file, "").expect("it can be written");
        let line = |line: &str| {
            let mut words = line.split(' ');
            let word = words.next()?.to_owned();
            let (context, size) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
            let address = usize::from_str_radix(words.next()?, 16).ok()?;
            Some((word, context, size, address))
        };
        text.lines()
            .map(|text| line(text).unwrap_or_else(|| panic!("`{text}`")))
            .collect()
    }

    /// The mappings of the process, but for what the C library grows and shrinks.
    fn mappings(&self) -> BTreeSet<String> {
        let text = fs::read_to_string(format!("/proc/{}/maps", self.id)).expect("it runs");
        let lines = text.lines().filter(|line| !line.ends_with(']'));
        lines.map(str::to_owned).collect()
    }

    /// Ends it well.
    #[track_caller]
    fn end(mut self) -> String {
        self.session.type_line("quit");
        let outcome = self.session.end();
        outcome.assert_clean();
        outcome.ended.stdout
    }
}

#[test]
fn a_start_fails_at_each_buffer_that_can_not_be_had_leaves_nothing_and_the_next_one_works() {
    let test =
        "a_start_fails_at_each_buffer_that_can_not_be_had_leaves_nothing_and_the_next_one_works";
    for release in Release::ALL {
        let Some(mut port) = Watched::start(test, release, &["model0,link=loop"]) else {
            return;
        };
        // Caches of the C library fill at the first turns.
        for _ in 0..3 {
            port.ask("port stop 0", DONE);
            port.ask("port start 0", DONE);
        }
        port.ask("port stop 0", DONE);
        port.allocations();
        let objects = port.model.objects().unwrap();
        for (n, operation) in (1..).zip(BUFFERS) {
            port.fail_at(n);
            let mappings = port.mappings();
            let said = port.ask("port start 0", DONE);
            // Before the model is asked, which is a thread of the same process.
            assert_eq!(port.mappings(), mappings, "{release:?} {n}");
            assert_eq!(port.still_to_fail(), 0, "{release:?} {n}: {said}");
            let reason = said
                .lines()
                .find(|line| line.starts_with("Fail to start port 0: "));
            let reason = reason.unwrap_or_else(|| panic!("{release:?} {n}: {said}"));
            for part in [operation, "ENOMEM (12)", "mana_0"] {
                assert!(
                    reason.contains(part),
                    "{release:?} {n}, no `{part}`: {reason}"
                );
            }
            assert_eq!(port.model.objects().unwrap(), objects, "{release:?} {n}");
            // Whatever libmana was given came back: n - 1 rings.
            let all = port.allocations();
            let of = |word: &str| -> BTreeSet<usize> {
                let those = all
                    .iter()
                    .filter(|(w, _, _, address)| w == word && *address != 0);
                those.map(|(_, _, _, address)| *address).collect()
            };
            assert_eq!(of("alloc").len(), n - 1, "{all:x?}");
            assert_eq!(of("alloc"), of("free"), "{all:x?}");
            // The next start has them all.
            port.ask("port start 0", DONE);
            port.ask("start tx_first", "");
            let said = port.ask("stop", "\nDone.\n");
            let stats = Stats::read(&said).expect("statistics");
            assert!(stats.tx >= 64, "{said}");
            port.ask("port stop 0", DONE);
            port.allocations();
            assert_eq!(port.model.objects().unwrap(), objects, "{release:?} {n}");
        }
        // One more than there are.
        port.fail_at(BUFFERS.len() + 1);
        port.ask("port start 0", DONE);
        assert_eq!(port.still_to_fail(), 1, "{release:?}");
        assert_eq!(port.allocations().len(), BUFFERS.len(), "{release:?}");
        port.fail_at(0);
        port.end();
    }
}

#[test]
fn what_strangers_ask_for_and_free_is_nothing_of_a_ports() {
    let test = "what_strangers_ask_for_and_free_is_nothing_of_a_ports";
    for release in Release::ALL {
        let Some(mut port) = Watched::start(test, release, &["model0,link=loop"]) else {
            return;
        };
        port.ask("port stop 0", DONE);
        let objects = port.model.objects().unwrap();
        fs::write(port.folder.join("allocator-strangers"), "").expect("it can be written");
        port.allocations();
        let said = port.ask("port start 0", DONE);
        assert!(!said.contains("Fail to start"), "{said}");
        // A stranger's ring would be one that libmana lacks.
        let all = port.allocations();
        assert_eq!(all.len(), BUFFERS.len(), "{all:x?}");
        assert!(
            all.iter()
                .all(|(word, _, _, address)| word == "alloc" && *address != 0)
        );
        let ignored = said.matches("which it was not given: ignored").count();
        assert_eq!(ignored, BUFFERS.len(), "{said}");
        port.ask("start tx_first", "");
        port.ask("stop", "\nDone.\n");
        port.ask("port stop 0", DONE);
        assert_eq!(port.model.objects().unwrap(), objects, "{release:?}");
        port.end();
    }
}

/// A machine with one node: what can be shown is that memory is asked for on it for the port of its
/// device, and left to the kernel for the port of a device that names none.
#[test]
fn each_ring_lies_on_the_node_of_its_ports_device() {
    let test = "each_ring_lies_on_the_node_of_its_ports_device";
    if !Path::new("/proc/self/numa_maps").exists() {
        return skip(test, "the kernel has no /proc/PID/numa_maps");
    }
    for release in Release::ALL {
        let models = ["model0,link=loop,numa-node=0", "model1,link=loop"];
        let Some(mut ports) = Watched::start(test, release, &models) else {
            return;
        };
        let text = fs::read_to_string(format!("/proc/{}/numa_maps", ports.id)).expect("it runs");
        let mut ranges: Vec<(usize, &str)> = text
            .lines()
            .filter_map(|line| {
                let mut words = line.split(' ');
                let start = usize::from_str_radix(words.next()?, 16).ok()?;
                Some((start, words.next()?))
            })
            .collect();
        ranges.sort_unstable();
        let all = ports.allocations();
        assert_eq!(all.len(), 2 * BUFFERS.len(), "{all:x?}");
        for (word, context, size, address) in &all {
            assert_eq!(word, "alloc");
            let at = ranges.partition_point(|(start, _)| start <= address);
            let (_, policy) = ranges[at.checked_sub(1).expect("it is mapped")];
            let wanted = if *context == 0 { "bind:0" } else { "default" };
            assert_eq!(
                policy, wanted,
                "{release:?}: {size} bytes at {address:x} of {context}"
            );
        }
        for port in ["0", "1"] {
            ports.ask(&format!("port stop {port}"), DONE);
        }
        // Each came back to where it was taken.
        let places = |all: &[Allocation]| -> BTreeSet<(usize, usize)> {
            let places = all
                .iter()
                .map(|(_, context, _, address)| (*context, *address));
            // An RSS queue pair of the first releases frees a ring that it does not have.
            places.filter(|(_, address)| *address != 0).collect()
        };
        let (taken, freed) = (places(&all), places(&ports.allocations()));
        assert_eq!(freed, taken, "{release:?}");
        ports.end();
    }
}
