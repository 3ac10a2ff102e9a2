//! The ports: their interfaces, who owns them, and how the machine is reached.

use mana_verbs::LinuxSystem;
use uverbs_abi::System;

use super::Routes;
use crate::doctor::machine::{Interface, Machine, Port};
use crate::doctor::report::Check;
use crate::doctor::tree::Seen;

/// Ports that are listed one by one; a machine with more has them counted.
const LISTED: usize = 16;

/// Which ports are there?
pub fn ports(machine: &Machine, routes: &Routes) -> Check {
    let name = "ports";
    let why =
        "a port is an interface of the MANA function, with the synthetic interface of its MAC";
    if let Seen::Unclear(reason) = &machine.interfaces {
        return Check::unknown(name, reason, why);
    }
    let (all, ports) = (machine.all_ports(), machine.ports());
    if all.is_empty() {
        return match machine.functions().is_empty() {
            true => Check::unknown(name, "no MANA function", why),
            false => Check::fail(name, "the MANA function has no interface", why)
                .mended_by("sudo modprobe mana && sudo dmesg | grep -i mana"),
        };
    }
    if let (true, Some(wanted)) = (ports.is_empty(), &machine.wanted) {
        let there: Vec<String> = all.iter().take(LISTED).map(describe).collect();
        let seen = format!("no port is {wanted}; there are {}", there.join("; "));
        return Check::fail(name, seen, why).mended_by("mana doctor, without --port, names all");
    }
    let with_addresses = |port: &Port| {
        let own = |it: &Interface| routes.addresses_of(&it.name);
        let addresses: Vec<String> = port.interfaces().flat_map(own).collect();
        match addresses.is_empty() {
            true => describe(port),
            false => format!("{} ({})", describe(port), addresses.join(" ")),
        }
    };
    let mut seen: Vec<String> = ports.iter().take(LISTED).map(with_addresses).collect();
    if ports.len() > LISTED {
        seen.push(format!("and {} more", ports.len() - LISTED));
    }
    Check::ok(name, seen.join("; "))
}

fn describe(port: &Port) -> String {
    let state = |interface: &Interface| match interface.up {
        Some(true) => "UP",
        Some(false) => "DOWN",
        None => "state unknown",
    };
    let mut text = format!(
        "{} {} {}",
        port.selector(),
        port.netdev.name,
        state(&port.netdev)
    );
    if let Some(synthetic) = &port.synthetic {
        text += &format!(", synthetic {} {}", synthetic.name, state(synthetic));
    }
    text
}

/// The command that takes a port's interfaces down, the synthetic first because it takes the VF up
/// again.
fn down_command(port: &Port) -> String {
    let down = |it: &Interface| format!("sudo ip link set dev {} down", it.name);
    port.interfaces().map(down).collect::<Vec<_>>().join(" && ")
}

/// Has the kernel let go of the ports?
pub fn netdev_down(machine: &Machine, routes: &Routes) -> Check {
    let name = "netdev-down";
    let why = "while the interface or its synthetic partner is UP the kernel owns the port, and \
               queues fail with -19 (6.12) or -16 (7.3)";
    let ports = machine.ports();
    if ports.is_empty() {
        return Check::unknown(name, "no port", why);
    }
    let unknown = ports.iter().find_map(|port| {
        let unread = port.interfaces().find(|it| it.up.is_none())?;
        Some(format!(
            "/sys/class/net/{}/flags can't be read",
            unread.name
        ))
    });
    if let Some(unknown) = unknown {
        return Check::unknown(name, unknown, why);
    }
    let is_up = |port: &&Port| port.interfaces().any(|it| it.up == Some(true));
    let up: Vec<&Port> = ports.iter().filter(is_up).collect();
    if up.is_empty() {
        return Check::ok(name, "all interfaces of the ports are DOWN");
    }
    let names: Vec<&str> = up
        .iter()
        .flat_map(|port| port.interfaces().filter(|it| it.up == Some(true)))
        .take(LISTED)
        .map(|it| it.name.as_str())
        .collect();
    let seen = format!("{} UP", names.join(", "));
    let check = match up.len() == ports.len() {
        true => Check::fail(name, seen, why),
        false => Check::warning(name, seen, why),
    };
    let free = |port: &&&Port| {
        port.interfaces()
            .all(|it| routes.reached_by(&it.name).is_none())
    };
    match up.iter().find(free) {
        Some(port) => check.mended_by(down_command(port)),
        None => check.mended_by(
            "the machine is reached by these: add a second network interface to the VM for the \
             driver and leave them UP",
        ),
    }
}

