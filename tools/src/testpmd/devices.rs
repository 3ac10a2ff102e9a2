//! From device arguments to open ports: models of this command line, or the machine's devices.

use std::sync::Arc;

use mana_model::{DoorbellMode, LinkConfig, Model, ModelConfig, Runner, config::GenConfig};
use mana_pmd::{Candidate, Port, ProviderChoice, Selector, discover};
use mana_verbs::LinuxSystem;
use uverbs_abi::{PciAddress, System};

use super::error::Error;
use super::getopt::UsageError;

/// The machine a run works on. A model's device thread runs as long as this lives.
pub struct Machine {
    system: Arc<dyn System>,
    selectors: Vec<Selector>,
    blocked: String,
    model: Option<ModelRun>,
}

struct ModelRun {
    model: Model,
    /// Whether every source of packets ends.
    finite: bool,
    /// Whether the host's kernel is behind a port.
    taps: bool,
    runner: Runner,
}

impl Machine {
    /// Builds the machine that the device arguments describe: models, or else the running Linux.
    /// `blocked` names models or PCI addresses to be left out.
    ///
    /// # Errors
    ///
    /// Models and hardware mixed, arguments that are neither, a model that can't be.
    pub fn new(devices: &[String], blocked: &[String]) -> Result<Machine, Error> {
        let (models, others): (Vec<&String>, Vec<&String>) =
            devices.iter().partition(|text| is_model(text));
        match (models.as_slice(), others.as_slice()) {
            ([model, ..], [other, ..]) => Err(Error::Usage(UsageError::Conflict(format!(
                "`{model}` is a model and `{other}` is not: a run uses either models or the \
                 machine's devices"
            )))),
            ([_, ..], []) => Machine::of_models(&models, blocked),
            ([], _) => Machine::of_linux(&others, blocked),
        }
    }

    fn of_models(texts: &[&String], blocked: &[String]) -> Result<Machine, Error> {
        let mut devices = Vec::new();
        let mut provider = ProviderChoice::Auto;
        for text in texts {
            let name = text.split(',').next().unwrap_or(text);
            if !blocked.iter().any(|block| block == name) {
                let (text, wanted) = without_provider(text)?;
                join(&mut provider, wanted, name)?;
                devices.push(mana_model::parse_device(&text)?);
            }
        }
        if devices.is_empty() {
            return Err(Error::NoPorts {
                blocked: blocked.join(", "),
                found: " none".to_owned(),
            });
        }
        let links = || {
            let ports = devices.iter().flat_map(|device| &device.ports);
            ports.map(|port| &port.link)
        };
        let finite = is_finite(links());
        let taps = links().any(|link| matches!(link, LinkConfig::Tap(_)));
        let model = Model::new(ModelConfig {
            devices,
            doorbells: DoorbellMode::Polled,
        })?;
        let runner = model.run();
        let system = model.system();
        let addresses_blocked = parse_blocked(blocked.iter().filter(|block| !is_model(block)))?;
        // A model that was named is wanted: every port of it, and a netdev that is UP is an error.
        let mut addresses: Vec<PciAddress> = candidates(&system)?
            .into_iter()
            .map(|candidate| candidate.pci)
            .collect();
        addresses.dedup();
        let selectors = addresses
            .into_iter()
            .filter(|pci| !addresses_blocked.contains(pci))
            .map(|pci| Selector {
                provider,
                ..at_address(pci)
            })
            .collect();
        Ok(Machine {
            system,
            selectors,
            blocked: blocked.join(", "),
            model: Some(ModelRun {
                model,
                finite,
                taps,
                runner,
            }),
        })
    }

