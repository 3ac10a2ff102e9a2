//! What a device costs while nothing happens. Alone in its process, whose threads it counts.

#[path = "serving/guest.rs"]
#[allow(dead_code, reason = "a part of it is enough here")]
mod guest;

use std::fs;

use guest::{Device, Guest};

/// The threads of the device share two cores with the guest.
#[test]
fn a_device_with_nothing_to_do_takes_no_processor_time() {
    let device = Device::new("model0,ports=2,link=pair");
    let mut guest = Guest::start(&device.socket());
    guest.establish();
    // Fields 14 and 15 of /proc/PID/stat: time in user and kernel mode, in 1/100 s.
    let used = || -> u64 {
        let threads = fs::read_dir("/proc/self/task").unwrap();
        let stats =
            threads.filter_map(|entry| fs::read_to_string(entry.unwrap().path().join("stat")).ok());
        let ours =
            stats.filter(|stat| stat.contains("(mana-device)") || stat.contains("(mana-vfio)"));
        ours.map(|stat| {
            let behind = stat.rsplit_once(')').unwrap().1.to_owned();
            let fields: Vec<&str> = behind.split_whitespace().collect();
            fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
        })
        .sum()
    };
    let before = used();
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert!(used() - before < 10, "a tenth of a second in one");
}
