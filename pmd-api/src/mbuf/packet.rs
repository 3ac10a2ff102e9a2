//! What a packet's metadata says of its way in and its way out.

use super::Mbuf;
use crate::offload::{Checksum, HashType, OffloadError, RxWord, TxOffload, TxWord};

impl Mbuf {
    /// The receive word, all results at once.
    #[inline]
    pub fn rx_word(&self) -> RxWord {
        RxWord::from_bits(self.line().rx.get())
    }

    /// The RSS hash, and over what it was computed; `None` if the device gave none.
    #[inline]
    pub fn hash(&self) -> Option<(u32, HashType)> {
        Some((self.line().hash.get(), self.rx_word().hash_type()?))
    }

    /// Id of the VLAN tag that the device stripped off.
    #[inline]
    pub fn vlan(&self) -> Option<u16> {
        self.rx_word().vlan()
    }

    /// What the device says of the IPv4 header's checksum.
    #[inline]
    pub fn ip_checksum(&self) -> Checksum {
        self.rx_word().ip_checksum()
    }

    /// What the device says of the TCP or UDP checksum.
    #[inline]
    pub fn l4_checksum(&self) -> Checksum {
        self.rx_word().l4_checksum()
    }

    /// Asks for offloads, in place of all that were asked for before.
    ///
    /// # Errors
    /// A length that is too large, or flags that contradict each other.
    #[inline]
    pub fn set_tx_offload(&mut self, offload: TxOffload) -> Result<(), OffloadError> {
        self.set_tx_word(offload.word()?);
        Ok(())
    }

    /// Asks for what a word made before says: [`TxOffload::word`], once for many packets.
    #[inline]
    pub fn set_tx_word(&mut self, word: TxWord) {
        self.line().tx.set(word.bits());
    }

    /// The offloads asked for.
    pub fn tx_offload(&self) -> TxOffload {
        self.tx_word().offload()
    }

    /// The offloads asked for, as a driver reads them.
    #[inline]
    pub fn tx_word(&self) -> TxWord {
        TxWord::from_bits(self.line().tx.get())
    }
}
