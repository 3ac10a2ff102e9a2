//! The PCI functions.

use uverbs_abi::ids::DEVICE_MANA_PF;

use super::Asked;
use crate::doctor::machine::{Machine, Wanted};
use crate::doctor::report::Check;
use crate::doctor::tree::Seen;

/// Class of an Ethernet controller: 02 00, any interface.
const ETHERNET: u32 = 0x0200;

/// Is there a MANA at all?
pub fn pci_device(machine: &Machine) -> Check {
    let name = "pci-device";
    let why = "without a MANA function there is nothing to drive";
    let functions = match &machine.functions {
        Seen::Unclear(reason) => return Check::unknown(name, reason, why),
        Seen::Absent => {
            return Check::unknown(name, "/sys/bus/pci/devices is not there", why)
                .mended_by("mount sysfs: sudo mount -t sysfs sysfs /sys");
        }
        Seen::Is(functions) => functions,
    };
    if functions.is_empty() {
        return Check::fail(name, "no PCI function 1414:00ba or 1414:00b9", why).mended_by(
            "az network nic update --accelerated-networking true --resource-group GROUP --name NIC \
             (with a VM size that has MANA; look again with: lspci -d 1414:)",
        );
    }
    if let Some(Wanted::Pci(pci)) = machine.wanted
        && functions.iter().all(|function| function.pci != pci)
    {
        return Check::fail(name, format!("{pci} is no MANA function"), why)
            .mended_by("lspci -D -d 1414:");
    }
    let seen: Vec<String> = functions
        .iter()
        .map(|function| {
            let kind = match function.device_id {
                DEVICE_MANA_PF => "PF",
                _ => "VF",
            };
            format!("{} ({kind} 1414:{:04x})", function.pci, function.device_id)
        })
        .collect();
    let odd = functions
        .iter()
        .find(|function| function.class.is_some_and(|class| class >> 8 != ETHERNET));
    match odd {
        Some(function) => {
            let class = function.class.unwrap_or_default();
            let seen = format!("{}: class {class:#08x}", function.pci);
            let why = "a MANA is an Ethernet controller (class 0x0200); the kernel's driver and \
                       DPDK may pass over this one";
            Check::warning(name, seen, why).mended_by("lspci -nn -D -d 1414:")
        }
        None => Check::ok(name, seen.join(", ")),
    }
}

/// Has the kernel's driver the function?
pub fn kernel_driver(machine: &Machine) -> Check {
    let name = "kernel-driver";
    let why = "the port is reached through the kernel's mana driver, which must stay bound";
    let functions = machine.functions();
    if functions.is_empty() {
        return Check::unknown(name, "no MANA function", why);
    }
    let strangers: Vec<_> = functions
        .iter()
        .filter(|function| function.driver.as_deref() != Some("mana"))
        .collect();
    let Some(first) = strangers.first() else {
        return Check::ok(name, "mana is bound");
    };
    let said: Vec<String> = strangers
        .iter()
        .map(|function| match &function.driver {
            Some(driver) => format!("{} is bound to {driver}", function.pci),
            None => format!("{} has no driver", function.pci),
        })
        .collect();
    let pci = first.pci;
    let fix = match &first.driver {
        Some(driver) => format!(
            "echo {pci} | sudo tee /sys/bus/pci/drivers/{driver}/unbind && \
             echo {pci} | sudo tee /sys/bus/pci/drivers/mana/bind"
        ),
        None => format!(
            "sudo modprobe mana && echo {pci} | sudo tee /sys/bus/pci/drivers/mana/bind \
             (then: sudo dmesg | grep -i mana)"
        ),
    };
    let check = match strangers.len() == functions.len() {
        true => Check::fail(name, said.join(", "), why),
        false => Check::warning(name, said.join(", "), why),
    };
    check.mended_by(fix)
}

/// Are the cores near the device?
pub fn numa(machine: &Machine, asked: &Asked) -> Check {
    let name = "numa";
    let why = "a core of another node reaches rings and buffers more slowly";
    let functions = machine.functions();
    let nodes: Vec<u32> = functions.iter().filter_map(|it| it.numa_node).collect();
    let Some(&node) = nodes.first() else {
        return match functions.is_empty() {
            true => Check::unknown(name, "no MANA function", why),
            false => Check::ok(name, "the platform names no node for the device"),
        };
    };
    let path = format!("/sys/devices/system/node/node{node}/cpulist");
    let list = match machine.tree.read(&path) {
        Seen::Is(list) => list,
        Seen::Absent => return Check::unknown(name, format!("{path} is not there"), why),
        Seen::Unclear(reason) => return Check::unknown(name, reason, why),
    };
    let Some(near) = cores(&list) else {
        return Check::unknown(name, format!("{path} reads {list:?}"), why);
    };
    let far: Vec<String> = asked
        .cores
        .iter()
        .filter(|core| !near.contains(core))
        .map(u32::to_string)
        .collect();
    match far.is_empty() {
        true => Check::ok(name, format!("the device is on node {node}, cores {list}")),
        false => {
            let seen = format!(
                "cores {} are not on the device's node {node}",
                far.join(",")
            );
            Check::warning(name, seen, why).mended_by(format!("use cores out of {list}: -l {list}"))
        }
    }
}

/// A list of cores, as the kernel and testpmd write it: `0-3,8`.
pub fn cores(list: &str) -> Option<Vec<u32>> {
    let mut cores = Vec::new();
    for part in list.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        // No machine has more; a longer range is garbage.
        if last < first || last - first > 65_536 {
            return None;
        }
        cores.extend(first..=last);
    }
    Some(cores)
}

#[cfg(test)]
mod tests {
    use super::cores;

    #[test]
    fn a_list_of_cores_has_ranges_and_single_ones() {
        assert_eq!(cores("0-2,8"), Some(vec![0, 1, 2, 8]));
        assert_eq!(cores(""), Some(vec![]));
        for garbage in ["x", "3-1", "0-4294967295", "1,,x", "-"] {
            assert_eq!(cores(garbage), None, "{garbage}");
        }
    }
}
