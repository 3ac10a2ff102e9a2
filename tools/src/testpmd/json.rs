//! The line that `--json` ends with.

use pmd_api::PortStats;
use serde::Serialize;

#[derive(Serialize)]
struct Summary<'a> {
    seconds: f64,
    ports: &'a [PortLine],
    findings: usize,
}

#[derive(Serialize)]
struct PortLine {
    port: usize,
    rx_packets: u64,
    tx_packets: u64,
    rx_bytes: u64,
    tx_bytes: u64,
    rx_errors: u64,
    tx_errors: u64,
    rx_missed: u64,
    rx_nombuf: u64,
}

/// One line without its end: how long forwarding ran, what every port counted meanwhile, and how
/// many findings the model has.
///
/// # Errors
///
/// None that a number could cause.
pub fn line(
    seconds: f64,
    ports: &[PortStats],
    findings: usize,
) -> Result<String, serde_json::Error> {
    let ports: Vec<PortLine> = ports
        .iter()
        .enumerate()
        .map(|(port, stats)| PortLine {
            port,
            rx_packets: stats.rx_packets,
            tx_packets: stats.tx_packets,
            rx_bytes: stats.rx_bytes,
            tx_bytes: stats.tx_bytes,
            rx_errors: stats.rx_errors,
            tx_errors: stats.tx_errors,
            rx_missed: stats.rx_missed,
            rx_nombuf: stats.rx_nombuf,
        })
        .collect();
    serde_json::to_string(&Summary {
        // Milliseconds are what a run can be timed to.
        seconds: (seconds * 1000.0).round() / 1000.0,
        ports: &ports,
        findings,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_has_the_documented_fields_in_their_order() {
        let stats = PortStats {
            rx_packets: 1,
            tx_packets: 2,
            rx_bytes: 3,
            tx_bytes: 4,
            rx_errors: 5,
            tx_errors: 6,
            rx_missed: 7,
            rx_nombuf: 8,
        };
        assert_eq!(
            line(5.00049, &[stats], 9).unwrap(),
            "{\"seconds\":5.0,\"ports\":[{\"port\":0,\"rx_packets\":1,\"tx_packets\":2,\
             \"rx_bytes\":3,\"tx_bytes\":4,\"rx_errors\":5,\"tx_errors\":6,\"rx_missed\":7,\
             \"rx_nombuf\":8}],\"findings\":9}"
        );
    }
}
