//! Which steps a machine needs.

use crate::doctor::checks::Routes;
use crate::doctor::machine::{Machine, Port};
use crate::doctor::tree::Seen;

use super::step::Step;

/// What is wanted.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Hugepages of each node; 0 for none.
    pub hugepages: u64,
    /// Their size in KiB.
    pub page_kib: u64,
    /// The one node that gets them.
    pub node: Option<u32>,
    /// Whether the synthetic channels go to user mode.
    pub netvsc: bool,
    /// Who is to run the driver without root.
    pub user: Option<String>,
    /// Whether interfaces by which the machine is reached may be taken down.
    pub force: bool,
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    #[error("no port: {0}; `mana doctor` says more")]
    NoPort(String),
    #[error(
        "{interface} carries {by}, and taking it down would cut the machine off: choose another port \
         with --port, add a second network interface to the VM, or use --force"
    )]
    Reached { interface: String, by: &'static str },
    #[error("/sys/class/net/{interface}/flags can't be read: is it UP or DOWN?")]
    State { interface: String },
    #[error("{path} is not there: this kernel has no hugepages of {kib} KiB on that node")]
    NoPages { path: String, kib: u64 },
    #[error("{0}")]
    Unclear(String),
    #[error("{interface} has no VMBus device: --netvsc needs the synthetic interface of the port")]
    NoChannel { interface: String },
    #[error("there is no user `{user}` in /etc/passwd")]
    NoUser { user: String },
    #[error("`{user}` is no name of a user")]
    BadUser { user: String },
}

/// The steps, in their order, and the ports that will be free.
pub struct Plan {
    pub steps: Vec<Step>,
    pub ports: Vec<Port>,
}

/// Modules of a port, in the order in which they are loaded.
const MODULES: [&str; 3] = ["mana", "ib_uverbs", "mana_ib"];

/// What of `wanted` is not so yet.
pub fn plan(machine: &Machine, wanted: &Wanted) -> Result<Plan, PlanError> {
    let ports = ports(machine, wanted)?;
    let mut steps = modules(machine);
    hugepages(machine, wanted, &mut steps)?;
    if let Some(user) = &wanted.user {
        rights(machine, user, &mut steps)?;
    }
    for port in &ports {
        for interface in port.interfaces() {
            match interface.up {
                Some(true) => steps.push(Step::LinkDown {
                    interface: interface.name.clone(),
                }),
                Some(false) => {}
                None => {
                    let interface = interface.name.clone();
                    return Err(PlanError::State { interface });
                }
            }
        }
    }
    if wanted.netvsc {
        channels(machine, &ports, &mut steps)?;
    }
    Ok(Plan { steps, ports })
}

/// What loads the modules that are not loaded.
fn modules(machine: &Machine) -> Vec<Step> {
    match machine.preloaded() {
        true => Vec::new(),
        false => MODULES
            .into_iter()
            .filter_map(|module| load(machine, module))
            .collect(),
    }
}

/// What makes the ports appear, where a MANA function has none because its drivers are not loaded: the
/// rest can be planned only then.
pub fn drivers(machine: &Machine) -> Plan {
    let hidden = machine.all_ports().is_empty() && !machine.functions().is_empty();
    Plan {
        steps: if hidden { modules(machine) } else { Vec::new() },
        ports: Vec::new(),
    }
}

/// The ports that are asked for; where none is, all by which the machine is not reached.
fn ports(machine: &Machine, wanted: &Wanted) -> Result<Vec<Port>, PlanError> {
    let routes = Routes::read(machine);
    let mut ports = machine.ports();
    let reached = |port: &Port| {
        port.interfaces()
            .find_map(|it| Some((it.name.clone(), routes.reached_by(&it.name)?)))
    };
    if wanted.force {
        // Whoever forces it has read what it does.
    } else if machine.wanted.is_none() && ports.iter().any(|port| reached(port).is_none()) {
        ports.retain(|port| reached(port).is_none());
    } else if let Some((interface, by)) = ports.iter().find_map(reached) {
        return Err(PlanError::Reached { interface, by });
    }
    if ports.is_empty() {
        return Err(PlanError::NoPort(match &machine.wanted {
            Some(wanted) => format!("none is {wanted}"),
            None => "no interface belongs to a MANA function".to_owned(),
        }));
    }
    Ok(ports)
}

