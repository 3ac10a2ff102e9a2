//! What `ethtool -S` shows of a port: the counters of its PCI function
//! (reference/mana-hardware.md §6.9), as far as the model has them.

use super::machine::Function;

impl Function {
    /// mana.ko asks the device only for a port that is UP; otherwise its zeroed buffer stays as it
    /// is.
    pub(crate) fn statistics(&self, up: bool) -> Vec<(String, u64)> {
        let mut sums = [
            ("hc_rx_discards_no_wqe", 0),
            ("hc_rx_err_vport_disabled", 0),
            ("hc_rx_bytes", 0),
            ("hc_tx_bytes", 0),
        ];
        let ports = if up { 0..self.ports.len() } else { 0..0 };
        for counters in ports.map(|port| self.device.counters(port)) {
            let values = [
                counters.rx_no_buffer,
                counters.rx_disabled,
                counters.rx_bytes,
                counters.tx_bytes,
            ];
            for ((_, sum), value) in sums.iter_mut().zip(values) {
                *sum += value;
            }
        }
        sums.map(|(name, value)| (name.to_owned(), value)).into()
    }
}
