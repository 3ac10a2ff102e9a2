//! Whatever a driver writes, the device goes on: no panic, no access outside.

use proptest::prelude::*;

use super::*;

/// What a hostile driver does next.
#[derive(Debug, Clone)]
enum Act {
    /// Any bytes as WQE.
    Bytes(bool, Vec<u8>),
    /// A WQE that is almost right.
    Wqe(bool, [u8; 8], u64, u32, u32),
    /// The doorbell for what was written, off by some units.
    Ring(bool, i32),
    /// Any doorbell.
    Doorbell(u8, u64),
    /// A CQ doorbell near the truth.
    Complete(bool, u64, bool),
    Frame(Vec<u8>),
    Run,
}

fn act() -> impl Strategy<Value = Act> {
    let near = prop_oneof![Just(ADDRESS), ADDRESS - 4..ADDRESS + RING + 4, any::<u64>(),];
    let size = prop_oneof![0..100u32, 0..RING as u32 + 10, any::<u32>()];
    let key = prop_oneof![4 => Just(0), 1 => any::<u32>()];
    let packet = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..100),
        (0..60usize, any::<u8>()).prop_map(|(at, value)| {
            let mut frame = DNS.to_vec();
            frame[at] = value;
            frame
        }),
    ];
    prop_oneof![
        (any::<bool>(), prop::collection::vec(any::<u8>(), 1..512))
            .prop_map(|(send, bytes)| Act::Bytes(send, bytes)),
        (any::<bool>(), any::<[u8; 8]>(), near, key, size)
            .prop_map(|(send, oob, near, key, size)| Act::Wqe(send, oob, near, key, size)),
        (any::<bool>(), -3..3i32).prop_map(|(send, off)| Act::Ring(send, off)),
        (0..3u8, any::<u64>()).prop_map(|(kind, value)| Act::Doorbell(kind, value)),
        (any::<bool>(), 0..600u64, any::<bool>())
            .prop_map(|(send, read, arm)| Act::Complete(send, read, arm)),
        packet.prop_map(Act::Frame),
        Just(Act::Run),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn nothing_a_driver_writes_can_stop_the_device(acts in prop::collection::vec(act(), 1..60)) {
        let mut bench = Bench::with(&[LinkConfig::Loop], |config| {
            (config.first_queue_id, config.first_cq_id) = (1, 2);
        });
        let mut queues = [bench.receiver(2), bench.sender()];
        for act in acts {
            match act {
                Act::Bytes(send, bytes) => queues[usize::from(send)].post(&bytes),
                Act::Wqe(send, noise, address, key, size) => {
                    let queue = &mut queues[usize::from(send)];
                    let mut oob = if send { queue.short_oob(0, 0) } else { [0; 8] };
                    // Mostly right: one noisy byte in two.
                    oob[usize::from(noise[0] & 7)] ^= noise[1] & noise[2] & noise[3];
                    let segment = (address, bench.key.wrapping_add(key), size);
                    queue.post(&wqe(&oob, &[segment; 3][..1 + usize::from(noise[4] % 3)]));
                }
                Act::Ring(send, off) => {
                    let queue = &mut queues[usize::from(send)];
                    let cursor = (queue.written as u32).wrapping_add_signed(32 * off);
                    let value = u64::from(queue.ids.wq_id) | u64::from(cursor) << 32;
                    let (kind, id) = (queue.kind, queue.ids.wq_id);
                    bench.device.doorbell(CONTEXT, kind, id, value);
                }
                Act::Doorbell(kind, value) => {
                    use DoorbellKind::{Completion, Receive, Send};
                    let kind = [Send, Receive, Completion][usize::from(kind)];
                    // Ids below 4 are those of the queues.
                    let value = value & !0xFF_FFFC;
                    bench.device.doorbell(CONTEXT, kind, (value & 3) as u32, value);
                }
                Act::Complete(send, read, arm) => {
                    let queue = &mut queues[usize::from(send)];
                    queue.completed = read;
                    let (id, value) = (queue.ids.cq_id, queue.cq_value(arm));
                    bench.device.doorbell(CONTEXT, DoorbellKind::Completion, id, value);
                }
                Act::Frame(frame) => bench.links.deliver(0, &frame),
                Act::Run => {
                    // A loop may go round for ever; the device must come back each time.
                    for _ in 0..4 {
                        bench.device.step(&mut bench.links, 0);
                    }
                    bench.device.take_cq_events();
                }
            }
        }
        for finding in bench.device.findings() {
            prop_assert!(finding.count > 0 && !finding.to_string().is_empty());
        }
    }
}
