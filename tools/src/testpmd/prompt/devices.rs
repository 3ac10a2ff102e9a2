//! `show device info`: PCI functions and the ports of each.

use std::fmt::Write;

use mana_pmd::PortInfo;

use super::{Prompt, complain};
use crate::testpmd::display::upper;
use crate::testpmd::error::Error;
use crate::testpmd::run::say;

const BORDER: &str = "*********************";

/// `show device info DEVICE`.
pub fn info(prompt: &mut Prompt<'_, '_>, words: &[&str]) -> Result<(), Error> {
    let open = prompt.session.open_ports();
    let infos = open
        .into_iter()
        .map(|number| (number, prompt.session.ports[number].info()));
    let infos: Vec<(usize, &PortInfo)> = infos.collect();
    let mut functions: Vec<String> = infos.iter().map(|(_, info)| info.pci.to_string()).collect();
    functions.dedup();
    if words[0] != "all" {
        functions.retain(|function| function == words[0]);
        if functions.is_empty() {
            complain(&format!("Device {} is not found", words[0]));
        }
    }
    let mut text = String::new();
    for function in functions {
        let mut ports = infos
            .iter()
            .filter(|(_, info)| info.pci.to_string() == function)
            .peekable();
        if let Some((_, first)) = ports.peek() {
            let (vendor, device) = first.pci_ids;
            let _ = write!(
                text,
                "\n{BORDER} Infos for device {function} {BORDER}\nBus name: pci\n\
                 Bus information: vendor_id={vendor:x}, device_id={device:x}\n\
                 Driver name: net_mana\nDevargs: \nConnect to socket: {}\n",
                first.numa_node.map_or(-1, i64::from),
            );
        }
        for (number, info) in ports {
            let _ = writeln!(
                text,
                "\n\tPort id: {number} \n\tMAC address: {}\n\tDevice name: {}_port{}\n\
                 \tDevice speed capability: Unknown",
                upper(info.mac),
                info.pci,
                info.port,
            );
        }
    }
    say(&text)
}
