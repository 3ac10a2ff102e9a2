//! A port is opened and closed a thousand times while the kernel keeps sending to it, and nothing
//! grows. Alone in its program, because it counts what the whole process has.

#![forbid(unsafe_code)]

use std::fs;
use std::time::Duration;

use conformance::host::{Host, Hugepages, Job, Namespace, free_hugepages};
use conformance::{Plan, Rig, Running};
use dma_memory::HugePages;
use mana_model::{DeviceConfig, DoorbellMode, Kernel, LinkConfig, PortConfig, TapConfig};

/// Cycles, and those of them at the beginning that may fill caches of the process.
const CYCLES: u32 = 1000;
const WARM: u32 = 100;
/// KiB that the process may grow by between those and the end: less than one page a cycle.
const GROWTH: u64 = 1024;
/// How long the traffic may run.
const LIMIT: Duration = Duration::from_secs(120);

#[derive(Debug, PartialEq, Eq)]
struct Measure {
    descriptors: usize,
    mappings: usize,
    hugepages: Option<u64>,
}

impl Measure {
    /// Descriptors, mappings apart from heap and stacks, and the machine's free hugepages.
    fn now() -> Self {
        let maps = fs::read_to_string("/proc/self/maps").expect("procfs");
        let mappings = maps.lines().filter(|line| !line.ends_with("[heap]"));
        Self {
            descriptors: fs::read_dir("/proc/self/fd").expect("procfs").count(),
            mappings: mappings.count(),
            hugepages: free_hugepages(),
        }
    }
}

/// KiB of memory that the process has.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("procfs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.and_then(|text| text.parse().ok()).expect("VmRSS")
}

/// Frames to the port without end: requests to an address that no one has, so that no answer slows
/// them down. 4000 a second of two sizes.
fn traffic(namespace: &Namespace) -> Vec<Job> {
    namespace.configure("tap0", 1, 1500);
    namespace.ip("neigh add 192.0.2.2 lladdr 02:00:00:00:00:02 dev tap0 nud permanent");
    [18, 1400]
        .map(|size| {
            let line = format!("ping -q -i 0.0005 -s {size} 192.0.2.2");
            namespace.start(&line, LIMIT)
        })
        .into()
}

fn rig(kernel: Kernel, namespace: &Namespace) -> Rig {
    let mut device = DeviceConfig::new(kernel);
    let mut tap = TapConfig::new("tap0");
    tap.netns = Some(format!("/run/netns/{}", namespace.name()).into());
    device.ports = vec![PortConfig {
        link: LinkConfig::Tap(tap),
        ..device.ports[0].clone()
    }];
    Rig::model(device, DoorbellMode::Polled)
}

/// One life of a port: it receives, sends some of that back, and ends with buffers in its rings,
/// packets held by the application, and packets that the device has not sent yet.
fn cycle(rig: &Rig, plan: &Plan) {
    let mut running = Running::start(rig, plan);
    let mut held = Vec::new();
    let came = rig.until(|| {
        held.extend(running.poll());
        held.len() >= 4
    });
    assert!(came, "no traffic arrives: {}", rig.trouble());
    let sent = held.drain(..2).map(|received| received.mbuf).collect();
    running.send(0, sent);
    assert!(running.rx_pool.in_use() > 0, "nothing is in the ring");
    drop(held);
    running.finish();
}

#[test]
fn a_thousand_cycles_under_traffic_leave_everything_as_it_was() {
    let Some(host) = Host::or_skip("a_thousand_cycles_under_traffic_leave_everything_as_it_was")
    else {
        return;
    };
    // Rings and two pools take a few; with more than that a leak would go unseen no longer.
    let _pages = Hugepages::of_free(16);
    let namespace = host.namespace();
    let rig = rig(Kernel::V7_3, &namespace);
    let mut traffic = traffic(&namespace);
    let plan = Plan {
        huge: HugePages::Auto,
        ..Plan::queues(2, 2)
    };
    let mut warm = None;
    for number in 0..CYCLES {
        cycle(&rig, &plan);
        if number == WARM {
            warm = Some((Measure::now(), resident()));
        }
        if let Some((before, _)) = &warm {
            // The model looks at its tap from time to time, with a file that it closes again, and
            // another program of the machine may have hugepages for a while.
            let same = rig.until(|| Measure::now() == *before);
            assert!(
                same,
                "cycle {number}: {before:?} is now {:?}",
                Measure::now()
            );
        }
    }
    assert!(
        traffic.iter_mut().all(|job| !job.has_ended()),
        "traffic has ended"
    );
    let (_, before) = warm.expect("it is warm");
    let now = resident();
    println!("{before} KiB after {WARM} cycles, {now} after {CYCLES}");
    assert!(now < before + GROWTH, "{before} KiB have become {now}");
    drop(rig);
    assert!(!namespace.has("tap0"), "the tap goes with the model");
}
