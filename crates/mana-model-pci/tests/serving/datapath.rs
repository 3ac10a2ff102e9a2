//! Queues over vfio-user: packets, completions, events and vectors, and an end at any moment.

use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use rustix::fs::MemfdFlags;

use crate::guest::{BASE, CONFIG, Device, Guest, SIZE, field, message};
use crate::hostile::{Dice, assert_well};

/// Pages of the guest's memory: the queues' and a packet's.
const EVENTS: u64 = BASE + 0x1_0000;
const RING: u64 = BASE + 0x1_1000;
const COMPLETIONS: u64 = BASE + 0x1_2000;
const PACKETS: u64 = BASE + 0x2_0000;

/// What a driver knows of the queue that it made.
pub struct Queue {
    /// Offset of its doorbell page in BAR0.
    pub page: u64,
    key: u32,
    pub eq: u32,
    pub wq: u32,
    pub cq: u32,
    object: [u32; 2],
    vport: [u32; 2],
    offset: u32,
}

/// Makes a queue (1 send, 2 receive) with rings of a page (§6.5, §6.6), whose events are on vector 1.
pub fn queue(guest: &mut Guest, kind: u32) -> Queue {
    let mut ask = |kind, dev, len, answer, fields: &[(usize, u32)]| {
        let answer = guest.request(&message(kind, dev, len, answer, fields));
        assert_eq!(field(&answer, 24), 0, "status of {kind:#x}");
        answer
    };
    let registered = ask(4, 2, 40, 44, &[]);
    let [pd, key, page] = [32, 36, 40].map(|at| field(&registered, at));
    let [events, ring, completions] = [EVENTS, RING, COMPLETIONS].map(|address| {
        let fields = [(40, 4096), (56, 1), (60, 1), (64, address as u32)];
        field(&ask(25, 0, 72, 40, &fields), 32)
    });
    let fields = [
        (40, 4),
        (48, pd),
        (52, page),
        (56, events),
        (68, 4096),
        (72, 3),
        (76, 1),
    ];
    let eq = field(&ask(12, 2, 96, 36, &fields), 32);
    let port = ask(0x2_0008, 2, 44, 64, &[]);
    let vport = [field(&port, 56), field(&port, 60)];
    let names = [(40, vport[0]), (44, vport[1])];
    let configured = ask(
        0x2_0003,
        2,
        56,
        36,
        &[names[0], names[1], (48, pd), (52, page)],
    );
    let sizes = [
        (48, kind),
        (56, ring),
        (64, completions),
        (72, 4096),
        (76, 4096),
        (84, eq),
    ];
    let fields = [&names[..], &sizes].concat();
    let made = ask(0x2_0004, 2, 88, 48, &fields);
    Queue {
        page: guest.doorbells + 4096 * u64::from(page),
        key,
        eq,
        wq: field(&made, 32),
        cq: field(&made, 36),
        object: [field(&made, 40), field(&made, 44)],
        vport,
        offset: field(&configured, 32) & 0xFFFF,
    }
}

/// A WQE of one unit with one element (§2.3), and 8 bytes of OOB.
fn put_wqe(guest: &Guest, queue: &Queue, at: u32, oob: u64, packet: u64, size: u32) {
    let mut wqe = vec![0, 0, 0, 0, 1, 2, 0, 0];
    wqe.extend(oob.to_le_bytes());
    wqe.extend(packet.to_le_bytes());
    wqe.extend(queue.key.to_le_bytes());
    wqe.extend(size.to_le_bytes());
    guest.poke(RING + u64::from(32 * at), &wqe);
}

/// §3.1: vcq_num bits 8-31, vsq_frame bits 10-23 of the second dword, short_vp_offset bits 24-31.
fn oob(queue: &Queue) -> u64 {
    u64::from(queue.cq) << 8
        | u64::from(queue.wq >> 10 & 0x3FFF) << 42
        | u64::from(queue.offset) << 56
}

fn ring(guest: &mut Guest, page: u64, offset: u64, id: u32, tail: u32) {
    let value = u64::from(id) | u64::from(tail) << 32;
    guest.write(page + offset, &value.to_le_bytes());
}

