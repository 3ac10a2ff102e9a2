//! Debian's DPDK in the guest, whose driver in C has the device through libmana, libibverbs and the kernel.

use std::fs;
use std::path::Path;

use mana_model::control::{Client, ClientError};
use mana_model::{LinkConfig, ObjectCounts, PortCounters};

use super::{ADDRESS, Guest, Testpmd};
use crate::stack::{Ethdev, is_known_of_the_driver_in_c};

/// Where `cargo xtask test` puts the program of `tests/programs/ethdev.c`.
const ETHDEV: &str = "/usr/bin/ethdev";
/// Where the device's model is steered.
const CONTROL: &str = "/run/port-model";

/// The guest, its device, and what drives it from user space.
pub struct Dpdk {
    /// The guest.
    pub guest: Guest,
    /// What serves the device.
    model: Client,
    before: ObjectCounts,
}

impl Dpdk {
    /// The guest in the state it booted to, its first port on a wire on which nothing comes and what is sent
    /// is kept. None anywhere else; then `test` is reported as skipped.
    ///
    /// # Panics
    ///
    /// If that state can't be reached.
    #[must_use]
    #[track_caller]
    pub fn or_skip(test: &str) -> Option<Self> {
        let guest = Guest::or_skip(test)?;
        let model = told(Client::connect(CONTROL.as_ref()));
        // What the kernel sends from the other port leads nowhere.
        told(model.port(1).set_wire(&LinkConfig::Sink { capture: false }));
        told(model.port(0).set_wire(&LinkConfig::Sink { capture: true }));
        let _frames = told(model.port(0).take_tx_frames());
        let _findings = told(model.take_findings());
        let before = told(model.objects());
        Some(Self {
            guest,
            model,
            before,
        })
    }

    /// The netdev of a port.
    ///
    /// # Panics
    ///
    /// If it has none.
    #[must_use]
    #[track_caller]
    pub fn netdev(&self, port: usize) -> String {
        let netdevs = self.guest.netdevs();
        let netdev = netdevs.get(port);
        netdev.unwrap_or_else(|| panic!("{netdevs:?}")).clone()
    }

    /// The first port's MAC as text.
    ///
    /// # Panics
    ///
    /// If it has no netdev.
    #[must_use]
    #[track_caller]
    pub fn mac(&self) -> String {
        let path = format!("/sys/class/net/{}/address", self.netdev(0));
        let mac = fs::read_to_string(&path);
        mac.unwrap_or_else(|error| panic!("{path}: {error}"))
            .trim()
            .to_owned()
    }

