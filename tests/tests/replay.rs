//! The replay proof: a capture goes in through `link=pcap`, is spread over four RSS queues, is
//! forwarded, and is captured again. Every byte must be equal, every flow in order, and every packet
//! on the queue that an independent Toeplitz says.

#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use conformance::packets::{Kind, frame};
use conformance::{Plan, Rig, Running, capture, toeplitz};
use mana_model::{DeviceConfig, DoorbellMode, Kernel, parse_device};
use pmd_api::{Batch, RxBurst, TxBurst};

const QUEUES: usize = 4;

/// Several hundred packets: TCP, UDP and ICMP over IPv4 and IPv6, fragments, ARP; no tags; sizes
/// from 60 to 1514; 90 flows whose packets are mixed.
fn recording() -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    for seed in 0..960_u32 {
        let kind = Kind::ALL[seed as usize % 8];
        let flow = seed * 7 % 90;
        let least = if kind.v6() { 80 } else { 60 };
        let size = least + seed as usize * 41 % (1515 - least);
        frames.push(frame(kind, flow, seed, size));
    }
    frames.extend((0..16).map(|seed| frame(Kind::UdpV4, seed, 2000 + seed, 1514)));
    frames
}

/// What packets have in common that must stay in order: everything the hash covers.
fn flow(frame: &[u8]) -> Vec<u8> {
    toeplitz::input(frame).unwrap_or_default()
}

fn flows(frames: &[Vec<u8>]) -> HashMap<Vec<u8>, Vec<&[u8]>> {
    let mut flows: HashMap<_, Vec<&[u8]>> = HashMap::new();
    for frame in frames {
        flows.entry(flow(frame)).or_default().push(frame);
    }
    flows
}

/// The same packets, each once, and those of each flow in their order.
#[track_caller]
fn assert_same(sent: &[Vec<u8>], came: &[Vec<u8>]) {
    assert_eq!(came.len(), sent.len(), "packets");
    let (mut a, mut b) = (sent.to_vec(), came.to_vec());
    a.sort();
    b.sort();
    assert!(a == b, "bytes changed on the way");
    let (sent, came) = (flows(sent), flows(came));
    assert!(sent.len() > 100, "only {} flows", sent.len());
    for (flow, packets) in sent {
        assert!(came[&flow] == packets, "flow {flow:02x?} is out of order");
    }
}

fn device(rx: &Path, tx: &Path, kernel: Kernel) -> DeviceConfig {
    let (rx, tx) = (rx.display(), tx.display());
    let text = format!("model0,link=pcap:rx={rx}:tx={tx},kernel={}", kernel.name());
    parse_device(&text).expect("a device")
}

#[test]
fn the_recording_is_what_the_proof_needs() {
    let frames = recording();
    let sizes = frames.iter().map(Vec::len);
    assert_eq!((sizes.clone().min(), sizes.max()), (Some(60), Some(1514)));
    let mut unique = frames.clone();
    unique.sort();
    unique.dedup();
    assert_eq!(unique.len(), frames.len(), "two equal packets");
    let mut queues = [0; QUEUES];
    for frame in &frames {
        queues[toeplitz::queue(&toeplitz::VECTOR_KEY, frame, QUEUES)] += 1;
    }
    assert!(queues.iter().all(|&count| count > 50), "{queues:?}");
}

#[test]
fn the_library_forwards_a_capture_unchanged_and_on_the_right_queues() {
    for kernel in Kernel::ALL {
        let folder = tempfile::tempdir().expect("a folder");
        let (rx, tx) = (folder.path().join("rx.pcap"), folder.path().join("tx.pcap"));
        let sent = recording();
        fs::write(&rx, capture::write(&sent)).expect("a file");
        let rig = Rig::model(device(&rx, &tx, kernel), DoorbellMode::Stepped);
        let mut running = Running::start(&rig, &Plan::queues(QUEUES, QUEUES));
        let mut batch = Batch::with_capacity(32);
        let mut forwarded = 0;
        rig.until(|| {
            let queues = &mut running.queues;
            for (index, (rx, tx)) in queues.rx.iter_mut().zip(&mut queues.tx).enumerate() {
                rx.rx_burst(&mut batch);
                for mbuf in &batch {
                    let bytes = mbuf.to_vec();
                    let expected = toeplitz::queue(&toeplitz::VECTOR_KEY, &bytes, QUEUES);
                    assert_eq!(index, expected, "{bytes:02x?}");
                }
                let count = batch.len();
                while !batch.is_empty() {
                    let outcome = tx.tx_burst(&mut batch);
                    assert!(outcome.rejected.is_none());
                    rig.advance();
                }
                forwarded += count;
            }
            false
        });
        assert_eq!(forwarded, sent.len());
        running.settle();
        assert!(rig.until(|| rig.device().drained()), "not drained");
        running.finish();
        drop(rig);
        let came = capture::read(&fs::read(&tx).expect("the capture"));
        assert_same(&sent, &came);
    }
}

#[test]
fn the_program_forwards_a_capture_unchanged() {
    let program = std::env::var_os("MANA_BIN")
        .expect("MANA_BIN names no program; `cargo xtask test --tier model` builds and sets it");
    let folder = tempfile::tempdir().expect("a folder");
    let (rx, tx) = (folder.path().join("rx.pcap"), folder.path().join("tx.pcap"));
    let sent = recording();
    fs::write(&rx, capture::write(&sent)).expect("a file");
    let device = format!(
        "--vdev=model0,link=pcap:rx={}:tx={}",
        rx.display(),
        tx.display()
    );
    let output = Command::new(program)
        .args(["testpmd", &device, "--", "--forward-mode=io"])
        .args(["--rxq=4", "--txq=4", "--auto-start", "--json"])
        .args(["--total-num-mbufs=8192", "--no-huge"])
        .output()
        .expect("mana starts");
    let (stdout, stderr) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{stdout}\n{stderr}");
    let json: serde_json::Value =
        serde_json::from_str(stdout.lines().last().expect("output")).expect("JSON");
    assert_eq!(json["findings"], 0, "{stderr}");
    assert_eq!(json["ports"][0]["rx_packets"], sent.len());
    assert_eq!(json["ports"][0]["tx_packets"], sent.len());
    assert_same(&sent, &capture::read(&fs::read(&tx).expect("the capture")));
    // Every queue had its share: testpmd names each stream's packets.
    let mut expected = [0; QUEUES];
    for frame in &sent {
        expected[toeplitz::queue(&toeplitz::VECTOR_KEY, frame, QUEUES)] += 1;
    }
    for (queue, packets) in expected.into_iter().enumerate() {
        let heading = format!("RX Port= 0/Queue= {queue} ");
        let after = stdout.split(&heading).nth(1);
        let after = after.unwrap_or_else(|| panic!("no stream of queue {queue} in {stdout}"));
        let line = after.lines().nth(1).expect("a line of numbers");
        let number = line.split_whitespace().nth(1);
        assert_eq!(
            number,
            Some(packets.to_string().as_str()),
            "queue {queue}: {line}"
        );
    }
}
