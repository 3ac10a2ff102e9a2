//! smoltcp talks TCP to smoltcp through two ports.

use std::time::{Duration, Instant};

use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp;
use smoltcp::wire::{IpAddress, IpCidr, IpEndpoint};

use crate::udp_echo::example::Host;
use crate::udp_echo::{ADDRESSES, Pair};

const BYTES: usize = 1 << 20;
const PORT: u16 = 5001;
/// Time after which a transfer is given up.
const PATIENCE: Duration = Duration::from_secs(180);

fn socket() -> tcp::Socket<'static> {
    let buffer = || tcp::SocketBuffer::new(vec![0; 65536]);
    tcp::Socket::new(buffer(), buffer())
}

/// What one side still has to send, and what has reached it.
struct Side {
    handle: SocketHandle,
    outgoing: Vec<u8>,
    sent: usize,
    received: Vec<u8>,
}

impl Side {
    fn new(host: &mut Host, outgoing: Vec<u8>) -> Self {
        Self {
            handle: host.sockets.add(socket()),
            outgoing,
            sent: 0,
            received: Vec::new(),
        }
    }

    /// One turn; closes its direction when all is sent.
    fn turn(&mut self, host: &mut Host) {
        if host.poll() {
            std::thread::yield_now();
        }
        let socket = host.sockets.get_mut::<tcp::Socket>(self.handle);
        while socket.can_recv() {
            let take = |bytes: &mut [u8]| {
                self.received.extend_from_slice(bytes);
                (bytes.len(), ())
            };
            socket.recv(take).unwrap();
        }
        if socket.can_send() && self.sent < self.outgoing.len() {
            self.sent += socket.send_slice(&self.outgoing[self.sent..]).unwrap();
            if self.sent == self.outgoing.len() {
                socket.close();
            }
        }
    }

    fn is_over(&self, host: &Host) -> bool {
        !host.sockets.get::<tcp::Socket>(self.handle).is_open()
    }
}

/// Numbers in four bytes each, from `first` on.
fn numbers(first: u32) -> Vec<u8> {
    let numbers = first..first + (BYTES / 4) as u32;
    numbers.flat_map(u32::to_be_bytes).collect()
}

/// A megabyte each way at the same time, over one connection that both sides then close.
fn transfer(hosts: &mut [Host; 2], server: IpAddress) {
    let [client, listener] = hosts;
    let mut sides = [
        Side::new(client, numbers(0)),
        Side::new(listener, numbers(1 << 30)),
    ];
    let socket = listener.sockets.get_mut::<tcp::Socket>(sides[1].handle);
    socket.listen(PORT).unwrap();
    let socket = client.sockets.get_mut::<tcp::Socket>(sides[0].handle);
    let to = IpEndpoint::new(server, PORT);
    socket
        .connect(client.interface.context(), to, 49_999)
        .unwrap();

    let start = Instant::now();
    let [asking, answering] = &mut sides;
    while asking.received.len() < BYTES
        || answering.received.len() < BYTES
        || !answering.is_over(listener)
    {
        asking.turn(client);
        answering.turn(listener);
        assert!(
            start.elapsed() < PATIENCE,
            "{} and {} bytes arrived; {:?} {:?}",
            asking.received.len(),
            answering.received.len(),
            client.phy.counters(),
            listener.phy.counters()
        );
    }
    assert!(asking.received == answering.outgoing);
    assert!(answering.received == asking.outgoing);
    for (side, host) in sides.into_iter().zip(hosts) {
        host.sockets.remove(side.handle);
    }
}

#[test]
fn a_megabyte_each_way_arrives_unchanged_over_either_ip_version() {
    let (pair, mut hosts) = Pair::start();
    for cidr in ADDRESSES[1] {
        transfer(&mut hosts, cidr.parse::<IpCidr>().unwrap().address());
    }
    // Full segments: the MTU of 1500 was told to both sides.
    let counters = hosts[0].phy.counters();
    assert!(
        counters.received > 2 * (BYTES / 1460) as u64,
        "{counters:?}"
    );
    assert!(
        counters.received < 6 * (BYTES / 1460) as u64,
        "{counters:?}"
    );
    pair.stop(hosts);
}
