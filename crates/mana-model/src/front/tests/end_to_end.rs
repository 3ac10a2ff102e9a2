//! A packet out and a packet in: every byte of the program's side written and read by hand, after
//! the tables of reference/mana-hardware.md §2.3-§2.7 and §3.1-§3.6.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;

use uverbs_abi::ids::object;
use uverbs_abi::{DoorbellKind, Errno};

use super::machine;
use super::program::{Program, Ring};
use crate::config::{DeviceConfig, Kernel, LinkConfig};
use crate::faults::Fault;
use crate::model::Model;

/// A machine of one port whose frames are kept. Queue ids are above 1023, so that `vsq_frame`
/// counts.
fn capturing(kernel: Kernel) -> Model {
    let mut device = DeviceConfig::new(kernel);
    device.ports[0].link = LinkConfig::Sink { capture: true };
    device.first_queue_id = 5000;
    device.first_cq_id = 300;
    device.vport_offset = 9;
    machine(vec![device])
}

/// A frame of `length` bytes from the port's own MAC to everybody, no protocol that anyone parses.
pub(super) fn frame(model: &Model, length: usize) -> Vec<u8> {
    let mut frame = vec![0xFF; 6];
    frame.extend_from_slice(&model.port(0).mac().0);
    frame.extend_from_slice(&[0x88, 0xB5]);
    frame.extend((frame.len()..length).map(|index| index as u8));
    frame
}

/// Header, short OOB and one SGE: 32 bytes.
pub(super) fn send_wqe(queue: &Sender, address: u64, length: u32) -> [u64; 4] {
    let header = (1 | 2 << 8) << 32;
    let word0 = u64::from(queue.cq_id) << 8;
    let word1 = u64::from(queue.sq_id >> 10) << 10 | u64::from(queue.offset) << 24;
    let key = u64::from(queue.lkey) | u64::from(length) << 32;
    [header, word0 | word1 << 32, address, key]
}

pub(super) struct Sender {
    pub(super) ring: Ring,
    pub(super) cq_ring: Ring,
    pub(super) sq_id: u32,
    pub(super) cq_id: u32,
    pub(super) offset: u32,
    pub(super) lkey: u32,
    pub(super) data: Ring,
}

/// PD, MR and a send queue of 128 units.
pub(super) fn sender(program: &Program) -> (u32, Sender) {
    let pd = program.alloc_pd().unwrap();
    let data = program.memory(16384);
    let mr = program.reg_mr(pd, data.address(), 16384, 1).unwrap();
    let (ring, cq_ring) = (program.memory(4096), program.memory(4096));
    let mut cq = program.cq_spec(64);
    cq.address = cq_ring.address();
    let (cq, _) = program.create_cq(cq).unwrap();
    let mut spec = program.raw_spec(pd, cq);
    spec.address = ring.address();
    let (_, ids) = program.create_raw_qp(spec).unwrap();
    let sender = Sender {
        ring,
        cq_ring,
        sq_id: ids.sqid,
        cq_id: ids.cqid,
        offset: ids.tx_vp_offset,
        lkey: mr.lkey,
        data,
    };
    (pd, sender)
}

#[test]
fn a_packet_written_by_hand_leaves_the_port_and_completes() {
    for kernel in Kernel::ALL {
        let model = capturing(kernel);
        let program = Program::start(&model);
        let (_, queue) = sender(&program);
        assert!(queue.sq_id >= 5000 && queue.offset == 9);
        let frame = frame(&model, 75);
        queue.data.store_bytes(64, &frame);
        // Three laps of the ring, one packet a doorbell.
        for index in 0..3 * 128_u32 {
            let wqe = send_wqe(&queue, queue.data.address() + 64, 75);
            for (word, value) in wqe.into_iter().enumerate() {
                queue.ring.store((index as usize % 128) * 4 + word, value);
            }
            let tail = u64::from(index + 1) * 32;
            program.doorbell(
                DoorbellKind::Send,
                queue.sq_id,
                u64::from(queue.sq_id) | tail << 32,
            );
            assert!(model.step() > 0);
            let cqe = queue.cq_ring.load_bytes((index as usize % 64) * 64, 64);
            // TX_OKAY of client 1.
            assert_eq!(cqe[0] & 0x3F, 32);
            let last = u32::from_le_bytes(cqe[60..].try_into().unwrap());
            let owner = (1 + index / 64) & 7;
            assert_eq!(last, queue.sq_id | 1 << 24 | owner << 29, "packet {index}");
            assert_eq!(model.port(0).take_tx_frames(), std::slice::from_ref(&frame));
            // The rule of four wraps (§2.8): unarmed, entries modulo 8 * 64.
            let head = u64::from((64 + index + 1) % 512);
            program.doorbell(
                DoorbellKind::Completion,
                queue.cq_id,
                u64::from(queue.cq_id) | head << 32,
            );
        }
        model.step();
        assert_eq!(model.port(0).counters().tx_frames, 384);
        assert_eq!(model.findings(), []);
    }
}