    fn of_linux(texts: &[&String], blocked: &[String]) -> Result<Machine, Error> {
        let system: Arc<dyn System> = Arc::new(LinuxSystem::new());
        let addresses_blocked = parse_blocked(blocked)?;
        let mut selectors: Vec<Selector> = Vec::new();
        for text in texts {
            let selector: Selector = text.parse().map_err(Error::Device)?;
            if selector
                .pci
                .is_none_or(|pci| !addresses_blocked.contains(&pci))
            {
                merge(&mut selectors, selector)?;
            }
        }
        if texts.is_empty() {
            selectors = match addresses_blocked.as_slice() {
                [] => vec![Selector::default()],
                blocked => unblocked(&candidates(&system)?, blocked)?,
            };
        }
        Ok(Machine {
            system,
            selectors,
            blocked: blocked.join(", "),
            model: None,
        })
    }

    /// Opens the selected ports, in the order in which they were asked for.
    ///
    /// # Errors
    ///
    /// As [`Port::open`]; no port at all.
    pub fn open_ports(&self) -> Result<Vec<Port>, Error> {
        let mut ports = Vec::new();
        for selector in &self.selectors {
            ports.extend(Port::open(&self.system, selector).map_err(refused)?);
        }
        if ports.is_empty() {
            let found = candidates(&self.system)?;
            let lines: String = found.iter().map(|one| format!("\n  {one}")).collect();
            return Err(Error::NoPorts {
                blocked: self.blocked.clone(),
                found: if lines.is_empty() {
                    " none".to_owned()
                } else {
                    lines
                },
            });
        }
        for (number, port) in ports.iter_mut().enumerate() {
            port.set_id(number as u16);
        }
        Ok(ports)
    }

    /// The model, if this is one.
    pub fn model(&self) -> Option<&Model> {
        self.model.as_ref().map(|run| &run.model)
    }

    /// Whether every source of packets is known to end, as a capture does that is replayed.
    pub fn is_finite(&self) -> bool {
        self.model.as_ref().is_some_and(|run| run.finite)
    }

    /// Whether the host's kernel is behind a port.
    pub fn has_taps(&self) -> bool {
        self.model.as_ref().is_some_and(|run| run.taps)
    }

    /// Whether every source of packets is known to end and has ended, with nothing in flight.
    pub fn drained(&self) -> bool {
        self.model
            .as_ref()
            .is_some_and(|run| run.finite && run.model.drained())
    }

    /// What a model lost outside the driver, one line a port that lost something: hardware tells such
    /// losses through the kernel only.
    pub fn losses(&self) -> String {
        let Some(run) = &self.model else {
            return String::new();
        };
        let mut text = String::new();
        for port in 0..run.model.ports() {
            let counters = run.model.port(port).counters();
            let lost = [
                (counters.rx_no_buffer, "arrived while no buffer was posted"),
                (counters.rx_truncated, "did not fit their buffer"),
                (
                    counters.link_dropped,
                    "were refused by the tap or its kernel",
                ),
            ];
            for (frames, why) in lost {
                if frames > 0 {
                    text += &format!("model: port {port}: {frames} frames {why}\n");
                }
            }
        }
        text
    }

    /// Stops the device thread, if there is one, and returns what the model found wrong.
    pub fn finish(self) -> Vec<mana_model::Finding> {
        self.model.map_or_else(Vec::new, |run| {
            drop(run.runner);
            run.model.findings()
        })
    }
}

/// Whether a device argument describes a model.
fn is_model(text: &str) -> bool {
    text.starts_with("model")
}

/// Whether packets come from somewhere and every source ends.
fn is_finite<'a>(links: impl Iterator<Item = &'a LinkConfig>) -> bool {
    let mut sources = 0;
    for link in links {
        match link {
            LinkConfig::Tap(_) | LinkConfig::Gen(GenConfig { count: None, .. }) => return false,
            LinkConfig::Gen(_) | LinkConfig::Pcap { rx: Some(_), .. } => sources += 1,
            _ => {}
        }
    }
    sources > 0
}

fn candidates(system: &Arc<dyn System>) -> Result<Vec<Candidate>, Error> {
    discover(system).map_err(refused)
}

fn refused(error: mana_pmd::Error) -> Error {
    match error {
        mana_pmd::Error::NoDevice => Error::NoHardware(error),
        error => Error::Device(error),
    }
}