/// Would taking a port's interface down cut the machine off?
pub fn default_route(machine: &Machine, routes: &Routes) -> Check {
    let name = "default-route";
    let why = "taking this interface down for the driver would cut the machine off";
    if !routes.known {
        return Check::unknown(name, "/proc/net has no routes", why);
    }
    let mut reached = Vec::new();
    for port in machine.ports() {
        for interface in port.interfaces() {
            if let Some(by) = routes.reached_by(&interface.name) {
                reached.push(format!("{} carries {by}", interface.name));
            }
        }
    }
    if reached.is_empty() {
        let by = match routes.default.is_empty() {
            true => "there is no default route".to_owned(),
            false => format!("the default route is by {}", routes.default.join(", ")),
        };
        return Check::ok(name, by);
    }
    Check::warning(name, reached.join(", "), why)
        .mended_by("choose another port with mac=; the VM needs a second network interface for it")
}

/// What are the MTUs?
pub fn mtu(machine: &Machine) -> Check {
    let name = "mtu";
    let why =
        "both interfaces of a port should have the same MTU, and buffers must hold its packets";
    let ports = machine.ports();
    if ports.is_empty() {
        return Check::unknown(name, "no port", why);
    }
    let mut seen = Vec::new();
    for port in &ports {
        let Some(mtu) = port.netdev.mtu else {
            return Check::unknown(
                name,
                format!("the MTU of {} can't be read", port.netdev.name),
                why,
            );
        };
        if let Some(synthetic) = &port.synthetic
            && synthetic.mtu.is_some_and(|other| other != mtu)
        {
            let other = synthetic.mtu.unwrap_or_default();
            let seen = format!(
                "{} has {mtu}, {} has {other}",
                port.netdev.name, synthetic.name
            );
            return Check::warning(name, seen, why)
                .mended_by(format!("sudo ip link set dev {} mtu {mtu}", synthetic.name));
        }
        let text = format!("{} {mtu}", port.netdev.name);
        seen.push(match mtu > 1500 {
            // Ethernet header, a VLAN tag, and the headroom before a packet.
            true => format!(
                "{text} (buffers of {} bytes: --mbuf-size={0})",
                mtu + 18 + 128
            ),
            false => text,
        });
    }
    seen.truncate(LISTED);
    Check::ok(name, seen.join(", "))
}

/// Does traffic take the synthetic path?
pub fn slow_path(machine: &Machine) -> Check {
    let name = "slow-path";
    let why = "packets that pass by the VF never reach the driver; below 1.2 million a second is the \
               sign of it";
    let ports = machine.ports();
    let synthetic: Vec<&Interface> = ports
        .iter()
        .filter_map(|it| it.synthetic.as_ref())
        .collect();
    if synthetic.is_empty() {
        return Check::ok(name, "no port has a synthetic interface");
    }
    if !machine.live {
        return Check::unknown(name, "told by ethtool's statistics, not by files", why)
            .mended_by(format!("ethtool -S {} | grep -e vf_", synthetic[0].name));
    }
    for interface in synthetic {
        let statistics = match LinuxSystem::new().netdev_statistics(&interface.name) {
            Ok(statistics) => statistics,
            Err(error) => return Check::unknown(name, error.to_string(), why),
        };
        let of = |name: &str| statistics.iter().find(|it| it.0 == name).map(|it| it.1);
        let path = format!("/sys/class/net/{}/statistics/rx_packets", interface.name);
        let (Some(by_vf), Some(all)) =
            (of("vf_rx_packets"), machine.tree.number::<u64>(&path).ok())
        else {
            let seen = format!("{} counts no packets of its VF", interface.name);
            return Check::unknown(name, seen, why);
        };
        // A few always come by: broadcasts, and what arrives before the VF is there.
        if all > 1000 && by_vf < all / 2 {
            let seen = format!(
                "{}: {by_vf} of {all} packets came by the VF",
                interface.name
            );
            return Check::warning(name, seen, why).mended_by(format!(
                "look why the VF is not used: sudo dmesg | grep -e mana -e {}",
                interface.name
            ));
        }
    }
    Check::ok(name, "packets came by the VF")
}

/// Is the synthetic channel where it should be?
pub fn netvsc(machine: &Machine) -> Check {
    let name = "netvsc";
    let why = "bound to uio_hv_generic the synthetic interface is gone: broadcasts and packets during \
               host servicing reach only a netvsc driver in user mode, which this project has not";
    let folder = "/sys/bus/vmbus/drivers/uio_hv_generic";
    let bound: Vec<String> = machine
        .tree
        .list(folder)
        .ok()
        .unwrap_or_default()
        .into_iter()
        // A UUID; beside them stand the driver's own files.
        .filter(|name| name.len() == 36 && name.matches('-').count() == 4)
        .collect();
    let Some(first) = bound.first() else {
        return Check::ok(name, "no synthetic channel is in user mode");
    };
    let seen = format!("{} bound to uio_hv_generic", bound.join(", "));
    Check::warning(name, seen, why).mended_by(format!(
        "echo {first} | sudo tee {folder}/unbind && \
         echo {first} | sudo tee /sys/bus/vmbus/drivers/hv_netvsc/bind (not needed for this driver)"
    ))
}
