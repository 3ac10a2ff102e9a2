//! A model as suites see it: steered and read in the same words, wherever it runs.

use mana_model::control::{Client, ClientError};
use mana_model::{After, Fault, Model, ObjectCounts, PortCounters};

/// When a model comes back that reset itself.
const SOON: After = After::Steps(3);

/// A model and its first port, from the device's side.
pub trait Device {
    /// Does all that is pending, until nothing moves any more.
    fn step(&self);

    /// Lets a device that works by itself stand still but for [`Device::step`], or lets it go. What
    /// works in steps only stands still anyway.
    fn hold(&self, _held: bool) {}

    /// Orders a failure.
    fn inject(&self, fault: Fault);

    /// Takes a device away.
    fn remove(&self, device: usize);

    /// Brings it back.
    fn restore(&self, device: usize);

    /// Takes it away, to come back by itself.
    fn reset(&self, device: usize, after: After);

    /// Asks the kernel's driver for a reset, which it serves by itself.
    fn request_reset(&self, device: usize);

    /// Sets the netdev of a port UP or DOWN, counted from 0.
    fn set_netdev_up(&self, port: usize, up: bool);

    /// Gives the port's link a carrier, or takes it.
    fn set_link_up(&self, up: bool);

    /// Control operations so far, failed ones among them.
    fn operations(&self) -> u64;

    /// Verbs objects that exist.
    fn objects(&self) -> ObjectCounts;

    /// What the driver did wrong so far, a text each.
    fn findings(&self) -> Vec<String>;

    /// What the device counted at the port.
    fn counters(&self) -> PortCounters;

    /// Lets a frame arrive at the port with the next step.
    fn deliver(&self, frame: &[u8]);

    /// Lets frames arrive at the port, one after the other, with the next step.
    fn deliver_all(&self, frames: &[Vec<u8>]) {
        frames.iter().for_each(|frame| self.deliver(frame));
    }

    /// Takes what the port sent, oldest first, where its link captures.
    fn take_tx_frames(&self) -> Vec<Vec<u8>>;

    /// Whether captures and generators with an end are at it.
    fn drained(&self) -> bool;
}

/// In this process.
impl Device for Model {
    fn step(&self) {
        Model::step(self);
    }

    fn inject(&self, fault: Fault) {
        Model::inject(self, fault);
    }

    fn remove(&self, device: usize) {
        Model::remove(self, device).expect("the device is there");
    }

    fn restore(&self, device: usize) {
        Model::restore(self, device).expect("the device is away");
    }

    fn reset(&self, device: usize, after: After) {
        Model::reset(self, device, after).expect("the device is there");
    }

    fn request_reset(&self, device: usize) {
        Device::reset(self, device, SOON);
    }

    fn set_netdev_up(&self, port: usize, up: bool) {
        let set = self.port(port).set_netdev_up(up);
        set.expect("no driver has a send queue on the port");
    }

    fn set_link_up(&self, up: bool) {
        self.port(0).set_link_up(up);
    }

    fn operations(&self) -> u64 {
        Model::operations(self)
    }

    fn objects(&self) -> ObjectCounts {
        Model::objects(self)
    }

    fn findings(&self) -> Vec<String> {
        Model::findings(self)
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    fn counters(&self) -> PortCounters {
        self.port(0).counters()
    }

    fn deliver(&self, frame: &[u8]) {
        self.port(0).deliver(frame);
    }

    fn take_tx_frames(&self) -> Vec<Vec<u8>> {
        self.port(0).take_tx_frames()
    }

    fn drained(&self) -> bool {
        Model::drained(self)
    }
}

/// By its control socket, in the process in which it is preloaded. Panics where the model is gone:
/// without it a suite proves nothing.
impl Device for Client {
    fn step(&self) {
        told(Client::step(self));
    }

    fn inject(&self, fault: Fault) {
        told(Client::inject(self, fault));
    }

    fn remove(&self, device: usize) {
        told(Client::remove(self, device));
    }

    fn restore(&self, device: usize) {
        told(Client::restore(self, device));
    }

    fn reset(&self, device: usize, after: After) {
        told(Client::reset(self, device, after));
    }

    fn request_reset(&self, device: usize) {
        told(Client::request_reset(self, device));
    }

    fn set_netdev_up(&self, port: usize, up: bool) {
        told(self.port(port).set_netdev_up(up));
    }

    fn set_link_up(&self, up: bool) {
        told(self.port(0).set_link_up(up));
    }

    fn operations(&self) -> u64 {
        told(Client::operations(self))
    }

    fn objects(&self) -> ObjectCounts {
        told(Client::objects(self))
    }

    fn findings(&self) -> Vec<String> {
        told(Client::findings(self))
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    fn counters(&self) -> PortCounters {
        told(self.port(0).counters())
    }

    fn deliver(&self, frame: &[u8]) {
        told(self.port(0).deliver(frame));
    }

    fn deliver_all(&self, frames: &[Vec<u8>]) {
        told(self.port(0).deliver_all(frames.to_vec()));
    }

    fn take_tx_frames(&self) -> Vec<Vec<u8>> {
        told(self.port(0).take_tx_frames())
    }

    fn drained(&self) -> bool {
        told(Client::drained(self))
    }
}

pub(crate) fn told<T>(answer: Result<T, ClientError>) -> T {
    answer.unwrap_or_else(|error| panic!("the model does not answer: {error}"))
}
