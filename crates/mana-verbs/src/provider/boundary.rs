//! What crosses the boundary, against what libibverbs and libmana sent in
//! reference/uverbs-boundary.md §2 (step numbers are its): attributes, their order, lengths, flags
//! and contents. Little-endian.

use crate::scripted::{Machine, Recorded, ring};
use crate::{CompletionQueue, ProtectionDomain, SendQueueSpec};

/// Id and length of each attribute, with the optional ones marked.
fn shape(call: &Recorded) -> Vec<(u16, u16, bool)> {
    let word = |at: usize| u16::from_le_bytes([call.bytes[at], call.bytes[at + 1]]);
    assert_eq!(usize::from(word(0)), call.bytes.len());
    assert_eq!(call.bytes[8..16], [0; 8], "reserved1");
    assert_eq!(call.bytes[16..24], [20, 0, 0, 0, 0, 0, 0, 0], "driver id");
    (0..usize::from(word(6)))
        .map(|n| 24 + 16 * n)
        .map(|at| (word(at), word(at + 2), word(at + 4) == 0))
        .collect()
}

const M: bool = false;
const OPTIONAL: bool = true;

fn cq(pd: &ProtectionDomain) -> CompletionQueue {
    pd.create_cq(ring(4096), 64, 5, None).unwrap()
}

#[test]
fn t1_a_completion_queue_is_152_bytes_with_8_attributes() {
    let machine = Machine::new();
    let ring = ring(4096);
    let address = ring.base().as_ptr() as u64;
    let pd = machine.pd();
    pd.create_cq(ring, 64, 5, None).unwrap();
    let script = machine.script();
    let call = &script.calls["create cq"];
    assert_eq!(call.bytes.len(), 152);
    assert_eq!(call.bytes[2..8], [3, 0, 0, 0, 8, 0]);
    #[rustfmt::skip]
    assert_eq!(shape(call), [
        (0, 0, M), (6, 4, M), (1, 4, M), (2, 8, M), (4, 4, M), (7, 0, OPTIONAL),
        (0x1000, 16, M), (0x1001, 8, M),
    ]);
    assert_eq!(call.inputs[&1], [64, 0, 0, 0]);
    assert_eq!(call.inputs[&4], [5, 0, 0, 0]);
    let driver_in = [address.to_le_bytes(), [0; 8]].concat();
    assert_eq!(call.inputs[&0x1000], driver_in);
}