/// Microsoft's verification suite for RSS: the key, and TCP from 199.92.111.2:14230 to
/// 65.69.140.83:4739 with hash 0xc626b0ea.
const KEY: [u8; 40] = [
    0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0,
    0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c,
    0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
];

/// That packet, without payload. The IPv4 checksum is right, the TCP checksum is not.
fn tcp_packet(model: &Model) -> Vec<u8> {
    let mut frame = model.port(0).mac().0.to_vec();
    frame.extend_from_slice(&[2, 0, 0, 0, 0, 1, 0x08, 0x00]);
    frame.extend_from_slice(&[0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0]);
    frame.extend_from_slice(&[199, 92, 111, 2, 65, 69, 140, 83]);
    let words = frame[14..34].chunks(2);
    let sum: u32 = words
        .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
        .sum();
    let checksum = !((sum >> 16) + (sum & 0xFFFF)) as u16;
    frame[24..26].copy_from_slice(&checksum.to_be_bytes());
    frame.extend_from_slice(&14230_u16.to_be_bytes());
    frame.extend_from_slice(&4739_u16.to_be_bytes());
    frame.extend_from_slice(&[0; 8]);
    frame.extend_from_slice(&[0x50, 0x10, 0xFF, 0xFF, 0x12, 0x34, 0, 0]);
    frame
}

struct Receiver {
    ring: Ring,
    cq_ring: Ring,
    rq_id: u32,
    cq_id: u32,
}

/// Four empty receive queues of 128 units behind an RSS QP.
fn receivers(program: &Program, pd: u32, channel: Option<i32>) -> Vec<Receiver> {
    let mut queues = Vec::new();
    let mut wqs = Vec::new();
    for index in 0..4 {
        let (ring, cq_ring) = (program.memory(4096), program.memory(8192));
        let mut cq = program.cq_spec(128);
        cq.address = cq_ring.address();
        cq.channel = channel;
        cq.user_handle = 0x1000 + index;
        let (cq, _) = program.create_cq(cq).unwrap();
        wqs.push(program.create_wq(pd, cq, ring.address(), 4096).unwrap());
        queues.push(Receiver {
            ring,
            cq_ring,
            rq_id: 0,
            cq_id: 0,
        });
    }
    let table = program.create_table(2, &wqs).unwrap();
    let mut spec = program.rss_spec(pd, table);
    spec.key = KEY;
    let (_, answer) = program.create_rss_qp(spec).unwrap();
    for (queue, ids) in queues.iter_mut().zip(answer.entries) {
        (queue.rq_id, queue.cq_id) = (ids.wqid, ids.cqid);
    }
    queues
}

/// Posts the first buffer of a queue, 256 bytes.
fn post(program: &Program, queue: &Receiver, address: u64, lkey: u32) {
    let wqe = [(1 | 2 << 8) << 32, 0, address, u64::from(lkey) | 256 << 32];
    for (word, value) in wqe.into_iter().enumerate() {
        queue.ring.store(word, value);
    }
    program.doorbell(
        DoorbellKind::Receive,
        queue.rq_id,
        u64::from(queue.rq_id) | 32 << 32,
    );
}

#[test]
fn a_packet_arrives_at_the_queue_of_its_hash_and_others_at_the_last_queue() {
    for kernel in Kernel::ALL {
        let model = capturing(kernel);
        let program = Program::start(&model);
        let (pd, sender) = sender(&program);
        let queues = receivers(&program, pd, None);
        for (index, queue) in queues.iter().enumerate() {
            let address = sender.data.address() + 256 * index as u64;
            post(&program, queue, address, sender.lkey);
        }
        model.step();
        let (hashed, other) = (tcp_packet(&model), frame(&model, 60));
        model.port(0).deliver(&hashed);
        model.port(0).deliver(&other);
        assert!(model.step() > 0);
        // 0xea & 63 is 42, 42 mod 4 is 2. What has no hash goes to the last queue of the table.
        let dword = |cqe: &[u8], at: usize| u32::from_le_bytes(cqe[at..at + 4].try_into().unwrap());
        for (index, packet, hash) in [(2, &hashed, 0xC626_B0EA), (3, &other, 0)] {
            let queue = &queues[index];
            let cqe = queue.cq_ring.load_bytes(0, 64);
            assert_eq!(dword(&cqe, 0) & 0x3F, 1, "OKAY");
            assert_eq!(dword(&cqe, 8) & 0xFFFF, packet.len() as u32);
            assert_eq!(dword(&cqe, 16), hash);
            assert_eq!(dword(&cqe, 60), queue.rq_id | 1 << 29);
            assert_eq!(&sender.data.load_bytes(256 * index, packet.len()), packet);
        }
        let flags = dword(&queues[2].cq_ring.load_bytes(0, 64), 4);
        // TCP_IPV4 is bit 1 of the hash type; IPv4 checksum good, TCP checksum bad.
        assert_eq!(flags >> 16 & 0x1FF, 2);
        assert_eq!(flags >> 25 & 0b11, 0b01);
        assert_eq!(flags >> 27 & 0b11, 0b10);
        for index in [0, 1] {
            assert_eq!(queues[index].cq_ring.load(7), 0, "queue {index} is empty");
        }
        assert_eq!(model.port(0).counters().rx_frames, 2);
        assert_eq!(model.findings(), []);
    }
}

