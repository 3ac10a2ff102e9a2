//! What the next start of forwarding, or of a port, runs with.

use pmd_api::Capabilities;
use pmd_api::Support;
use uverbs_abi::Mac;

use super::{Prompt, complain};
use crate::testpmd::app_args::{MAX_BURST, MAX_PORTS, MIN_TX_PACKET};
use crate::testpmd::error::Error;
use crate::testpmd::getopt::most_like;
use crate::testpmd::modes::ModeName;
use crate::testpmd::run::say;

/// The largest VLAN id.
const MAX_VLAN: usize = 4095;

/// `set fwd MODE`.
pub fn mode(prompt: &mut Prompt<'_, '_>, words: &[&str]) -> Result<(), Error> {
    match words[0].parse::<ModeName>() {
        Ok(mode) => {
            prompt.session.args.mode = mode;
            say(&format!("Set {mode} packet forwarding mode\n"))
        }
        Err(error) => {
            let names = ModeName::ALL.map(|mode| mode.to_string());
            let nearest = most_like(words[0], names.iter().map(String::as_str));
            let hint = nearest.map(|name| format!("; did you mean `{name}`?"));
            complain(&format!(
                "`{}`: {error}{}",
                words[0],
                hint.unwrap_or_default()
            ));
            say("Bad arguments\n")
        }
    }
}

/// `set burst N`.
pub fn burst(prompt: &mut Prompt<'_, '_>, words: &[&str]) -> Result<(), Error> {
    match prompt.number(words[0], "a number of packets")? {
        Some(0) => complain("nb pkt per burst: 0 < 1 (minimum packet per burst)  ignored"),
        Some(burst) if burst > MAX_BURST => complain(&format!(
            "nb pkt per burst: {burst} > {MAX_BURST} (maximum packet per burst)  ignored"
        )),
        Some(burst) => {
            prompt.session.args.burst = burst;
            say(&format!("Number of packets per burst set to {burst}\n"))?;
        }
        None => {}
    }
    Ok(())
}

/// `set txpkts LENGTHS`.
pub fn lengths(prompt: &mut Prompt<'_, '_>, words: &[&str]) -> Result<(), Error> {
    let mut args = prompt.session.args.clone();
    let total = words[0]
        .split(',')
        .map(str::parse::<u32>)
        .sum::<Result<u32, _>>();
    if let Ok(total) = total
        && total < MIN_TX_PACKET
    {
        complain(&format!(
            "total packet length={total} < {MIN_TX_PACKET} - give up"
        ));
        return Ok(());
    }
    let taken = args.tx_lengths.take(words[0]);
    let checked = taken.and_then(|()| args.check().map_err(|error| error.to_string()));
    match checked {
        Ok(()) => prompt.session.args = args,
        Err(error) => complain(&format!("`{}`: {error}", words[0])),
    }
    Ok(())
}

/// `set nbcore N`.
pub fn cores(prompt: &mut Prompt<'_, '_>, words: &[&str]) -> Result<(), Error> {
    let most = prompt.session.cores.workers.len();
    match prompt.number(words[0], "a number of cores")? {
        Some(0) => complain("nb fwd cores 0 < 1 (minimum of forwarding lcores) - ignored"),
        Some(cores) if cores > most => complain(&format!(
            "nb fwd cores {cores} > {most} (max. number of configured lcores) - ignored"
        )),
        Some(cores) => {
            prompt.session.args.nb_cores = cores;
            say(&format!("Number of forwarding cores set to {cores}\n"))?;
        }
        None => {}
    }
    Ok(())
}

/// `set eth-peer N MAC`.
pub fn peer(prompt: &mut Prompt<'_, '_>, words: &[&str]) -> Result<(), Error> {
    let Some(number) = prompt.port(words[0])? else {
        return Ok(());
    };
    match words[1].parse::<Mac>() {
        Ok(_) if number >= MAX_PORTS => complain(&format!("ports end at {}", MAX_PORTS - 1)),
        Ok(mac) => prompt.session.args.eth_peers[number] = Some(mac),
        Err(_) => {
            complain(&format!(
                "`{}`: expected a MAC, as in aa:bb:cc:dd:ee:ff",
                words[1]
            ));
            say("Bad arguments\n")?;
        }
    }
    Ok(())
}

/// `set promisc PORTS on|off`.
pub fn promisc(prompt: &mut Prompt<'_, '_>, words: &[&str]) -> Result<(), Error> {
    filter(prompt, words, "promiscuous", |can| can.promiscuous)
}

/// `set allmulti PORTS on|off`.
pub fn allmulti(prompt: &mut Prompt<'_, '_>, words: &[&str]) -> Result<(), Error> {
    filter(prompt, words, "all-multicast", |can| can.all_multicast)
}

/// What can't be turned on is off already.
fn filter(
    prompt: &mut Prompt<'_, '_>,
    words: &[&str],
    name: &str,
    capability: fn(Capabilities) -> Support,
) -> Result<(), Error> {
    for number in prompt.ports(words[0])? {
        let support = prompt.session.ports[number].capability(capability);
        if words[1] == "on" {
            complain(&format!(
                "Error during enabling {name} mode for port {number}: Operation not supported \
                 ({support})"
            ));
        }
    }
    Ok(())
}