#[test]
fn r1_a_channel_is_one_attribute_more() {
    let machine = Machine::new();
    let pd = machine.pd();
    let channel = pd.context().create_channel().unwrap();
    pd.create_cq(ring(4096), 64, 5, Some(&channel)).unwrap();
    let script = machine.script();
    let shape = shape(&script.calls["create cq"]);
    assert_eq!(shape.len(), 9);
    assert!(shape.contains(&(3, 0, M)));
    let channel = &script.calls["create channel"];
    assert_eq!(channel.inputs[&0], [0; 8]);
    assert_eq!(channel.inputs[&2], [17, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn t2_a_raw_queue_pair_is_216_bytes_with_12_attributes() {
    let machine = Machine::new();
    let pd = machine.pd();
    let ring = ring(8192);
    let address = ring.base().as_ptr() as u64;
    let spec = SendQueueSpec {
        port: 2,
        ring,
        max_wr: 128,
        max_sge: 30,
    };
    pd.create_send_queue(spec, cq(&pd)).unwrap();
    let script = machine.script();
    let call = &script.calls["create send queue"];
    assert_eq!(call.bytes.len(), 216);
    assert_eq!(call.bytes[2..8], [4, 0, 0, 0, 12, 0]);
    #[rustfmt::skip]
    assert_eq!(shape(call), [
        (2, 0, M), (4, 0, M), (5, 0, M), (0, 0, M), (9, 8, M), (7, 8, M), (8, 20, M),
        (12, 0, M), (13, 20, M), (14, 4, M), (0x1000, 16, M), (0x1001, 16, M),
    ]);
    assert_eq!(
        call.bytes[48..56],
        call.bytes[64..72],
        "the same queue on both sides"
    );
    assert_eq!(call.inputs[&9], [8, 0, 0, 0, 0, 0, 0, 0]);
    #[rustfmt::skip]
    assert_eq!(call.inputs[&8], [
        128, 0, 0, 0,  0, 0, 0, 0,  30, 0, 0, 0,  0, 0, 0, 0,  0, 0, 0, 0,
    ]);
    let driver_in = [address.to_le_bytes(), [0, 0x20, 0, 0, 2, 0, 0, 0]].concat();
    assert_eq!(call.inputs[&0x1000], driver_in);
}

#[test]
fn r2_a_work_queue_is_232_bytes_with_13_attributes() {
    let machine = Machine::new();
    let pd = machine.pd();
    let ring = ring(4096);
    let address = ring.base().as_ptr() as u64;
    pd.create_work_queue(ring, 128, cq(&pd)).unwrap();
    let script = machine.script();
    let call = &script.calls["create work queue"];
    assert_eq!(call.bytes.len(), 232);
    assert_eq!(call.bytes[2..8], [12, 0, 0, 0, 13, 0]);
    #[rustfmt::skip]
    assert_eq!(shape(call), [
        (0, 0, M), (3, 8, M), (1, 0, M), (2, 0, M), (4, 8, M), (6, 4, M), (7, 4, M),
        (5, 0, M), (8, 4, M), (9, 4, M), (10, 4, M), (11, 4, M), (0x1000, 16, M),
    ]);
    assert_eq!(call.inputs[&4], [0; 8]);
    assert_eq!(call.inputs[&6], [128, 0, 0, 0]);
    assert_eq!(call.inputs[&7], [1, 0, 0, 0]);
    assert_eq!(call.inputs[&8], [0; 4]);
    let driver_in = [address.to_le_bytes(), [0, 0x10, 0, 0, 0, 0, 0, 0]].concat();
    assert_eq!(call.inputs[&0x1000], driver_in);
}

#[test]
fn r3_a_table_command_is_padded_to_8_bytes() {
    for (queues, bytes) in [(1u32, 16), (2, 16), (4, 24), (64, 264)] {
        let machine = Machine::new();
        let pd = machine.pd();
        let work_queues: Vec<_> = (0..queues)
            .map(|_| pd.create_work_queue(ring(4096), 128, cq(&pd)).unwrap())
            .collect();
        let first = work_queues[0].handle();
        pd.create_rss(1, work_queues, &[0; 40]).unwrap();
        let script = machine.script();
        let call = &script.calls["create table"];
        assert_eq!(shape(call), [(2, 8, M), (0, bytes, M), (1, 16, M)]);
        assert_eq!(call.inputs[&2], [0x37, 0, 0, 0x80, 0, 0, 0, 0]);
        let request = &call.inputs[&0];
        assert_eq!(request[0..4], [0; 4]);
        assert_eq!(request[4..8], u32::to_le_bytes(queues.trailing_zeros()));
        assert_eq!(request[8..12], first.to_le_bytes());
        let used = 8 + 4 * queues as usize;
        assert!(request[used..].iter().all(|&byte| byte == 0));
    }
}

#[test]
fn r4_an_rss_queue_pair_is_200_bytes_with_11_attributes() {
    let machine = Machine::new();
    let pd = machine.pd();
    let queue = pd.create_work_queue(ring(4096), 128, cq(&pd)).unwrap();
    let key = std::array::from_fn(|n| n as u8);
    pd.create_rss(2, vec![queue], &key).unwrap();
    let script = machine.script();
    let call = &script.calls["create rss"];
    assert_eq!(call.bytes.len(), 200);
    assert_eq!(call.bytes[2..8], [4, 0, 0, 0, 11, 0]);
    #[rustfmt::skip]
    assert_eq!(shape(call), [
        (2, 0, M), (6, 0, M), (0, 0, M), (9, 8, M), (7, 8, M), (8, 20, M),
        (12, 0, M), (13, 20, M), (14, 4, M), (0x1000, 64, M), (0x1001, 520, M),
    ]);
    assert_eq!(call.inputs[&8], [0; 20]);
    let driver_in = &call.inputs[&0x1000];
    assert_eq!(
        driver_in[..16],
        [3, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]
    );
    assert_eq!(driver_in[16..20], [40, 0, 0, 0]);
    assert_eq!(driver_in[20..60], key);
    assert_eq!(driver_in[60..64], [2, 0, 0, 0]);
}

#[test]
fn p1_p3_r5_write_commands_travel_in_invoke_write() {
    let machine = Machine::new();
    let pd = machine.pd();
    let region = crate::scripted::region();
    pd.register(&region, crate::Access::LocalWrite).unwrap();
    let script = machine.script();
    for (name, command, request, answer) in [
        ("query device", 0x8000_0001u64, 8, 304),
        ("alloc pd", 3, 8, 4),
        ("register memory", 9, 40, 12),
    ] {
        let call = &script.calls[name];
        assert_eq!(call.bytes[2..8], [0, 0, 0, 0, 3, 0], "{name}");
        assert_eq!(shape(call), [(2, 8, M), (0, request, M), (1, answer, M)]);
        assert_eq!(call.inputs[&2], command.to_le_bytes());
    }
    let probe = &script.calls["probe"];
    assert_eq!(shape(probe), [(2, 8, M)]);
}

#[test]
fn destroys_carry_the_handle_and_room_for_the_answer() {
    let machine = Machine::new();
    let pd = machine.pd();
    drop(pd.register(&crate::scripted::region(), crate::Access::LocalRead));
    let queue = pd.create_work_queue(ring(4096), 128, cq(&pd)).unwrap();
    drop(pd.create_rss(1, vec![queue], &[0; 40]).unwrap());
    drop(pd);
    let script = machine.script();
    for (name, answer) in [("destroy qp", 4), ("destroy wq", 4), ("destroy cq", 8)] {
        assert_eq!(
            shape(&script.calls[name]),
            [(1, answer, M), (0, 0, M)],
            "{name}"
        );
    }
    for name in ["destroy table", "destroy mr", "destroy pd"] {
        assert_eq!(shape(&script.calls[name]), [(0, 0, M)], "{name}");
    }
}