fn parse_blocked<'a>(
    texts: impl IntoIterator<Item = &'a String>,
) -> Result<Vec<PciAddress>, Error> {
    let parse = |text: &String| {
        text.parse::<PciAddress>().map_err(|_| {
            Error::Usage(UsageError::BadValue {
                option: "--block".to_owned(),
                value: text.clone(),
                expected: "expected a PCI address such as 7870:00:00.0, or a model's name"
                    .to_owned(),
            })
        })
    };
    texts.into_iter().map(parse).collect()
}

fn at_address(pci: PciAddress) -> Selector {
    Selector {
        pci: Some(pci),
        ..Selector::default()
    }
}

/// Adds a selector; one with the PCI address of an earlier one joins that, because a PCI function is
/// opened once.
fn merge(selectors: &mut Vec<Selector>, selector: Selector) -> Result<(), Error> {
    let same = |other: &&mut Selector| {
        selector.pci.is_some()
            && other.pci == selector.pci
            && other.netdev.is_none()
            && other.ib_device.is_none()
            && selector.netdev.is_none()
            && selector.ib_device.is_none()
    };
    let Some(other) = selectors.iter_mut().find(same) else {
        selectors.push(selector);
        return Ok(());
    };
    join(
        &mut other.provider,
        selector.provider,
        &selector.to_string(),
    )?;
    if other.macs.is_empty() || selector.macs.is_empty() {
        // Without a MAC one of them means all ports.
        other.macs.clear();
    } else {
        for mac in selector.macs {
            if !other.macs.contains(&mac) {
                other.macs.push(mac);
            }
        }
    }
    Ok(())
}

/// Adds what a device argument says of the provider to what others said.
fn join(provider: &mut ProviderChoice, wanted: ProviderChoice, device: &str) -> Result<(), Error> {
    match (*provider, wanted) {
        (_, ProviderChoice::Auto) => {}
        (ProviderChoice::Auto, wanted) => *provider = wanted,
        (provider, wanted) if provider == wanted => {}
        (provider, wanted) => {
            return Err(Error::Usage(UsageError::Conflict(format!(
                "`{device}`: provider={wanted} here and provider={provider} before: a device is \
                 opened once, through one provider"
            ))));
        }
    }
    Ok(())
}

/// A model's argument without `provider=`, which is not the model's business.
fn without_provider(text: &str) -> Result<(String, ProviderChoice), Error> {
    let mut provider = ProviderChoice::Auto;
    let mut rest = Vec::new();
    for part in text.split(',') {
        match part.strip_prefix("provider=") {
            Some(name) => {
                let wanted = name.parse().map_err(|error| {
                    Error::Usage(UsageError::Conflict(format!("`{text}`: {error}")))
                })?;
                join(&mut provider, wanted, text)?;
            }
            None => rest.push(part),
        }
    }
    Ok((rest.join(","), provider))
}

