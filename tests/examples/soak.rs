//! `soak SECONDS [SEED]`: lives of ports under traffic until the time is over; prints the seed first.
//! `cargo xtask long soak` runs it.

#![forbid(unsafe_code)]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

fn main() -> Result<(), String> {
    let usage = "usage: soak SECONDS [SEED]";
    let mut arguments = std::env::args().skip(1);
    let seconds = arguments.next().and_then(|text| text.parse().ok());
    let time = Duration::from_secs(seconds.ok_or(usage)?);
    let seed = match arguments.next() {
        Some(text) => text.parse().map_err(|_| usage)?,
        None => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            now.map_err(|error| error.to_string())?.as_nanos() as u64
        }
    };
    println!("seed {seed}");
    println!("{:#?}", conformance::soak::run(seed, time));
    Ok(())
}
