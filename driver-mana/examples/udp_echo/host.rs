//! smoltcp on a port.

use mana_pmd::phy::Phy;
use mana_pmd::{Port, RxQueue, TxQueue};
use pmd_api::{Pool, RxBurst, TxBurst};
use smoltcp::iface::{Config, Interface, SocketSet};
use smoltcp::socket::udp;
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, IpCidr};

use super::common::Error;

/// Datagrams in each direction that a socket holds, and their bytes.
const DATAGRAMS: usize = 128;
const BYTES: usize = 256 * 1024;

/// An IP host on two queues.
pub(crate) struct Host<R = RxQueue, T = TxQueue> {
    pub(crate) phy: Phy<R, T>,
    pub(crate) interface: Interface,
    pub(crate) sockets: SocketSet<'static>,
}

impl Host {
    /// The host behind a port; it sends from `pool`.
    pub(crate) fn of_port(
        port: &Port,
        rx: RxQueue,
        tx: TxQueue,
        pool: Pool,
        addresses: &[IpCidr],
    ) -> Result<Self, Error> {
        let mac = EthernetAddress(port.info().mac.0);
        Self::new(Phy::of_port(port, rx, tx, pool), mac, addresses)
    }
}

impl<R: RxBurst, T: TxBurst> Host<R, T> {
    /// The host with this MAC and these addresses.
    pub(crate) fn new(
        mut phy: Phy<R, T>,
        mac: EthernetAddress,
        addresses: &[IpCidr],
    ) -> Result<Self, Error> {
        let mut interface = Interface::new(Config::new(mac.into()), &mut phy, Instant::now());
        let mut full = false;
        interface.update_ip_addrs(|list| full = list.extend_from_slice(addresses).is_err());
        if full {
            let most = smoltcp::config::IFACE_MAX_ADDR_COUNT;
            return Err(format!("an interface has at most {most} addresses").into());
        }
        Ok(Self {
            phy,
            interface,
            sockets: SocketSet::new(Vec::new()),
        })
    }

    /// Takes what has arrived, sends what is to be sent; true if there was nothing.
    pub(crate) fn poll(&mut self) -> bool {
        let before = self.phy.counters();
        self.interface
            .poll(Instant::now(), &mut self.phy, &mut self.sockets);
        self.phy.flush();
        self.phy.counters() == before
    }
}

/// An unbound UDP socket.
pub(crate) fn udp_socket() -> udp::Socket<'static> {
    let buffer = || {
        let packets = vec![udp::PacketMetadata::EMPTY; DATAGRAMS];
        udp::PacketBuffer::new(packets, vec![0; BYTES])
    };
    udp::Socket::new(buffer(), buffer())
}
