//! The statistics as text for Prometheus: OpenMetrics 1.0.0, and Prometheus' own format 0.0.4, which
//! differs in the names of counters' families and in the last line.
//!
//! Each statistic by name ([`mana_pmd::Port::xstats`]) is a metric of the same name with `mana_` before
//! it, a counter also with `_total` behind it; `rx_q3_…` is `mana_rx_queue_…` with a label `queue`.

use std::collections::BTreeMap;
use std::fmt::Write;

use mana_pmd::QueueHistograms;
use pmd_api::Histogram;

use super::data::PortData;

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.0.
    OpenMetrics,
    /// Prometheus' text format 0.0.4.
    Prometheus,
}

impl Format {
    /// For the head of the answer.
    pub fn content_type(self) -> &'static str {
        match self {
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// A metric with its samples, which must stand together.
struct Family {
    help: String,
    counter: bool,
    samples: Vec<(String, u64)>,
}

/// The whole text.
pub fn text(ports: &[PortData], format: Format) -> String {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut add = |name: String, help: String, counter, labels, value| {
        let family = families.entry(name).or_insert_with(|| Family {
            help,
            counter,
            samples: Vec::new(),
        });
        family.samples.push((labels, value));
    };
    for port in ports {
        let number = port.number.to_string();
        let name = port.name();
        let own = [("port", number.as_str()), ("device", name.as_str())];
        let info = &port.info;
        let mac = info.mac.to_string();
        let netdev = info.netdev.as_deref().unwrap_or_default();
        let mut all = own.to_vec();
        all.extend([
            ("mac", mac.as_str()),
            ("netdev", netdev),
            ("ibdev", &info.ib_device),
        ]);
        all.push(("provider", info.provider));
        let help = |text: &str| text.to_owned();
        add(
            "mana_port_info".into(),
            help("Which port it is."),
            false,
            labels(&all),
            1,
        );
        let started = u64::from(port.started);
        let text = "Whether the port is started.";
        add(
            "mana_port_started".into(),
            help(text),
            false,
            labels(&own),
            started,
        );
        let text = "Whether the link is up, or not known to be down.";
        add(
            "mana_link_up".into(),
            help(text),
            false,
            labels(&own),
            port.link.is_up().into(),
        );
        let text = "MTU, without the Ethernet header.";
        add(
            "mana_mtu_bytes".into(),
            help(text),
            false,
            labels(&own),
            port.mtu.into(),
        );
        for stat in port
            .xstats
            .iter()
            .filter(|stat| !is_of_histogram(&stat.name))
        {
            let (plain, queue) = split(&stat.name);
            let mut all = own.to_vec();
            all.extend(queue.map(|queue| ("queue", queue)));
            let counter = !stat.is_gauge();
            let help = format!("Statistic {plain}.");
            add(
                format!("mana_{plain}"),
                help,
                counter,
                labels(&all),
                stat.value,
            );
        }
    }
    let mut out = String::new();
    for (name, family) in &families {
        let (kind, suffix) = if family.counter {
            ("counter", "_total")
        } else {
            ("gauge", "")
        };
        let title = match format {
            Format::OpenMetrics => name.clone(),
            Format::Prometheus => format!("{name}{suffix}"),
        };
        // Writing to a string can't fail.
        let _ = writeln!(out, "# HELP {title} {}\n# TYPE {title} {kind}", family.help);
        for (labels, value) in &family.samples {
            let _ = writeln!(out, "{name}{suffix}{{{labels}}} {value}");
        }
    }
    for direction in ["rx", "tx"] {
        histograms(&mut out, ports, direction);
    }
    if format == Format::OpenMetrics {
        out.push_str("# EOF\n");
    }
    out
}

/// What stands in a histogram of its own.
fn is_of_histogram(name: &str) -> bool {
    let all = QueueHistograms::default();
    all.named("tx")
        .any(|(histogram, _)| name.contains(&format!("_{histogram}_")))
}

/// The histograms of one direction, each of the same buckets at all times.
fn histograms(out: &mut String, ports: &[PortData], direction: &str) {
    let mut families: BTreeMap<&str, String> = BTreeMap::new();
    for port in ports {
        let queues = match direction {
            "rx" => &port.rx_histograms,
            _ => &port.tx_histograms,
        };
        let (number, name) = (port.number.to_string(), port.name());
        for (queue, all) in queues.iter().enumerate() {
            let queue = queue.to_string();
            let own = [("port", &*number), ("device", &*name), ("queue", &*queue)];
            for (family, histogram) in all.named(direction) {
                let samples = families.entry(family).or_default();
                let name = format!("mana_{direction}_queue_{family}");
                samples_of(samples, &name, &labels(&own), family, histogram);
            }
        }
    }
    for (family, samples) in families {
        let _ = write!(
            out,
            "# HELP mana_{direction}_queue_{family} Histogram {family}.\n\
             # TYPE mana_{direction}_queue_{family} histogram\n{samples}"
        );
    }
}

fn samples_of(out: &mut String, name: &str, labels: &str, family: &str, histogram: &Histogram) {
    // Rings have up to 2^16 packets; times are told from 63 ns to 17 s.
    let buckets = match family.ends_with("_ns") {
        true => 6..=34,
        false => 0..=16,
    };
    for most in buckets.map(Histogram::most) {
        let below = histogram.buckets().filter(|(_, its, _)| *its <= most);
        let count: u64 = below.map(|(.., count)| count).sum();
        let _ = writeln!(out, "{name}_bucket{{{labels},le=\"{most}.0\"}} {count}");
    }
    let (count, sum) = (histogram.count(), histogram.sum());
    let _ = writeln!(
        out,
        "{name}_bucket{{{labels},le=\"+Inf\"}} {count}\n{name}_count{{{labels}}} {count}\n\
         {name}_sum{{{labels}}} {sum}"
    );
}

/// `rx_q3_packets` is `rx_queue_packets` of queue 3.
fn split(name: &str) -> (String, Option<&str>) {
    let parts = name.split_once("_q").and_then(|(direction, rest)| {
        let (queue, rest) = rest.split_once('_')?;
        let is_number = !queue.is_empty() && queue.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| (format!("{direction}_queue_{rest}"), Some(queue)))
    });
    parts.unwrap_or_else(|| (name.to_owned(), None))
}

fn labels(labels: &[(&str, &str)]) -> String {
    let one = |(name, value): &(&str, &str)| {
        let value = value
            .replace('\\', "\\\\")
            .replace('"', "\\\"")
            .replace('\n', "\\n");
        format!("{name}=\"{value}\"")
    };
    labels.iter().map(one).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::super::data::tests::port;
    use super::*;

    #[test]
    fn counters_end_in_total_and_each_family_stands_together_under_its_type() {
        let mut second = port();
        second.number = 1;
        let ports = [port(), second];
        for format in [Format::OpenMetrics, Format::Prometheus] {
            let text = text(&ports, format);
            let mut seen = Vec::new();
            let (mut family, mut counter) = (String::new(), false);
            for line in text
                .lines()
                .filter(|line| !line.starts_with("# HELP") && *line != "# EOF")
            {
                if let Some(rest) = line.strip_prefix("# TYPE ") {
                    let (name, kind) = rest.split_once(' ').unwrap();
                    assert!(!seen.contains(&name.to_owned()), "{name} twice");
                    seen.push(name.to_owned());
                    (family, counter) = (name.to_owned(), kind == "counter");
                    continue;
                }
                let name = line.split_once('{').unwrap().0;
                assert_eq!(name.ends_with("_total"), counter, "{line}");
                let expected = match (format, counter) {
                    (Format::OpenMetrics, true) => format!("{family}_total"),
                    _ => family.clone(),
                };
                assert_eq!(name, expected);
            }
            assert!(seen.len() > 20, "{seen:?}");
            assert_eq!(text.ends_with("# EOF\n"), format == Format::OpenMetrics);
            let device = "device=\"7870:00:00.0_port1\"";
            for line in [
                format!("mana_rx_good_packets_total{{port=\"0\",{device}}} 0\n"),
                format!("mana_rx_queue_packets_total{{port=\"1\",{device},queue=\"1\"}} 0\n"),
                format!("mana_rx_queue_refill_deficit{{port=\"0\",{device},queue=\"0\"}} 0\n"),
                format!("mana_port_started{{port=\"0\",{device}}} 1\n"),
            ] {
                assert!(text.contains(&line), "{line} is missing in {text}");
            }
        }
    }

    #[test]
    fn histograms_are_cumulative_and_their_summaries_stand_nowhere_else() {
        let mut counts = [0; Histogram::BUCKETS];
        (counts[0], counts[2], counts[30]) = (4, 3, 1);
        let histogram = Histogram::new(counts, 1 << 30, 1 << 29);
        let mut port = port();
        port.tx_histograms = vec![QueueHistograms {
            burst: histogram.clone(),
            completion_ns: histogram,
            ..QueueHistograms::default()
        }];
        let summary = |name: &str| mana_pmd::Xstat {
            name: name.to_owned(),
            value: 7,
        };
        port.xstats.extend([
            summary("tx_q0_burst_packets_count"),
            summary("tx_q0_completion_ns_p99"),
        ]);
        let text = text(&[port], Format::OpenMetrics);
        let own = "port=\"0\",device=\"7870:00:00.0_port1\",queue=\"0\"";
        let burst = "mana_tx_queue_burst_packets";
        for line in [
            format!("# TYPE {burst} histogram\n"),
            format!("\n{burst}_bucket{{{own},le=\"0.0\"}} 4\n"),
            format!("\n{burst}_bucket{{{own},le=\"1.0\"}} 4\n"),
            format!("\n{burst}_bucket{{{own},le=\"65535.0\"}} 7\n"),
            format!("\n{burst}_bucket{{{own},le=\"+Inf\"}} 8\n"),
            format!("\n{burst}_count{{{own}}} 8\n{burst}_sum{{{own}}} 1073741824\n"),
            format!("\nmana_tx_queue_completion_ns_bucket{{{own},le=\"63.0\"}} 7\n"),
            format!("\nmana_tx_queue_completion_ns_bucket{{{own},le=\"1073741823.0\"}} 8\n"),
        ] {
            assert!(text.contains(&line), "{line} is missing in {text}");
        }
        assert!(
            !text.contains("_p99") && !text.contains("packets_count_total"),
            "{text}"
        );
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn values_of_labels_are_escaped() {
        assert_eq!(labels(&[("a", "x\\y\"z\n")]), r#"a="x\\y\"z\n""#);
        assert_eq!(
            split("rx_q12_full_bursts"),
            ("rx_queue_full_bursts".into(), Some("12"))
        );
        assert_eq!(split("rx_quiet_x"), ("rx_quiet_x".into(), None));
    }
}
