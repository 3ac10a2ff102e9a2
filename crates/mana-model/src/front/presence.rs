//! Devices that go away and come back (reference/mana-hardware.md §4.9, §6.8), and links that lose
//! their carrier.

use std::time::{Duration, Instant};

use uverbs_abi::Errno;

use super::machine::{Function, IbName, Machine};
use crate::model::After;

/// A device that is away and will come back by itself.
pub(crate) struct Return {
    function: usize,
    at: Moment,
}

enum Moment {
    /// So many turns from now.
    Turns(u32),
    Time(Instant),
}

impl Machine {
    /// Registers the ib devices of a function, as the kernel names them: the lowest number that no
    /// other device has. A node's number is never used twice, so that nobody relies on the old one.
    pub(crate) fn register(&mut self, function: usize) {
        let rules = self.functions[function].rules;
        for kind in rules.ib_devices {
            let name = (0..)
                .map(|number: u32| format!("{}_{number}", kind.prefix))
                .find(|name| {
                    let mut all = self.functions.iter().flat_map(|other| &other.ib_devices);
                    all.all(|taken| taken.name != *name)
                });
            let node = format!("uverbs{}", self.next_node);
            self.next_node += 1;
            // There are fewer devices than numbers.
            let name = name.unwrap_or_default();
            let ib = IbName { kind, name, node };
            self.functions[function].ib_devices.push(ib);
        }
    }

    /// Takes the device away: `ENODEV` where it is away.
    pub(crate) fn remove(&mut self, function: usize) -> Result<(), Errno> {
        let function = &mut self.functions[function];
        if !function.is_present() {
            return Err(Errno::ENODEV);
        }
        function.disappear();
        Ok(())
    }

    /// Brings the device back: `EEXIST` where it is there.
    pub(crate) fn restore(&mut self, function: usize) -> Result<(), Errno> {
        if self.functions[function].is_present() {
            return Err(Errno::EEXIST);
        }
        self.returns.retain(|back| back.function != function);
        self.register(function);
        Ok(())
    }

    /// Takes the device away and lets it come back by itself: `ENODEV` where it is away.
    pub(crate) fn reset(&mut self, function: usize, after: After) -> Result<(), Errno> {
        self.remove(function)?;
        let at = match after {
            After::Steps(0) => return self.restore(function),
            After::Steps(turns) => Moment::Turns(turns),
            // A time beyond all clocks never comes.
            After::Time(time) => match Instant::now().checked_add(time) {
                Some(at) => Moment::Time(at),
                None => return Ok(()),
            },
        };
        self.returns.push(Return { function, at });
        Ok(())
    }

    /// Brings back the devices whose time has come.
    #[inline]
    pub(crate) fn bring_back(&mut self) {
        if !self.returns.is_empty() {
            self.bring_back_due();
        }
    }

    #[cold]
    fn bring_back_due(&mut self) {
        let now = Instant::now();
        let is_due = |back: &Return| match back.at {
            Moment::Turns(turns) => turns == 0,
            Moment::Time(at) => at <= now,
        };
        while let Some(due) = self.returns.iter().position(is_due) {
            let back = self.returns.remove(due);
            self.register(back.function);
        }
    }

    /// One turn of the device: a step that its owner asked for, or one of its thread.
    #[inline]
    pub(crate) fn turn(&mut self) {
        for back in &mut self.returns {
            if let Moment::Turns(turns) = &mut back.at {
                *turns = turns.saturating_sub(1);
            }
        }
        self.bring_back();
    }

    /// How long until the next device comes back whose time is a time; `None` without such a one.
    pub(crate) fn next_return(&self) -> Option<Duration> {
        let times = self.returns.iter().filter_map(|back| match back.at {
            Moment::Time(at) => Some(at.saturating_duration_since(Instant::now())),
            Moment::Turns(_) => None,
        });
        times.min()
    }

    /// Gives the link of `port`, counted over all functions, a carrier or takes it. Both ends of a
    /// pair have one.
    pub(crate) fn set_link(&mut self, port: usize, up: bool) {
        for port in self.links.set_up(port, up) {
            if let Some((function, port)) = self.locate(port) {
                self.functions[function].change_port(port, |state| state.link_up = up);
            }
        }
    }
}

impl Function {
    /// Whether the kernel has ib devices and netdevs of it.
    pub(crate) fn is_present(&self) -> bool {
        !self.ib_devices.is_empty()
    }

    /// The device is gone: every context learns it and loses its objects, as the kernel destroys
    /// them when it disassociates (reference/mana-hardware.md §4.9).
    fn disappear(&mut self) {
        self.ib_devices.clear();
        for context in self.contexts.values_mut().filter(|context| !context.gone) {
            context.disassociate(&mut self.device, &mut self.ports);
            // The kernel ends them: whoever sleeps on one wakes.
            context.channels.clear();
            context.device_fatal();
        }
    }
}
