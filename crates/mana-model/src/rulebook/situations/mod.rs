//! The situations, grouped by what they are about.

mod context;
mod cq;
mod destroy;
mod framing;
mod memory;
mod netdev;
mod receive;
mod removal;
mod send;

use uverbs_abi::wire;
use zerocopy::FromBytes;

use super::request::{Answer, UNTOUCHED};
use super::{Recorder, RulebookError};

/// Tries them all. The device goes away last.
pub(super) fn all(recorder: &mut Recorder<'_>) -> Result<(), RulebookError> {
    framing::record(recorder)?;
    context::record(recorder)?;
    memory::record(recorder)?;
    cq::record(recorder)?;
    receive::record(recorder)?;
    send::record(recorder)?;
    destroy::record(recorder)?;
    netdev::record(recorder)?;
    removal::record(recorder)
}

/// A new object, and the bytes of the attributes that the rules decide.
fn object(answer: &Answer, told: &[u16]) -> String {
    let mut text = format!("handle={}", answer.handle);
    for id in told {
        text.push_str(&format!(" {id}={}", hex(answer.bytes(*id))));
    }
    text
}

/// Bytes in order of address; those that were left alone as dots.
fn hex(bytes: &[u8]) -> String {
    let byte = |byte: &u8| match *byte {
        UNTOUCHED => "..".to_owned(),
        byte => format!("{byte:02x}"),
    };
    bytes.iter().map(byte).collect()
}

/// Whether a number of the device's was answered.
fn some(value: Option<u32>) -> &'static str {
    match value {
        None => "none",
        Some(0) => "0",
        Some(u32::MAX) => "-1",
        Some(value) if value == u32::from_ne_bytes([UNTOUCHED; 4]) => "untouched",
        Some(_) => "some",
    }
}

/// The structure of an answer that has room for all of it.
fn read<T: FromBytes>(bytes: &[u8]) -> Option<T> {
    T::read_from_prefix(bytes).ok().map(|(value, _)| value)
}

/// What an RSS QP answered: its handle and how many of its entries have numbers.
fn rss(answer: &Answer) -> String {
    use uverbs_abi::ids::attr;
    let Some(told) = read::<wire::CreateQpRssResp>(answer.bytes(attr::UHW_OUT)) else {
        return object(answer, &[]);
    };
    let numbered = |entry: &&wire::RssQpEntry| entry.cqid != 0 && entry.wqid != 0;
    let numbered = told.entries.iter().filter(numbered).count();
    let entries = told.num_entries;
    format!(
        "{} num_entries={entries} numbered={numbered}",
        object(answer, &[attr::QP_RESP_CAP, attr::QP_RESP_QP_NUM])
    )
}
