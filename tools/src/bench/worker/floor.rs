//! The floor as a stack.

use dma_memory::HugePages;
use mana_floor::{Floor, FloorConfig};

use super::device::Device;
use super::frame::frame;
use super::measure::Bursts;
use super::{libraries, resident};
use crate::bench::error::Error;
use crate::bench::plan::{Plan, Ready};

/// The floor on its device.
pub struct OnDevice {
    floor: Floor,
    frame: Vec<u8>,
    device: Device,
}

/// Makes it ready.
pub fn start(plan: &Plan, device: Device, huge: HugePages) -> Result<(OnDevice, Ready), Error> {
    let config = FloorConfig {
        ring: plan.ring,
        burst: plan.burst,
        size: plan.size,
        huge,
    };
    let system = device.system();
    let before = resident();
    let floor = Floor::start(&*system, &config).map_err(Error::failed)?;
    let ready = Ready {
        provider: "floor, uverbs".to_owned(),
        memory_kib: resident() - before,
        libraries: libraries(),
    };
    device.step();
    let stack = OnDevice {
        floor,
        frame: frame(plan.size as usize),
        device,
    };
    Ok((stack, ready))
}

impl Bursts for OnDevice {
    fn fill(&mut self) {
        self.floor.fill(&self.frame);
    }

    fn ready(&self) -> usize {
        self.floor.ready()
    }

    #[inline(always)]
    fn tx(&mut self) -> usize {
        self.floor.tx_burst()
    }

    #[inline(always)]
    fn rx(&mut self) -> usize {
        self.floor.rx_burst()
    }

    #[inline(always)]
    fn forward(&mut self) -> usize {
        self.floor.forward_burst()
    }

    fn free(&mut self) {
        self.floor.free();
    }

    fn step(&mut self) {
        self.device.step();
    }

    fn turn(&mut self) {}

    fn finish(self) {}
}
