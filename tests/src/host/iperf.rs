//! iperf3 between the two ends of a link.

use std::time::Duration;

use serde_json::Value;

use super::Link;

/// How long a run may take besides the time it was asked for.
const MARGIN: Duration = Duration::from_secs(60);

/// What iperf3 says at its end.
#[derive(Debug, Clone, Copy)]
pub struct Flow {
    /// What arrived, in bits a second.
    pub bits_per_second: f64,
    /// Segments that TCP sent again; datagrams that UDP lost.
    pub missing: u64,
}

/// Sends for so many seconds from `near` to `far`, or the other way with `-R` among the arguments,
/// over TCP, or UDP with `-u`.
///
/// # Panics
///
/// If iperf3 fails or nothing arrives.
#[track_caller]
pub fn iperf(link: &Link, target: &str, seconds: u64, arguments: &str) -> Flow {
    let limit = MARGIN + Duration::from_secs(seconds);
    let mut server = link.far.start("iperf3 -s -1 --forceflush", limit);
    server.wait_until("listening", |job| job.stdout().contains("listening"));
    let line = format!("iperf3 -J -c {target} -t {seconds} {arguments}");
    let ended = link.near.start(&line, limit).end();
    let report: Value = serde_json::from_str(&ended.stdout).unwrap_or_default();
    assert!(
        report["error"].is_null() && ended.code == Some(0),
        "{ended}"
    );
    let _ = server.end().success();
    flow(&report).unwrap_or_else(|| panic!("no sums in {ended}"))
}

fn flow(report: &Value) -> Option<Flow> {
    let sums = &report["end"];
    let flow = match sums["sum"]["lost_packets"].as_u64() {
        Some(missing) => {
            let lost = sums["sum"]["lost_percent"].as_f64()?;
            let sent = sums["sum"]["bits_per_second"].as_f64()?;
            Flow {
                bits_per_second: sent * (1.0 - lost / 100.0),
                missing,
            }
        }
        None => Flow {
            bits_per_second: sums["sum_received"]["bits_per_second"].as_f64()?,
            missing: sums["sum_sent"]["retransmits"].as_u64()?,
        },
    };
    (flow.bits_per_second > 0.0).then_some(flow)
}