#[test]
fn an_armed_cq_writes_one_event_into_its_channel_where_cqs_have_an_event_queue() {
    for kernel in Kernel::ALL {
        let model = capturing(kernel);
        let program = Program::start(&model);
        let (pd, sender) = sender(&program);
        let channel = program.channel().unwrap();
        let queues = receivers(&program, pd, Some(channel.as_raw_fd()));
        let queue = &queues[3];
        post(&program, queue, sender.data.address(), sender.lkey);
        model.step();
        model.port(0).deliver(&frame(&model, 60));
        model.step();
        assert_eq!(model.port(0).counters().rx_frames, 1);
        // Arming with the packet unread asks for an event at once.
        let head = 128;
        program.doorbell(
            DoorbellKind::Completion,
            queue.cq_id,
            u64::from(queue.cq_id) | head << 32 | 1 << 63,
        );
        model.step();
        drop(program);
        let mut events = Vec::new();
        File::from(channel).read_to_end(&mut events).unwrap();
        // CQs are born armed (§4.9), hence two.
        let expected = match kernel {
            Kernel::V6_12 | Kernel::V7_3 => [0x1003_u64.to_ne_bytes(); 2].concat(),
            Kernel::V5_15Azure => vec![],
        };
        assert_eq!(events, expected, "{kernel:?}");
    }
}

#[test]
fn reception_stays_on_without_its_queues_where_the_rss_qp_does_not_turn_it_off() {
    for kernel in Kernel::ALL {
        let model = capturing(kernel);
        let program = Program::start(&model);
        let (pd, _) = sender(&program);
        let wqs = [program.wq(pd, program.cq())];
        let table = program.create_table(0, &wqs).unwrap();
        let (rss, _) = program.create_rss_qp(program.rss_spec(pd, table)).unwrap();
        program.destroy(object::QP, rss).unwrap();
        // Lost either way; nothing is written to a queue that is gone.
        model.port(0).deliver(&frame(&model, 60));
        model.step();
        assert_eq!(model.port(0).counters().rx_disabled, 1);
        assert_eq!(model.findings(), []);
    }
}

#[test]
fn destroying_a_cq_counts_the_events_that_were_read() {
    destroying_counts_events(false);
}

/// libibverbs waits for as many acknowledgements as the answer says, for ever if it says too few.
#[test]
fn destroying_a_cq_of_a_removed_device_counts_them_as_well() {
    destroying_counts_events(true);
}

fn destroying_counts_events(removed: bool) {
    let model = capturing(Kernel::V6_12);
    let program = Program::start(&model);
    let channel = program.channel().unwrap();
    let mut spec = program.cq_spec(64);
    spec.channel = Some(channel.as_raw_fd());
    let (cq, _) = program.create_cq(spec).unwrap();
    let (pd, data) = (program.alloc_pd().unwrap(), program.memory(4096));
    let mr = program.reg_mr(pd, data.address(), 4096, 0).unwrap();
    let ring = program.memory(4096);
    let mut raw = program.raw_spec(pd, cq);
    raw.address = ring.address();
    let (qp, ids) = program.create_raw_qp(raw).unwrap();
    let queue = Sender {
        cq_ring: ring.clone(),
        ring: ring.clone(),
        sq_id: ids.sqid,
        cq_id: ids.cqid,
        offset: ids.tx_vp_offset,
        lkey: mr.lkey,
        data: data.clone(),
    };
    data.store_bytes(0, &frame(&model, 60));
    let wqe = send_wqe(&queue, data.address(), 60);
    for unit in 0..2 {
        for (word, value) in wqe.into_iter().enumerate() {
            ring.store(unit * 4 + word, value);
        }
    }
    // The first completion fires because the CQ is born armed, the second because it is armed
    // again: tail 65 of 512, bit 63.
    let sq = |tail: u64| u64::from(ids.sqid) | tail << 32;
    program.doorbell(DoorbellKind::Send, ids.sqid, sq(32));
    model.step();
    let mut reader = File::from(channel);
    reader.read_exact(&mut [0; 8]).unwrap();
    program.doorbell(
        DoorbellKind::Completion,
        ids.cqid,
        u64::from(ids.cqid) | 65 << 32 | 1 << 63,
    );
    model.step();
    program.doorbell(DoorbellKind::Send, ids.sqid, sq(64));
    model.step();
    if removed {
        model.inject(Fault::DeviceFatal { device: 0 });
        assert_eq!(program.destroy(object::CQ, qp), Err(Errno::EINVAL));
    }
    program.destroy(object::QP, qp).unwrap();
    // One of two was read, and the other is withdrawn.
    let reported = program.destroy(object::CQ, cq).unwrap();
    assert_eq!(reported, [1, 0, 0, 0, 0, 0, 0, 0]);
    drop(program);
    assert_eq!(reader.read(&mut [0; 8]).unwrap(), 0);
}
