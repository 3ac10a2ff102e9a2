//! The text behind `link=`.

use std::path::{Path, PathBuf};

use super::{SWITCH, choice, file, number, once, rate};
use crate::ModelError;
use crate::config::check::tap_name;
use crate::config::{GenConfig, LinkConfig, TapConfig};

const LINKS: &[&str] = &["loop", "pair", "tap", "pcap", "gen", "sink"];
const SINK_OPTIONS: &[&str] = &["keep"];
const TAP_OPTIONS: &[&str] = &["queues", "mtu", "csum", "tso", "netns"];
const PCAP_OPTIONS: &[&str] = &["rx", "tx", "pps"];
const GEN_OPTIONS: &[&str] = &["pps", "count", "size", "flows"];

/// Every name in here.
#[cfg(test)]
pub(super) const NAMES: [&[&str]; 5] =
    [LINKS, SINK_OPTIONS, TAP_OPTIONS, PCAP_OPTIONS, GEN_OPTIONS];

/// What follows `link=`: `loop`, `pcap:rx=FILE:tx=FILE`, …
pub(super) fn link(text: &str) -> Result<LinkConfig, ModelError> {
    let (kind, rest) = text
        .split_once(':')
        .map_or((text, None), |(kind, rest)| (kind, Some(rest)));
    let without_options = |link| match rest {
        None => Ok(link),
        Some(rest) => Err(ModelError::Value {
            option: "link".to_owned(),
            given: format!("{kind}:{rest}"),
            expected: "no options behind this link",
        }),
    };
    match kind {
        "loop" => without_options(LinkConfig::Loop),
        "pair" => without_options(LinkConfig::Pair),
        "sink" => match rest {
            None => Ok(LinkConfig::Sink { capture: false }),
            Some("keep") => Ok(LinkConfig::Sink { capture: true }),
            Some(rest) => Err(ModelError::unknown("link option", rest, SINK_OPTIONS)),
        },
        "tap" => tap(rest),
        "pcap" => pcap(rest),
        "gen" => generator(rest),
        _ => Err(ModelError::unknown("link", kind, LINKS)),
    }
}

fn tap(text: Option<&str>) -> Result<LinkConfig, ModelError> {
    let text = text.unwrap_or_default();
    let (name, options) = text
        .split_once(':')
        .map_or((text, None), |(name, options)| (name, Some(options)));
    let (mut queues, mut mtu, mut netns) = (None, None, None);
    let (mut csum, mut tso) = (None, None);
    for (option, value) in link_options(options, TAP_OPTIONS)? {
        match option {
            "queues" => once(&mut queues, option, number(option, value, "1 to 256")?)?,
            "mtu" => once(
                &mut mtu,
                option,
                number(option, value, "bytes, 68 to 9000")?,
            )?,
            "csum" => once(&mut csum, option, choice("csum", value, SWITCH)?)?,
            "tso" => once(&mut tso, option, choice("tso", value, SWITCH)?)?,
            _ => once(&mut netns, option, namespace(option, value)?)?,
        }
    }
    let usual = TapConfig::new(name);
    let tap = TapConfig {
        queues: queues.unwrap_or(usual.queues),
        csum: csum.unwrap_or(usual.csum),
        tso: tso.unwrap_or(usual.tso),
        mtu,
        netns,
        ..usual
    };
    tap_name(&tap.name)?;
    Ok(LinkConfig::Tap(tap))
}

/// A file, or a name as `ip netns` gives them.
fn namespace(option: &str, value: &str) -> Result<PathBuf, ModelError> {
    match value {
        "" | "." | ".." => Err(ModelError::Value {
            option: option.to_owned(),
            given: value.to_owned(),
            expected: "a network namespace: a name of `ip netns list`, or its file",
        }),
        path if path.contains('/') => Ok(PathBuf::from(path)),
        name => Ok(Path::new("/run/netns").join(name)),
    }
}

fn pcap(text: Option<&str>) -> Result<LinkConfig, ModelError> {
    let (mut rx, mut tx, mut pps) = (None, None, None);
    for (option, value) in link_options(text, PCAP_OPTIONS)? {
        match option {
            "rx" => once(&mut rx, option, file(option, value)?)?,
            "tx" => once(&mut tx, option, file(option, value)?)?,
            _ => once(&mut pps, option, rate(option, value)?)?,
        }
    }
    if rx.is_none() && tx.is_none() {
        return Err(ModelError::Value {
            option: "link".to_owned(),
            given: "pcap".to_owned(),
            expected: "pcap:rx=FILE, pcap:tx=FILE or pcap:rx=FILE:tx=FILE",
        });
    }
    Ok(LinkConfig::Pcap { rx, tx, pps })
}

fn generator(text: Option<&str>) -> Result<LinkConfig, ModelError> {
    let (mut pps, mut count, mut size, mut flows) = (None, None, None, None);
    for (option, value) in link_options(text, GEN_OPTIONS)? {
        match option {
            "pps" => once(&mut pps, option, rate(option, value)?)?,
            "count" => once(&mut count, option, number(option, value, "frames")?)?,
            "size" => once(
                &mut size,
                option,
                number(option, value, "bytes, 60 to 9014")?,
            )?,
            _ => once(&mut flows, option, number(option, value, "flows, from 1")?)?,
        }
    }
    let usual = GenConfig::default();
    Ok(LinkConfig::Gen(GenConfig {
        pps,
        count,
        size: size.unwrap_or(usual.size),
        flows: flows.unwrap_or(usual.flows),
    }))
}

/// Splits `rx=a:b:tx=c` into (rx, a:b), (tx, c): a colon separates only where an option follows.
fn link_options<'a>(
    text: Option<&'a str>,
    valid: &'static [&'static str],
) -> Result<Vec<(&'a str, &'a str)>, ModelError> {
    let Some(text) = text else {
        return Ok(Vec::new());
    };
    let begins_option = |part: &str| {
        part.split_once('=')
            .is_some_and(|(name, _)| valid.contains(&name))
    };
    let mut starts = vec![0];
    starts.extend(
        text.match_indices(':')
            .map(|(at, _)| at + 1)
            .filter(|&at| begins_option(&text[at..])),
    );
    let ends = starts[1..].iter().map(|&next| next - 1).chain([text.len()]);
    starts
        .iter()
        .zip(ends)
        .map(|(&start, end)| {
            let part = &text[start..end];
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            if valid.contains(&name) {
                Ok((name, value))
            } else {
                Err(ModelError::unknown("link option", name, valid))
            }
        })
        .collect()
}