/// Every usable port that is not at a blocked address, by its MAC; as without any device argument,
/// ports whose netdev is UP are left alone and named.
fn unblocked(candidates: &[Candidate], blocked: &[PciAddress]) -> Result<Vec<Selector>, Error> {
    let mut selectors = Vec::new();
    for candidate in candidates {
        if blocked.contains(&candidate.pci) || !candidate.lacks.is_empty() {
            if !blocked.contains(&candidate.pci) {
                tracing::warn!("left alone: {candidate}");
            }
            continue;
        }
        if let Some(netdev) = &candidate.netdev {
            let mut selector = at_address(candidate.pci);
            selector.macs.push(netdev.mac);
            merge(&mut selectors, selector)?;
        }
    }
    Ok(selectors)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn models_and_hardware_do_not_mix() {
        let devices = texts(&["model0", "7870:00:00.0"]);
        let error = Machine::new(&devices, &[])
            .err()
            .expect("an error")
            .to_string();
        assert!(
            error.contains("either models or the machine's devices"),
            "{error}"
        );
    }

    #[test]
    fn the_libraries_can_not_reach_a_model() {
        let devices = texts(&["model0,provider=rdma-core"]);
        let error = Machine::new(&devices, &[]).and_then(|machine| machine.open_ports());
        let error = error.expect_err("no port").to_string();
        assert!(error.contains("running kernel only"), "{error}");
        assert!(error.contains("provider=uverbs"), "{error}");
    }

    #[test]
    fn every_model_is_opened_by_uverbs() {
        for text in ["model0", "model0,provider=auto", "model0,provider=uverbs"] {
            let machine = Machine::new(&texts(&[text]), &[]).expect("a model");
            let ports = machine.open_ports().expect("a port");
            assert_eq!(ports[0].info().provider, "uverbs");
        }
    }

    #[test]
    fn a_device_has_one_provider() {
        for devices in [
            ["model0,provider=uverbs", "model1,provider=rdma-core"],
            [
                "7870:00:00.0,provider=uverbs",
                "7870:00:00.0,provider=rdma-core",
            ],
        ] {
            let error = Machine::new(&texts(&devices), &[]).err().expect("an error");
            assert!(error.to_string().contains("one provider"), "{error}");
        }
        let error = Machine::new(&texts(&["model0,provider=dpdk"]), &[])
            .err()
            .expect("an error");
        assert!(
            error.to_string().contains("auto, rdma-core and uverbs"),
            "{error}"
        );
    }

    #[test]
    fn several_models_make_one_machine_with_ports_in_the_order_given() {
        let devices = texts(&[
            "model0,mac=00:0d:3a:00:00:07,mac=00:0d:3a:00:00:05",
            "model1,kernel=7.3",
        ]);
        let machine = Machine::new(&devices, &[]).unwrap();
        let ports = machine.open_ports().unwrap();
        let macs: Vec<String> = ports
            .iter()
            .map(|port| port.info().mac.to_string())
            .collect();
        assert_eq!(
            macs,
            [
                "00:0d:3a:00:00:07",
                "00:0d:3a:00:00:05",
                "00:0d:3a:00:01:00"
            ]
        );
        drop(ports);
        assert!(machine.finish().is_empty());
    }

    #[test]
    fn a_blocked_model_or_address_is_left_out() {
        let devices = texts(&["model0", "model1"]);
        for blocked in ["model0", "7870:00:00.0"] {
            let machine = Machine::new(&devices, &texts(&[blocked])).unwrap();
            assert_eq!(machine.open_ports().unwrap().len(), 1, "{blocked}");
        }
        assert!(Machine::new(&devices, &texts(&["model0", "model1"])).is_err());
        assert!(Machine::new(&devices, &texts(&["nonsense"])).is_err());
    }

    #[test]
    fn only_sources_that_end_make_a_run_finite() {
        let link = |text: &str| {
            mana_model::parse_device(text).unwrap().ports[0]
                .link
                .clone()
        };
        let pcap = link("model0,link=pcap:rx=a:tx=b");
        let counted = link("model0,link=gen:count=5");
        let endless = link("model0,link=gen");
        assert!(is_finite([&pcap, &counted, &LinkConfig::Loop].into_iter()));
        assert!(!is_finite([&pcap, &endless].into_iter()));
        assert!(!is_finite([&LinkConfig::Loop].into_iter()));
    }

    #[test]
    fn selectors_of_one_function_are_joined() {
        let mut selectors = Vec::new();
        for text in [
            "7870:00:00.0,mac=00:0d:3a:00:00:01",
            "7870:00:00.0,mac=00:0d:3a:00:00:02",
            "7870:00:01.0,mac=00:0d:3a:00:00:03",
            "7870:00:01.0",
        ] {
            merge(&mut selectors, text.parse().unwrap()).unwrap();
        }
        assert_eq!(selectors.len(), 2);
        assert_eq!(selectors[0].macs.len(), 2);
        assert!(selectors[1].macs.is_empty(), "all ports");
    }
}