    /// The kernel's column of tables.
    #[must_use]
    pub fn column(&self) -> &'static str {
        match self.guest.is_6() {
            true => "C, 6.12",
            false => "C, 7.x",
        }
    }

    fn eal(&self) -> String {
        format!(
            "-l 0-1 --no-telemetry -a {ADDRESS},mac={mac}",
            mac = self.mac()
        )
    }

    /// testpmd on the first port.
    ///
    /// # Panics
    ///
    /// As [`Testpmd::start`].
    #[must_use]
    #[track_caller]
    pub fn testpmd(&self, app: &str) -> Testpmd {
        let app = format!("--total-num-mbufs=8192 --no-flush-rx {app}");
        Testpmd::start(&self.eal(), &app)
    }

    /// testpmd with these words, which is not expected to come to a prompt: exit status, standard output
    /// and error.
    #[must_use]
    #[track_caller]
    pub fn testpmd_ends(&self, app: &str) -> (i32, String, String) {
        let eal = self.eal();
        super::ended(&format!("dpdk-testpmd {eal} -- {app} </dev/null"))
    }

    /// The program on ethdev on the first port; none where it could not be compiled, which is reported as
    /// skipped for `test`.
    ///
    /// # Panics
    ///
    /// As [`Ethdev::on_the_kernel`].
    #[must_use]
    #[track_caller]
    pub fn ethdev(&self, test: &str, options: &str) -> Option<Ethdev> {
        if !Path::new(ETHDEV).exists() {
            crate::skip(
                test,
                "ethdev.c was not compiled where the guest was started",
            );
            return None;
        }
        let model = self.model.clone();
        Some(Ethdev::on_the_kernel(&self.eal(), options, model))
    }

    /// Lets frames arrive at the first port; what testpmd sends meanwhile, one for each, in its order.
    ///
    /// # Panics
    ///
    /// If fewer are sent, or more.
    #[must_use]
    #[track_caller]
    pub fn forwarded(&self, frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
        // The kernel sent those, when it had the port.
        let _others = told(self.model.port(0).take_tx_frames());
        for frame in frames {
            self.deliver(frame);
        }
        let mut sent = Vec::new();
        super::wait_until("as many frames as arrived", || {
            sent.extend(told(self.model.port(0).take_tx_frames()));
            sent.len() >= frames.len()
        });
        assert_eq!(sent.len(), frames.len(), "frames sent");
        sent
    }

    /// Lets a frame arrive at the first port.
    ///
    /// # Panics
    ///
    /// If the model does not take it.
    #[track_caller]
    pub fn deliver(&self, frame: &[u8]) {
        told(self.model.port(0).deliver(frame));
    }

    /// What the first port has counted.
    ///
    /// # Panics
    ///
    /// If the model does not answer.
    #[must_use]
    #[track_caller]
    pub fn counters(&self) -> PortCounters {
        told(self.model.port(0).counters())
    }

    /// Puts a link behind the first port.
    ///
    /// # Panics
    ///
    /// If the model refuses it.
    #[track_caller]
    pub fn set_wire(&self, link: &LinkConfig) {
        told(self.model.port(0).set_wire(link));
    }

    /// Lets the device ask for a reset.
    ///
    /// # Panics
    ///
    /// If the model does not take it.
    #[track_caller]
    pub fn request_reset(&self) {
        told(self.model.request_reset(0));
    }

    /// Completion queues that programs have, as the kernel counts them.
    ///
    /// # Panics
    ///
    /// If it can't be asked.
    #[must_use]
    #[track_caller]
    pub fn completion_queues(&self) -> usize {
        // A line each; the kernel's own have no process.
        let lines = super::run("rdma resource show cq");
        lines.lines().filter(|line| line.contains(" pid ")).count()
    }

    /// Waits until the driver has the device, with a netdev for each port and an ib device.
    ///
    /// # Panics
    ///
    /// If it does not come.
    #[track_caller]
    pub fn wait_for_device(&self) {
        super::wait_until("netdevs and an ib device", || {
            self.guest.netdevs().len() == 2 && !self.guest.ib_devices().is_empty()
        });
    }

    /// What is there of the device beyond what the kernel's own drivers have.
    ///
    /// # Panics
    ///
    /// If the model does not answer.
    #[must_use]
    #[track_caller]
    pub fn objects(&self) -> ObjectCounts {
        let (now, before) = (told(self.model.objects()), &self.before);
        ObjectCounts {
            contexts: now.contexts.saturating_sub(before.contexts),
            pds: now.pds.saturating_sub(before.pds),
            mrs: now.mrs.saturating_sub(before.mrs),
            cqs: now.cqs.saturating_sub(before.cqs),
            wqs: now.wqs.saturating_sub(before.wqs),
            tables: now.tables.saturating_sub(before.tables),
            qps: now.qps.saturating_sub(before.qps),
        }
    }

    /// Asserts that nothing is left of a program that has ended, and that it broke no rule of the hardware
    /// but those that the driver in C is known to break, and `known` ones.
    ///
    /// # Panics
    ///
    /// If something is, or it did.
    #[track_caller]
    pub fn assert_clean(&self, known: &[&str]) {
        assert_eq!(self.objects(), ObjectCounts::default());
        for finding in told(self.model.take_findings()) {
            let finding = finding.to_string();
            let is_known = known.iter().any(|text| finding.contains(text));
            assert!(
                is_known || is_known_of_the_driver_in_c(&finding),
                "{finding}"
            );
        }
    }
}

#[track_caller]
fn told<T>(result: Result<T, ClientError>) -> T {
    result.unwrap_or_else(|error| panic!("the device's model: {error}"))
}