/// The frame that the tests send.
fn frame() -> Vec<u8> {
    let mut frame = vec![0xFF; 6];
    frame.extend([0x00, 0x0D, 0x3A, 0, 0, 0, 0x88, 0xB5]);
    frame.extend((0..100).map(|byte| byte ^ 0x5A));
    frame
}

fn sent(device: &Device) -> Vec<String> {
    let frames = device.served.run("frames 0").unwrap();
    frames.lines().map(str::to_owned).collect()
}

#[test]
fn a_packet_leaves_and_its_completion_event_and_vector_tell_of_it() {
    let device = Device::new("model0,link=sink:keep");
    let mut guest = Guest::start(&device.socket());
    guest.establish();
    let queue = queue(&mut guest, 1);
    guest.poke(PACKETS, &frame());
    put_wqe(
        &guest,
        &queue,
        0,
        oob(&queue),
        PACKETS,
        frame().len() as u32,
    );
    assert_eq!(sent(&device), [""; 0], "nothing before the doorbell");
    guest.fired(0);
    ring(&mut guest, queue.page, 0x000, queue.wq, 32);
    let hex: String = frame().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(sent(&device), [format!("frame {hex}")]);
    // §2.4, §3.4: type 32 of client 1; the queue's number, is_sq, owner 1.
    let entry = guest.peek(COMPLETIONS, 64);
    assert_eq!(entry[0], 32 | 1 << 6);
    assert_eq!(field(&entry, 60), queue.wq | 1 << 24 | 1 << 29);
    // §2.5: type 3, the CQ's number in the details, owner 1.
    let event = guest.peek(EVENTS, 16);
    assert_eq!(
        (field(&event, 0), field(&event, 12)),
        (queue.cq, 3 | 1 << 29)
    );
    assert_eq!((guest.fired(1), guest.fired(0)), (1, 0));
    // Neither CQ nor EQ is armed: a second packet is silent.
    put_wqe(&guest, &queue, 1, oob(&queue), PACKETS, 60);
    ring(&mut guest, queue.page, 0x000, queue.wq, 64);
    assert_eq!(sent(&device).len(), 1);
    assert_eq!(guest.peek(EVENTS + 16, 16), [0; 16]);
    assert_eq!(guest.fired(1), 0);
    // §2.8: armed with an entry unread, the CQ tells at once; the EQ likewise.
    ring(&mut guest, queue.page, 0x800, queue.cq, 65 | 1 << 31);
    assert_eq!(field(&guest.peek(EVENTS + 16, 16), 0), queue.cq);
    assert_eq!(guest.fired(1), 0, "the EQ is not armed");
    ring(&mut guest, queue.page, 0xFF8, queue.eq, 257 | 1 << 31);
    assert_eq!(guest.fired(1), 1);
    ring(&mut guest, queue.page, 0xFF8, queue.eq, 258 | 1 << 31);
    assert_eq!(guest.fired(1), 0);
    assert_eq!(device.served.findings(), []);
}

#[test]
fn a_device_on_hold_moves_packets_in_steps_only() {
    let device = Device::new("model0,link=sink:keep");
    let mut guest = Guest::start(&device.socket());
    guest.establish();
    let queue = queue(&mut guest, 1);
    guest.poke(PACKETS, &frame());
    device.served.run("hold").unwrap();
    for at in [0, 1] {
        put_wqe(&guest, &queue, at, oob(&queue), PACKETS, 60);
        ring(&mut guest, queue.page, 0x000, queue.wq, 32 * (at + 1));
    }
    assert_eq!(sent(&device), [""; 0]);
    assert_eq!(device.served.run("step").unwrap(), "moved 2\n");
    assert_eq!(sent(&device).len(), 2);
    put_wqe(&guest, &queue, 2, oob(&queue), PACKETS, 60);
    ring(&mut guest, queue.page, 0x000, queue.wq, 96);
    assert_eq!(sent(&device), [""; 0]);
    device.served.run("go").unwrap();
    assert_eq!(sent(&device).len(), 1);
    // A guest that ends takes its hold along.
    device.served.run("hold").unwrap();
    drop(guest);
    device.assert_released();
    let mut guest = Guest::start(&device.socket());
    guest.establish();
    let queue = self::queue(&mut guest, 1);
    guest.poke(PACKETS, &frame());
    put_wqe(&guest, &queue, 0, oob(&queue), PACKETS, 60);
    ring(&mut guest, queue.page, 0x000, queue.wq, 32);
    assert_eq!(sent(&device).len(), 1);
}

