//! Packets that the device dropped because no buffer was posted, as far as the kernel tells.
//!
//! mana_ib has no counter for them. The Ethernet driver of the same PCI function has one,
//! `hc_rx_discards_no_wqe` of `ethtool -S` (reference/mana-hardware.md §6.9). It counts for the whole
//! function, and mana.ko fills its statistics in only while the netdev that is asked is UP, which the
//! netdev of a started port is not: so any netdev of the function serves that is.

use std::time::{Duration, Instant};

use uverbs_abi::{IbDevice, Netdev, System};

/// Name of the counter.
const COUNTER: &str = "hc_rx_discards_no_wqe";

/// What the kernel counted of packets that found no buffer: see [`crate::Port::missed`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missed {
    /// Packets since the port was opened, or since the kernel could first be asked. Of all ports of
    /// the PCI function together: the device keeps one count.
    pub packets: u64,
    /// The netdev whose driver told it.
    pub netdev: String,
    /// How old the number is.
    pub age: Duration,
}

/// The last reading, and the first.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    first: Option<u64>,
    last: Option<(u64, String, Instant)>,
}

impl Reader {
    /// Asks the kernel; keeps the last reading where it does not tell.
    pub(crate) fn refresh(&mut self, system: &dyn System, device: &IbDevice) {
        let Some((value, netdev)) = read(system, device) else {
            return;
        };
        // The counter begins anew when the device was reset.
        let before = self.last.as_ref().map(|(value, ..)| *value);
        if let (Some(first), Some(before)) = (self.first, before)
            && value < before
        {
            self.first = Some(first.wrapping_sub(before));
        }
        self.first.get_or_insert(value);
        self.last = Some((value, netdev, Instant::now()));
    }

    pub(crate) fn packets(&self) -> u64 {
        match (&self.last, self.first) {
            (Some((value, ..)), Some(first)) => value.wrapping_sub(first),
            _ => 0,
        }
    }

    pub(crate) fn missed(&self) -> Option<Missed> {
        let (_, netdev, when) = self.last.as_ref()?;
        Some(Missed {
            packets: self.packets(),
            netdev: netdev.clone(),
            age: when.elapsed(),
        })
    }
}

/// The counter, from the first netdev of the function that is UP and has it.
fn read(system: &dyn System, device: &IbDevice) -> Option<(u64, String)> {
    let netdevs = system.netdevs(device).ok()?;
    let up = netdevs.into_iter().filter(|netdev| netdev.up);
    up.filter_map(|Netdev { name, .. }| {
        let counters = system.netdev_statistics(&name).ok()?;
        let (_, value) = counters.into_iter().find(|(known, _)| known == COUNTER)?;
        Some((value, name))
    })
    .next()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use uverbs_abi::{SystemError, SystemKind, Transport};

    use super::*;

    /// Netdevs with the counter of each; `None` has no statistics.
    struct Kernel(Mutex<Vec<(Netdev, Option<u64>)>>);

    fn netdev(name: &str, up: bool) -> Netdev {
        Netdev {
            name: name.to_owned(),
            mac: "00:0d:3a:00:00:01".parse().unwrap(),
            dev_port: 0,
            up,
            master: None,
            mtu: 1500,
            max_mtu: None,
            carrier: None,
        }
    }

    impl System for Kernel {
        fn kind(&self) -> SystemKind {
            SystemKind::Linux
        }

        fn ib_devices(&self) -> Result<Vec<IbDevice>, SystemError> {
            Ok(Vec::new())
        }

        fn netdevs(&self, _device: &IbDevice) -> Result<Vec<Netdev>, SystemError> {
            let netdevs = self.0.lock().unwrap();
            Ok(netdevs.iter().map(|(netdev, _)| netdev.clone()).collect())
        }

        fn netdev_statistics(&self, name: &str) -> Result<Vec<(String, u64)>, SystemError> {
            let netdevs = self.0.lock().unwrap();
            let (_, value) = netdevs.iter().find(|(one, _)| one.name == name).unwrap();
            let value = value.map(|value| (COUNTER.to_owned(), value));
            Ok(value.into_iter().collect())
        }

        fn open(&self, _device: &IbDevice) -> Result<Box<dyn Transport>, SystemError> {
            unreachable!("nothing is opened")
        }
    }

    fn device() -> IbDevice {
        IbDevice {
            name: "mana_0".to_owned(),
            node: "uverbs0".to_owned(),
            pci: "7870:00:00.0".parse().unwrap(),
            vendor_id: 0x1414,
            device_id: 0x00ba,
            driver_id: None,
            numa_node: None,
        }
    }

    #[test]
    fn the_count_is_read_from_a_netdev_that_is_up_and_begins_at_the_first_reading() {
        let kernel = Kernel(Mutex::new(vec![
            (netdev("down", false), Some(77)),
            (netdev("other", true), None),
            (netdev("up", true), Some(100)),
        ]));
        let mut reader = Reader::default();
        assert_eq!(reader.missed(), None);
        reader.refresh(&kernel, &device());
        assert_eq!(reader.packets(), 0);
        kernel.0.lock().unwrap()[2].1 = Some(112);
        reader.refresh(&kernel, &device());
        let missed = reader.missed().unwrap();
        assert_eq!((missed.packets, &*missed.netdev), (12, "up"));
    }

    #[test]
    fn without_a_netdev_that_tells_the_last_number_stays_and_grows_old() {
        let kernel = Kernel(Mutex::new(vec![(netdev("up", true), Some(5))]));
        let mut reader = Reader::default();
        reader.refresh(&kernel, &device());
        kernel.0.lock().unwrap()[0] = (netdev("up", true), Some(9));
        reader.refresh(&kernel, &device());
        kernel.0.lock().unwrap()[0] = (netdev("up", false), Some(50));
        std::thread::sleep(Duration::from_millis(2));
        reader.refresh(&kernel, &device());
        let missed = reader.missed().unwrap();
        assert_eq!(missed.packets, 4);
        assert!(missed.age >= Duration::from_millis(2));
    }

    #[test]
    fn a_counter_that_began_anew_takes_nothing_away() {
        let kernel = Kernel(Mutex::new(vec![(netdev("up", true), Some(10))]));
        let mut reader = Reader::default();
        for (value, packets) in [(10, 0), (17, 7), (3, 10), (4, 11)] {
            kernel.0.lock().unwrap()[0].1 = Some(value);
            reader.refresh(&kernel, &device());
            assert_eq!(reader.packets(), packets);
        }
    }
}
