//! What a packet's metadata says of its way in and its way out.

use super::{Mbuf, MbufError};
use crate::offload::{
    Checksum, HashType, OffloadError, PacketType, RxWord, TxOffload, TxWord, VLAN_ID, VLAN_PRESENT,
};

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

    /// Puts the VLAN tag that the device stripped off back behind the addresses, with priority and
    /// drop-eligible bit 0: the device does not deliver them. Tells whether there was one;
    /// [`Mbuf::vlan`] is `None` afterwards.
    ///
    /// # Errors
    /// The buffer is shared, has no headroom of 4 bytes, or the first segment not 12 bytes.
    pub fn restore_vlan(&mut self) -> Result<bool, MbufError> {
        const ADDRESSES: usize = 12;
        let Some(id) = self.vlan() else {
            return Ok(false);
        };
        let len = self.data_len();
        if len < ADDRESSES {
            return Err(MbufError::TooShort {
                wanted: ADDRESSES,
                len,
            });
        }
        self.prepend(4)?;
        let data = self.data_mut().ok_or(MbufError::Shared)?;
        data.copy_within(4..4 + ADDRESSES, 0);
        data[ADDRESSES..ADDRESSES + 2].copy_from_slice(&[0x81, 0x00]);
        data[ADDRESSES + 2..ADDRESSES + 4].copy_from_slice(&id.to_be_bytes());
        let rx = &self.line().rx;
        rx.set(rx.get() & !(VLAN_PRESENT | VLAN_ID));
        Ok(true)
    }

    /// What the packet is by its own headers, as far as its first segment goes. Computed when asked:
    /// devices don't tell.
    pub fn packet_type(&self) -> PacketType {
        PacketType::parse(self.data())
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