#[test]
fn memory_that_is_unmapped_under_a_running_queue_is_not_reached() {
    let device = Device::new("model0,link=sink:keep");
    let mut guest = Guest::start(&device.socket());
    guest.establish();
    let queue = queue(&mut guest, 1);
    guest.poke(PACKETS, &frame());
    put_wqe(&guest, &queue, 0, oob(&queue), PACKETS, 60);
    ring(&mut guest, queue.page, 0x000, queue.wq, 32);
    assert_eq!(sent(&device).len(), 1);
    put_wqe(&guest, &queue, 1, oob(&queue), PACKETS, 60);
    guest.client.dma_unmap(BASE, SIZE).unwrap();
    ring(&mut guest, queue.page, 0x000, queue.wq, 64);
    ring(&mut guest, queue.page, 0x800, queue.cq, 65 | 1 << 31);
    ring(&mut guest, queue.page, 0xFF8, queue.eq, 257 | 1 << 31);
    assert_eq!(sent(&device), [""; 0]);
    let found = device.served.findings();
    assert!(!found.is_empty(), "it is told what is wrong");
    let memory = guest.memory.as_raw_fd();
    guest.client.dma_map(0, BASE, SIZE, memory).unwrap();
    guest.write(guest.channel + 28, &[2, 0, 0, 0]);
    assert_eq!(device.state("empty"), "yes");
    guest.establish();
    let queue = self::queue(&mut guest, 1);
    guest.poke(PACKETS, &frame());
    put_wqe(&guest, &queue, 0, oob(&queue), PACKETS, 60);
    ring(&mut guest, queue.page, 0x000, queue.wq, 32);
    assert_eq!(sent(&device).len(), 1);
}

/// A receive queue with 64 buffers, into which a generator delivers by the device's own clock.
fn receiving(guest: &mut Guest) -> Queue {
    guest.poke(RING, &[0; 0x2000]);
    guest.poke(EVENTS, &[0; 0x1000]);
    let queue = queue(guest, 2);
    for at in 0..64 {
        let packet = PACKETS + 0x800 * u64::from(at);
        put_wqe(guest, &queue, at, 0, packet, 0x800);
    }
    ring(guest, queue.page, 0x400, queue.wq, 32 * 64);
    // §6.6 0x20007: rx_enable 52, update_default 60, default_rxobj 64.
    let fields = [
        (40, queue.vport[0]),
        (44, queue.vport[1]),
        (52, 1),
        (60, 1),
        (64, queue.object[0]),
        (68, queue.object[1]),
    ];
    let answer = guest.request(&message(0x2_0007, 2, 120, 32, &fields));
    assert_eq!(field(&answer, 24), 0);
    queue
}

fn arrived(guest: &Guest) -> usize {
    let entries = guest.peek(COMPLETIONS, 4096);
    entries
        .chunks(64)
        .filter(|entry| entry[63] >> 5 == 1)
        .count()
}

/// §6.2: "DESTROY must not complete before DMA to the HWC queues has stopped", and to all others.
#[test]
fn nothing_is_written_once_the_channel_is_destroyed_or_the_function_reset() {
    let device = Device::new("model0,link=gen:pps=20000");
    let mut guest = Guest::start(&device.socket());
    let ends: [fn(&mut Guest); 3] = [
        |guest| guest.write(guest.channel + 28, &[2, 0, 0, 0]),
        |guest| guest.client.reset().unwrap(),
        |guest| guest.client.dma_unmap(BASE, SIZE).unwrap(),
    ];
    for end in ends {
        guest.client.region_write(CONFIG, 4, &[6, 0]).unwrap();
        guest.establish();
        receiving(&mut guest);
        let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while arrived(&guest) == 0 {
            assert!(std::time::Instant::now() < until, "no packet comes");
        }
        end(&mut guest);
        guest.poke(RING, &[0; 0x2000]);
        guest.poke(PACKETS, &[0; 64 * 0x800]);
        std::thread::sleep(std::time::Duration::from_millis(30));
        assert_eq!(arrived(&guest), 0);
        assert!(
            guest
                .peek(PACKETS, 64 * 0x800)
                .iter()
                .all(|byte| *byte == 0)
        );
    }
}