/// The open port of that number, if it is stopped, as testpmd wants it for offloads.
fn stopped(prompt: &Prompt<'_, '_>, word: &str) -> Result<Option<usize>, Error> {
    let number = prompt.port(word)?;
    if let Some(number) = number
        && prompt.session.ports[number].is_started()
    {
        complain(&format!("Please stop port {number} first"));
        return Ok(None);
    }
    Ok(number)
}

/// `csum set PROTOCOL hw|sw N`.
pub fn csum(prompt: &mut Prompt<'_, '_>, words: &[&str]) -> Result<(), Error> {
    let Some(number) = stopped(prompt, words[2])? else {
        return Ok(());
    };
    let (protocol, by) = (words[0], words[1]);
    let port = &mut prompt.session.ports[number];
    match port.by_device.take_choice(&format!("{protocol}={by}")) {
        Ok(()) => port.changed = true,
        Err(_) if by == "sw" => {}
        Err(_) => complain(&format!(
            "{} checksum offload is not supported by port {number}",
            match protocol {
                "outer-ip" => "Outer IP".to_owned(),
                "outer-udp" => "Outer UDP".to_owned(),
                protocol => protocol.to_uppercase(),
            }
        )),
    }
    show_csum(prompt, number)
}

/// `csum show N`.
pub fn csum_show(prompt: &mut Prompt<'_, '_>, words: &[&str]) -> Result<(), Error> {
    match prompt.port(words[0])? {
        Some(number) => show_csum(prompt, number),
        None => Ok(()),
    }
}

fn show_csum(prompt: &Prompt<'_, '_>, number: usize) -> Result<(), Error> {
    let ours = prompt.session.ports[number].by_device.describe();
    let ours = ours.lines().filter(|line| !line.starts_with("TSO"));
    let ours: String = ours.map(|line| format!("{line}\n")).collect();
    say(&format!(
        "Parse tunnel is off\n{ours}SCTP checksum offload is sw\nOuter-Ip checksum offload is sw\n\
         Outer-Udp checksum offload is sw\n"
    ))
}

/// `tso set SIZE N`.
pub fn tso(prompt: &mut Prompt<'_, '_>, words: &[&str]) -> Result<(), Error> {
    let Some(number) = stopped(prompt, words[1])? else {
        return Ok(());
    };
    let port = &mut prompt.session.ports[number];
    let support = port.capability(|can| can.tx_tso);
    if !support.is_yes() {
        complain(&format!("TSO is not supported by port {number}: {support}"));
        return Ok(());
    }
    match port.by_device.take_mss(words[0]) {
        Ok(()) => {
            port.changed = true;
            show_tso(prompt, number)
        }
        Err(expected) => {
            complain(&format!("`{}`: {expected}", words[0]));
            say("Bad arguments\n")
        }
    }
}

/// `tso show N`.
pub fn tso_show(prompt: &mut Prompt<'_, '_>, words: &[&str]) -> Result<(), Error> {
    match prompt.port(words[0])? {
        Some(number) => show_tso(prompt, number),
        None => Ok(()),
    }
}

fn show_tso(prompt: &Prompt<'_, '_>, number: usize) -> Result<(), Error> {
    match prompt.session.ports[number].by_device.mss() {
        Some(mss) => say(&format!(
            "TSO segment size for non-tunneled packets is {mss}\n"
        )),
        None => say("TSO and UFO for non-tunneled packets is disabled\n"),
    }
}

/// `vlan set strip on|off N`. The device strips always; without it tags are put back in software.
pub fn vlan_strip(prompt: &mut Prompt<'_, '_>, words: &[&str]) -> Result<(), Error> {
    let Some(number) = prompt.port(words[1])? else {
        return Ok(());
    };
    let port = &mut prompt.session.ports[number];
    let keep = words[0] == "off";
    if port.keep_vlan_tags == keep {
        return Ok(());
    }
    if port.is_started() {
        complain(&format!(
            "rx_vlan_strip_set(port_pi={number}, on={}) failed diag=-16: the port is started: \
             `port stop {number}` before and `port start {number}` after it",
            u8::from(!keep)
        ));
        return Ok(());
    }
    port.keep_vlan_tags = keep;
    port.changed = true;
    Ok(())
}

/// `tx_vlan set N TCI`.
pub fn tx_vlan(prompt: &mut Prompt<'_, '_>, words: &[&str]) -> Result<(), Error> {
    let Some(number) = stopped(prompt, words[0])? else {
        return Ok(());
    };
    let Some(tci) = prompt.number(words[1], "a VLAN id")? else {
        return Ok(());
    };
    let port = &mut prompt.session.ports[number];
    let support = port.capability(|can| can.tx_vlan_insert);
    if tci > MAX_VLAN {
        complain(&format!(
            "Invalid vlan_id {tci} (must be < {})",
            MAX_VLAN + 1
        ));
    } else if !support.is_yes() {
        complain(&format!(
            "Error: vlan insert is not supported by port {number}: {support}"
        ));
    } else {
        port.tx_vlan = Some(tci as u16);
        port.changed = true;
    }
    Ok(())
}

/// `tx_vlan reset N`.
pub fn tx_vlan_reset(prompt: &mut Prompt<'_, '_>, words: &[&str]) -> Result<(), Error> {
    if let Some(number) = stopped(prompt, words[0])? {
        let port = &mut prompt.session.ports[number];
        port.tx_vlan = None;
        port.changed = true;
    }
    Ok(())
}