fn load(machine: &Machine, module: &str) -> Option<Step> {
    let loaded = machine.tree.exists(&format!("/sys/module/{module}"));
    (!loaded).then(|| Step::Module {
        name: module.to_owned(),
    })
}

fn hugepages(machine: &Machine, wanted: &Wanted, steps: &mut Vec<Step>) -> Result<(), PlanError> {
    if wanted.hugepages == 0 {
        return Ok(());
    }
    let folder = "/sys/devices/system/node";
    let nodes: Vec<u32> = machine
        .tree
        .list(folder)
        .ok()
        .unwrap_or_default()
        .iter()
        .filter_map(|name| name.strip_prefix("node")?.parse().ok())
        .filter(|node| wanted.node.is_none_or(|wanted| wanted == *node))
        .collect();
    let kib = wanted.page_kib;
    let size = format!("hugepages-{kib}kB/nr_hugepages");
    let mut paths: Vec<String> = nodes
        .iter()
        .map(|node| format!("{folder}/node{node}/hugepages/{size}"))
        .collect();
    if paths.is_empty() {
        paths.push(match wanted.node {
            Some(node) => format!("{folder}/node{node}/hugepages/{size}"),
            None => format!("/sys/kernel/mm/hugepages/{size}"),
        });
    }
    for path in paths {
        match machine.tree.number::<u64>(&path) {
            Seen::Is(before) if before < wanted.hugepages => steps.push(Step::Hugepages {
                path,
                before,
                after: wanted.hugepages,
            }),
            Seen::Is(_) => {}
            Seen::Absent => return Err(PlanError::NoPages { path, kib }),
            Seen::Unclear(why) => return Err(PlanError::Unclear(why)),
        }
    }
    Ok(())
}

/// Lets a user pin memory and open the nodes, now and after the next boot.
fn rights(machine: &Machine, user: &str, steps: &mut Vec<Step>) -> Result<(), PlanError> {
    // It becomes part of file names and of a rule.
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    if user.is_empty() || user.starts_with(['-', '.']) || !user.chars().all(plain) {
        return Err(PlanError::BadUser {
            user: user.to_owned(),
        });
    }
    let passwd = machine.tree.read("/etc/passwd").ok().unwrap_or_default();
    let uid = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == user).then(|| fields.nth(1)?.parse().ok())?
    });
    let Some(uid) = uid else {
        return Err(PlanError::NoUser {
            user: user.to_owned(),
        });
    };
    let limits = format!("{user} - memlock unlimited\n");
    let rule = format!("SUBSYSTEM==\"infiniband_verbs\", KERNEL==\"uverbs*\", OWNER=\"{user}\"\n");
    for (path, after) in [
        (
            format!("/etc/security/limits.d/90-mana-{user}.conf"),
            limits,
        ),
        (format!("/etc/udev/rules.d/90-mana-{user}.rules"), rule),
    ] {
        let before = match machine.tree.read(&path) {
            Seen::Is(text) => Some(format!("{text}\n")),
            Seen::Absent => None,
            Seen::Unclear(why) => return Err(PlanError::Unclear(why)),
        };
        if before.as_ref() != Some(&after) {
            steps.push(Step::File {
                path,
                before,
                after,
            });
        }
    }
    for device in machine.mana_ib() {
        let Some(node) = &device.node else { continue };
        let path = format!("/dev/infiniband/{node}");
        if let Seen::Is(rights) = machine.tree.rights(&path)
            && rights.uid != uid
        {
            steps.push(Step::Owner {
                path,
                before: rights.uid,
                after: uid,
            });
        }
    }
    Ok(())
}

fn channels(machine: &Machine, ports: &[Port], steps: &mut Vec<Step>) -> Result<(), PlanError> {
    let mut devices = Vec::new();
    for port in ports {
        let synthetic = port.synthetic.as_ref();
        let device = synthetic
            .filter(|it| it.driver.as_deref() == Some("hv_netvsc"))
            .and_then(|it| it.device.clone());
        let Some(device) = device else {
            let interface = synthetic.unwrap_or(&port.netdev).name.clone();
            return Err(PlanError::NoChannel { interface });
        };
        devices.push(device);
    }
    steps.extend(load(machine, "uio_hv_generic"));
    steps.push(Step::NewClass);
    steps.extend(devices.into_iter().map(|device| Step::Channel { device }));
    Ok(())
}
