//! RSS shown and set.

use std::fmt::Write;

use mana_pmd::{Error as PortError, Port, RSS_TABLE};

use super::{Prompt, complain};
use crate::testpmd::error::Error;
use crate::testpmd::port::Rss;
use crate::testpmd::run::say;

/// What the device hashes, in testpmd's words (reference/mana-hardware.md §3.6).
pub const HASHED: &str = "  ipv4  ipv4-tcp  ipv4-udp  ipv6  ipv6-tcp  ipv6-udp\n";

/// `show port N rss-hash`.
pub fn hash(prompt: &mut Prompt<'_, '_>, words: &[&str]) -> Result<(), Error> {
    show(prompt, words, false)
}

/// `show port N rss-hash key`.
pub fn hash_key(prompt: &mut Prompt<'_, '_>, words: &[&str]) -> Result<(), Error> {
    show(prompt, words, true)
}

fn show(prompt: &mut Prompt<'_, '_>, words: &[&str], with_key: bool) -> Result<(), Error> {
    let Some(number) = prompt.port(words[0])? else {
        return Ok(());
    };
    let Some(port) = prompt.session.ports[number].open() else {
        return Ok(());
    };
    // The kernel hashes only where there is a choice of queues.
    let table = port.rss_table().unwrap_or([0; RSS_TABLE]);
    if table.iter().all(|queue| *queue == table[0]) {
        return say("RSS disabled\n");
    }
    let mut text = format!("RSS functions:\n{HASHED}");
    if with_key {
        text.push_str("RSS key:\n");
        for byte in port.rss_key() {
            let _ = write!(text, "{byte:02X}");
        }
        text.push('\n');
    }
    say(&text)
}

/// `show port N rss reta SIZE MASKS`.
pub fn reta(prompt: &mut Prompt<'_, '_>, words: &[&str]) -> Result<(), Error> {
    let Some(number) = prompt.port(words[0])? else {
        return Ok(());
    };
    let Some(size) = prompt.number(words[1], "the size of the table")? else {
        return Ok(());
    };
    if !(1..=RSS_TABLE).contains(&size) {
        complain(&format!(
            "Invalid redirection table size: {size} (1-{RSS_TABLE})"
        ));
        return Ok(());
    }
    let mask = words[2]
        .strip_prefix('(')
        .and_then(|rest| rest.strip_suffix(')'));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim_start_matches("0x"), 16).ok());
    let Some(mask) = mask else {
        complain(&format!("Invalid string: {} for reta masks", words[2]));
        return Ok(());
    };
    let port = prompt.session.ports[number].open();
    let table = port.and_then(Port::rss_table).unwrap_or([0; RSS_TABLE]);
    let entries = (0..size).filter(|entry| mask >> entry & 1 == 1);
    let lines = entries.map(|entry| {
        format!(
            "RSS RETA configuration: hash index={entry}, queue={}\n",
            table[entry]
        )
    });
    say(&lines.collect::<String>())
}

/// `port config N rss-hash-key TYPE KEY`.
pub fn set_key(prompt: &mut Prompt<'_, '_>, words: &[&str]) -> Result<(), Error> {
    let Some(number) = prompt.port(words[0])? else {
        return Ok(());
    };
    let Some(key) = key(words[2]) else {
        complain(&format!(
            "key length: {} invalid - key must be a string of 80 hexa-decimal numbers",
            words[2].len()
        ));
        return Ok(());
    };
    match prompt.session.set_rss(number, &Rss::Key(key))? {
        Ok(true) => {}
        Ok(false) => complain(&format!(
            "Port {number}: the key is not set; see `show event`"
        )),
        Err(error) => complain(&format!("Port {number}: {error}")),
    }
    Ok(())
}

fn key(text: &str) -> Option<[u8; 40]> {
    let mut key = [0; 40];
    if text.len() != 80 || !text.is_ascii() {
        return None;
    }
    for (at, byte) in key.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(key)
}

/// `port config PORTS rss reta (HASH,QUEUE)[,(HASH,QUEUE)]`.
pub fn set_reta(prompt: &mut Prompt<'_, '_>, words: &[&str]) -> Result<(), Error> {
    for number in prompt.ports(words[0])? {
        say(&format!("The reta size of port {number} is {RSS_TABLE}\n"))?;
        let port = prompt.session.ports[number].open();
        let mut table = port.and_then(Port::rss_table).unwrap_or([0; RSS_TABLE]);
        let entries = match entries(words[1]) {
            Ok(entries) => entries,
            Err(problem) => {
                complain(&format!(
                    "{problem}\nInvalid RSS Redirection Table config entered"
                ));
                return Ok(());
            }
        };
        for (entry, queue) in entries {
            table[entry] = queue;
        }
        let code = match prompt.session.set_rss(number, &Rss::Table(table))? {
            Ok(true) => continue,
            Ok(false) => "-5: see `show event`".to_owned(),
            Err(error @ PortError::RssTable { .. }) => format!("-95: {error}"),
            Err(error) => format!("-22: {error}"),
        };
        complain(&format!(
            "Bad redirection table parameter, return code = {code}"
        ));
    }
    Ok(())
}

/// The entries of `(HASH,QUEUE)[,(HASH,QUEUE)]`, or what is wrong with it.
fn entries(text: &str) -> Result<Vec<(usize, u16)>, String> {
    let form = || format!("`{text}`: expected (hash,queue)[,(hash,queue)]");
    let inner = text
        .strip_prefix('(')
        .and_then(|text| text.strip_suffix(')'));
    let pairs = inner.ok_or_else(form)?.split("),(");
    let pair = |pair: &str| {
        let (entry, queue) = pair.split_once(',').ok_or_else(form)?;
        let entry: usize = entry.trim().parse().map_err(|_| form())?;
        let queue = queue.trim().parse().map_err(|_| form())?;
        match entry < RSS_TABLE {
            true => Ok((entry, queue)),
            false => Err(format!("Invalid RETA hash index={entry}")),
        }
    };
    pairs.map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_pairs_in_parentheses() {
        assert_eq!(entries("(0,1)"), Ok(vec![(0, 1)]));
        assert_eq!(entries("(0,1),(63,12)"), Ok(vec![(0, 1), (63, 12)]));
        for wrong in [
            "",
            "()",
            "0,1",
            "(0,1",
            "(0)",
            "(0,1)(1,2)",
            "(a,1)",
            "(0,-1)",
            "(0,1),",
        ] {
            let error = entries(wrong).unwrap_err();
            assert!(
                error.ends_with("expected (hash,queue)[,(hash,queue)]"),
                "{error}"
            );
        }
        assert_eq!(
            entries("(64,0)"),
            Err("Invalid RETA hash index=64".to_owned())
        );
        assert!(entries("(0,65536)").is_err());
    }
}
