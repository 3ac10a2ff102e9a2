//! Payload that is sent from where the application has it.

use std::ops::Range;
use std::sync::{Arc, Mutex};

use pmd_api::{Batch, ExternalMemory, Mbuf, Reject, TxBurst, TxFlags, TxOffload};

use super::{Needs, Suite, capture};
use crate::packets::{Kind, frame};
use crate::{Plan, Rig, Running, rfc1071, tcp};

pub(super) const SUITE: Suite = Suite {
    name: "external_memory",
    proves: "payload in memory that the application registered leaves without a copy, alone, behind \
             headers, cloned and cut by TSO, is released once and not before it has left, and is \
             rejected where the port was not told of it",
    needs: Needs::Model,
    prepare: capture,
    run,
};

fn run(rig: &Rig) {
    let whole = frame(Kind::TcpV4, 1, 1, 20_054);
    let released: Arc<Mutex<Vec<Range<usize>>>> = Arc::default();
    let tell = Arc::clone(&released);
    let memory = ExternalMemory::with_release("payload", whole.clone(), move |piece| {
        tell.lock().expect("a list").push(piece);
    });
    let memory = memory.expect("memory");
    let plan = Plan {
        tx_memory: vec![memory.clone(), memory.clone()],
        ..Plan::default()
    };
    let mut running = Running::start(rig, &plan);
    let taken = || std::mem::take(&mut *released.lock().expect("a list"));
    let left = |running: &mut Running<'_>, mbufs: Vec<Mbuf>| {
        running.send(0, mbufs);
        running.settle();
        running.rig.device().take_tx_frames()
    };
    let attach = |running: &Running<'_>, piece: Range<usize>| {
        running
            .tx_pool
            .attach(&memory, piece)
            .expect("a free buffer")
    };

    // By itself, several in a burst, and not released before the device is done.
    let burst = vec![
        attach(&running, 0..100),
        attach(&running, 0..1514),
        attach(&running, 7..99),
    ];
    running.send(0, burst);
    assert!(!rig.is_stepped() || taken().is_empty());
    running.settle();
    let frames = running.rig.device().take_tx_frames();
    assert!(frames == [&whole[..100], &whole[..1514], &whole[7..99]]);
    assert_eq!(taken(), [0..100, 0..1514, 7..99]);

    // Behind headers that have room for checksums; the memory keeps its bytes.
    let right = frame(Kind::UdpV4, 2, 2, 1000);
    let mut front = running.packet(&right[..42]);
    front.data_mut().expect("unshared")[40..42].fill(0xEE);
    let payload = ExternalMemory::new("strange", right.clone()).expect("memory");
    let strange = running
        .tx_pool
        .attach(&payload, 42..1000)
        .expect("a buffer");
    front.chain(strange).expect("a chain");
    let offload = TxOffload {
        flags: TxFlags::IPV4 | TxFlags::UDP_CHECKSUM,
        l2_len: 14,
        l3_len: 20,
        ..TxOffload::default()
    };
    front.set_tx_offload(offload).expect("a request");
    let mut batch = Batch::with_capacity(1);
    batch.push(front).expect("room");
    // The port was not told of it.
    let error = running.queues.tx[0]
        .tx_prepare(&mut batch)
        .expect_err("strange memory");
    assert_eq!(error.reason, Reject::ForeignPool(payload.id()));
    let outcome = running.queues.tx[0].tx_burst(&mut batch);
    let (_, why) = outcome.rejected.expect("strange memory");
    assert_eq!(why, Reject::ForeignPool(payload.id()));

    // Told of it, with the next start.
    running.stop();
    let told = Plan {
        tx_memory: vec![payload.clone(), memory.clone()],
        ..plan
    };
    let config = told.config(&running.rx_pool, &running.tx_pool);
    running.port.configure(config).expect("a configuration");
    running.start_again();
    let mut front = running.packet(&right[..42]);
    front.data_mut().expect("unshared")[40..42].fill(0xEE);
    let piece = running
        .tx_pool
        .attach(&payload, 42..1000)
        .expect("a buffer");
    front.chain(piece).expect("a chain");
    front.set_tx_offload(offload).expect("a request");
    batch.push(front).expect("room");
    running.queues.tx[0]
        .tx_prepare(&mut batch)
        .expect("it can be sent");
    let frames = left(&mut running, batch.into_iter().collect());
    assert_eq!(rfc1071::verify(&frames[0]), Ok(()));
    assert!(frames == [&right[..]]);

    // Cut by the device, twice the same bytes: clones of one piece.
    let mut piece = running
        .tx_pool
        .attach(&memory, 54..20_054)
        .expect("a buffer");
    for last in [false, true] {
        let mut front = running.packet(&whole[..54]);
        let clone = piece.clone_shared(&running.tx_pool).expect("a clone");
        front.chain(clone).expect("a chain");
        let offload = TxOffload {
            flags: TxFlags::IPV4 | TxFlags::TSO,
            l4_len: 20,
            mss: 1448,
            ..offload
        };
        front.set_tx_offload(offload).expect("a request");
        let mut batch = Batch::with_capacity(1);
        batch.push(front).expect("room");
        running.queues.tx[0]
            .tx_prepare(&mut batch)
            .expect("it can be sent");
        let frames = left(&mut running, batch.into_iter().collect());
        assert!(tcp::reassemble(&whole, &frames, 1448) == whole[54..]);
        assert!(
            taken().is_empty(),
            "released while there is a packet, last {last}"
        );
    }
    drop(piece);
    assert_eq!(taken(), [54..20_054; 1]);
    let stats = running.port.tx_queue_stats(0);
    assert_eq!((stats.rejected, stats.errors), (1, 0));
    running.finish();
}
