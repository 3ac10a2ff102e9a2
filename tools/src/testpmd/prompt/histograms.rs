//! Histograms of queues: asked for, and shown. Not in DPDK's testpmd.

use std::fmt::Write;

use pmd_api::Histogram;

use super::Prompt;
use crate::testpmd::error::Error;
use crate::testpmd::run::say;

/// `set histograms on|off`.
pub fn set(prompt: &mut Prompt<'_, '_>, words: &[&str]) -> Result<(), Error> {
    let on = words[0] == "on";
    let session = &mut prompt.session;
    session.args.histograms = on;
    for port in &mut session.ports {
        port.set_histograms(on);
    }
    say(&format!("Histograms are {}\n", words[0]))
}

/// `show port histograms PORTS`.
pub fn show(prompt: &mut Prompt<'_, '_>, words: &[&str]) -> Result<(), Error> {
    let mut text = String::new();
    for number in prompt.shown_ports(words[0])? {
        let queues = prompt.session.queues;
        let Some(port) = prompt.session.ports[number].open() else {
            continue;
        };
        let _ = writeln!(text, "###### Histograms for port {number} ");
        if !port.has_histograms() {
            text.push_str("none: `set histograms on` first\n");
            continue;
        }
        for queue in 0..queues.rx {
            let all = port.rx_histograms(queue);
            for (name, histogram) in all.named("rx") {
                one(&mut text, &format!("rx_q{queue}_{name}"), histogram);
            }
        }
        for queue in 0..queues.tx {
            let all = port.tx_histograms(queue);
            for (name, histogram) in all.named("tx") {
                one(&mut text, &format!("tx_q{queue}_{name}"), histogram);
            }
        }
    }
    say(&text)
}

fn one(out: &mut String, name: &str, histogram: &Histogram) {
    let _ = writeln!(
        out,
        "{name}: {} values, p50 {}, p99 {}, max {}",
        histogram.count(),
        histogram.percentile(50.0),
        histogram.percentile(99.0),
        histogram.max(),
    );
    for (least, most, count) in histogram.buckets().filter(|(.., count)| *count > 0) {
        let bounds = match least == most {
            true => least.to_string(),
            false => format!("{least}-{most}"),
        };
        let _ = writeln!(out, "  {bounds:<24} {count}");
    }
}
