//! The long form of every check, and of every line that users paste from the logs of DPDK, the
//! kernel and this driver.

mod log;
mod topics;

use std::io::{self, BufRead, Write};

pub use topics::{TOPICS, Topic};

/// The topic of that name.
pub fn topic(name: &str) -> Option<&'static Topic> {
    TOPICS.iter().find(|topic| topic.name == name)
}

/// The name that was probably meant.
pub fn nearest(name: &str) -> Option<&'static str> {
    let distance = |topic: &&Topic| strsim::osa_distance(name, topic.name);
    let nearest = TOPICS.iter().min_by_key(distance)?;
    (strsim::osa_distance(name, nearest.name) <= 3).then_some(nearest.name)
}

/// Writes a topic's long form.
pub fn write(out: &mut impl Write, topic: &Topic) -> io::Result<()> {
    writeln!(out, "{}: {}", topic.name, topic.title)?;
    writeln!(out, "  cause:  {}", topic.cause)?;
    writeln!(out, "  fix:    {}", topic.fix)?;
    writeln!(out, "  source: {}", topic.source)
}

/// Reads a log to its end and writes the topics of the lines that are known, each once. Returns how
/// many there were.
pub fn write_log(out: &mut impl Write, log: impl BufRead) -> io::Result<usize> {
    let found = log::recognise(log)?;
    for hit in &found {
        write!(out, "line {}", hit.line)?;
        if hit.times > 1 {
            write!(out, " and {} more", hit.times - 1)?;
        }
        writeln!(out, ": {}", hit.text)?;
        write(out, hit.topic)?;
        writeln!(out)?;
    }
    Ok(found.len())
}