#[test]
fn a_guest_that_ends_while_packets_arrive_leaves_a_fresh_device() {
    let device = Device::new("model0,link=gen");
    for _ in 0..5 {
        let mut guest = Guest::start(&device.socket());
        guest.establish();
        receiving(&mut guest);
        drop(guest);
        device.assert_released();
    }
}

#[test]
fn nonsense_in_the_rings_of_running_queues_harms_the_guest_only() {
    let device = Device::new("model0,link=gen");
    let mut guest = Guest::start(&device.socket());
    let mut dice = Dice(7);
    for kind in [1, 2, 1, 2] {
        guest.send_smc([0, 0, 0, 0, 0, 0, 0, 2]);
        guest.establish();
        let queue = match kind {
            1 => queue(&mut guest, 1),
            _ => receiving(&mut guest),
        };
        let mut tail = 32 * 64 * (kind - 1);
        for _ in 0..1000 {
            let word = dice.next();
            match word % 8 {
                // A ring word, anywhere in the queues' pages.
                0 | 1 => guest.poke(EVENTS + (word >> 8) % 0x2FF8, &dice.next().to_le_bytes()),
                // A WQE that could be one, but for its numbers.
                2 => {
                    let at = (tail / 32) % 128;
                    let packet = PACKETS + (word >> 40) % (2 * SIZE);
                    put_wqe(&guest, &queue, at, dice.next(), packet, dice.next() as u32);
                    guest.poke(
                        RING + u64::from(32 * at) + 4,
                        &[(word >> 16) as u8 % 33, (word >> 24) as u8],
                    );
                }
                // Work is handed over, a little or beyond all bounds.
                3 | 4 => {
                    tail = tail.wrapping_add(32 * ((word >> 8) as u32 % 64));
                    let told = if word >> 20 & 15 == 0 {
                        dice.next() as u32
                    } else {
                        tail
                    };
                    ring(
                        &mut guest,
                        queue.page,
                        [0x400, 0x000][(kind % 2) as usize],
                        queue.wq,
                        told,
                    );
                }
                5 => ring(&mut guest, queue.page, 0x800, queue.cq, dice.next() as u32),
                6 => ring(&mut guest, queue.page, 0xFF8, queue.eq, dice.next() as u32),
                _ => {
                    if word >> 8 & 15 == 0 {
                        let memory = guest.memory.as_raw_fd();
                        guest.client.dma_unmap(BASE, SIZE).unwrap();
                        ring(
                            &mut guest,
                            queue.page,
                            [0x400, 0x000][(kind % 2) as usize],
                            queue.wq,
                            tail,
                        );
                        guest.client.dma_map(0, BASE, SIZE, memory).unwrap();
                    }
                }
            }
        }
    }
    assert_well(&mut guest);
    assert!(
        !device.served.findings().is_empty(),
        "it is told what was wrong"
    );
}

/// Its memory takes no seal, so the server reaches it by calls, which fail where it ends.
#[test]
fn memory_that_is_cut_short_under_a_running_queue_is_not_reached() {
    let device = Device::new("model0,link=gen:pps=20000");
    let mut guest = Guest::start_with(&device.socket(), MemfdFlags::CLOEXEC);
    guest.establish();
    receiving(&mut guest);
    let until = Instant::now() + Duration::from_secs(60);
    while arrived(&guest) < 10 {
        assert!(Instant::now() < until, "nothing arrives");
    }
    guest.memory.set_len(0).unwrap();
    device.served.run("reset-request").unwrap();
    // A generator's turn, and what a driver may ask for.
    guest.ring(0x000, 64 * 20);
    guest.read::<8>(0);
    device.served.run("step").unwrap();
    guest.memory.set_len(SIZE).unwrap();
    assert_well(&mut guest);
}
