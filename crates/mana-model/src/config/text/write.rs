//! From a device to its text.

use std::fmt::Display;
use std::path::Path;

use super::NUMBERS;
use crate::ModelError;
use crate::config::{DeviceConfig, LinkConfig, PortConfig, parse_device};

impl DeviceConfig {
    /// The text that [`parse_device`] reads as this device.
    ///
    /// # Errors
    ///
    /// [`ModelError::NoText`] where there is none: a name that is not `modelN`, a file name with a
    /// comma, a port with a MAC or capture behind one without.
    pub fn to_text(&self) -> Result<String, ModelError> {
        let text = self.write();
        match parse_device(&text) {
            Ok(read) if read == *self => Ok(text),
            _ => Err(ModelError::NoText {
                device: self.name.clone(),
                text,
            }),
        }
    }

    fn write(&self) -> String {
        let usual = Self::new(self.kernel);
        let mut text = Text(self.name.clone());
        text.option("kernel", self.kernel.name());
        if let Some(pci) = self.pci {
            text.option("pci", pci);
        }
        if self.driver_id != usual.driver_id {
            text.option("driver-id", self.driver_id);
        }
        if !self.netlink {
            text.option("netlink", "off");
        }
        if self.physical {
            text.option("pf", "on");
        }
        for number in NUMBERS {
            if let Some(value) = (number.get)(self)
                && (number.get)(&usual) != Some(value)
            {
                text.option(number.name, value);
            }
        }
        if self.ports.len() != 1 {
            text.option("ports", self.ports.len());
        }
        for mac in self.ports.iter().filter_map(|port| port.mac) {
            text.option("mac", mac);
        }
        text.each(&self.ports, "link", |port| link(&port.link));
        for capture in self.ports.iter().filter_map(|port| port.capture.as_deref()) {
            text.option("capture", capture.display());
        }
        text.each(&self.ports, "netdev", |port| {
            if port.netdev_up { "up" } else { "down" }.to_owned()
        });
        text.each(&self.ports, "adapter-mtu", |port| {
            port.adapter_mtu.to_string()
        });
        text.0
    }
}

/// A text that grows by options.
struct Text(String);

impl Text {
    fn option(&mut self, name: &str, value: impl Display) {
        self.0 += &format!(",{name}={value}");
    }

    /// One option for all ports where they are alike, none where they are as usual, else one for
    /// each.
    fn each(&mut self, ports: &[PortConfig], name: &str, value: impl Fn(&PortConfig) -> String) {
        let mut values: Vec<String> = ports.iter().map(&value).collect();
        if values.iter().all(|value| *value == values[0]) {
            values.truncate(1);
            values.retain(|only| *only != value(&PortConfig::default()));
        }
        for value in values {
            self.option(name, value);
        }
    }
}

/// What follows `link=`.
fn link(link: &LinkConfig) -> String {
    match link {
        LinkConfig::Loop => "loop".to_owned(),
        LinkConfig::Pair => "pair".to_owned(),
        LinkConfig::Sink { capture: false } => "sink".to_owned(),
        LinkConfig::Sink { capture: true } => "sink:keep".to_owned(),
        LinkConfig::Pcap { rx, tx, pps } => {
            let rx = part("rx", rx.as_deref().map(Path::display));
            let tx = part("tx", tx.as_deref().map(Path::display));
            format!("pcap{rx}{tx}{}", part("pps", *pps))
        }
        LinkConfig::Tap(tap) => {
            let mtu = part("mtu", tap.mtu);
            let csum = if tap.csum { ":csum=on" } else { "" };
            let tso = if tap.tso { ":tso=on" } else { "" };
            let netns = part("netns", tap.netns.as_deref().map(Path::display));
            format!(
                "tap:{}:queues={}{mtu}{csum}{tso}{netns}",
                tap.name, tap.queues
            )
        }
        LinkConfig::Gen(generator) => {
            let pps = part("pps", generator.pps);
            let count = part("count", generator.count);
            let (size, flows) = (generator.size, generator.flows);
            format!("gen{pps}{count}:size={size}:flows={flows}")
        }
    }
}

fn part(name: &str, value: Option<impl Display>) -> String {
    value.map_or_else(String::new, |value| format!(":{name}={value}"))
}
