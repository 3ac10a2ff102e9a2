//! What the forward modes of `mana testpmd` make of packets, on models.

#![forbid(unsafe_code)]

mod support;

use std::fs;
use std::path::PathBuf;

use support::{Run, SMALL, Typed, file, frames, pcap, udp, wait_for_frames};

#[test]
fn a_replayed_capture_comes_back_whole_and_ends_the_run() {
    let (rx, tx) = (file("replay-rx.pcap"), file("replay-tx.pcap"));
    let mut sent: Vec<Vec<u8>> = (0..3000).map(|number| udp(number as u8, number)).collect();
    // The device takes VLAN tags out; they must be back in what leaves.
    for frame in sent.iter_mut().step_by(5) {
        frame.splice(12..12, [0x81, 0x00, 0x00, 0x07]);
    }
    fs::write(&rx, pcap(&sent)).expect("a capture");
    let run = Run::of(&format!(
        "--vdev=model0,link=pcap:rx={}:tx={} -- --rxq=4 --txq=4 --json --total-num-mbufs=8192",
        rx.display(),
        tx.display()
    ))
    .succeeded();
    assert_eq!(run.port_field(0, "rx_packets"), 3000);
    assert_eq!(run.port_field(0, "tx_packets"), 3000);
    let mut came = frames(&fs::read(&tx).expect("a capture"));
    let mut expected = sent;
    came.sort();
    expected.sort();
    assert_eq!(came.len(), expected.len());
    assert!(came == expected, "a frame changed on its way");
}

#[test]
fn cores_that_sleep_when_idle_forward_everything_also_where_no_interrupt_wakes_them() {
    for kernel in ["7.3", "5.15-azure"] {
        let (rx, tx) = (
            file(&format!("sleep-{kernel}-rx.pcap")),
            file(&format!("sleep-{kernel}-tx.pcap")),
        );
        let mut sent: Vec<Vec<u8>> = (0..2000).map(|number| udp(number as u8, number)).collect();
        fs::write(&rx, pcap(&sent)).expect("a capture");
        let run = Run::of(&format!(
            "--vdev=model0,kernel={kernel},link=pcap:rx={}:tx={} -- --rxq=2 --txq=2 --json \
             --rx-interrupts {SMALL}",
            rx.display(),
            tx.display()
        ))
        .succeeded();
        let mut came = frames(&fs::read(&tx).expect("a capture"));
        came.sort();
        sent.sort();
        assert!(came == sent, "{} of {} frames", came.len(), sent.len());
        let polled = run.stdout.contains("every 100µs");
        assert_eq!(polled, kernel == "5.15-azure", "{}", run.stdout);
        let line = run.stdout.lines().find(|line| line.contains("slept"));
        let line = line.expect("a line on sleeps");
        let numbers: Vec<u64> = (line.split(' '))
            .filter_map(|word| word.parse().ok())
            .collect();
        // It ends only after the cores found nothing several times.
        assert!(numbers[0] > 0, "{line}");
        assert_eq!(numbers[1] > 0, polled, "{line}");
    }
}

/// An ARP request for 192.0.2.`last`, tagged with VLAN 7.
fn who_has(last: u8) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend([2, 0, 0x5e, 0x10, 0, 1, 0x81, 0x00, 0x00, 0x07]);
    frame.extend([0x08, 0x06, 0, 1, 0x08, 0x00, 6, 4, 0, 1]);
    frame.extend([2, 0, 0x5e, 0x10, 0, 1, 192, 0, 2, 1]);
    frame.extend([0, 0, 0, 0, 0, 0, 192, 0, 2, last]);
    frame.resize(64, 0);
    frame
}

#[test]
fn icmpecho_answers_by_the_port_that_was_asked_with_its_vlan_tag() {
    let asked = file("icmpecho-asked.pcap");
    let answered = [0, 1].map(|port| file(&format!("icmpecho-answered-{port}.pcap")));
    let requests: Vec<Vec<u8>> = (2..202).map(who_has).collect();
    // What is no request ends here.
    let mut all = requests.clone();
    all.push(udp(1, 1));
    fs::write(&asked, pcap(&all)).expect("a capture");
    let run = Run::of(&format!(
        "--vdev=model0,mac=00:0d:3a:76:3b:d0,link=pcap:rx={0}:tx={1} \
         --vdev=model1,link=pcap:tx={2} -- --forward-mode=icmpecho --json {SMALL}",
        asked.display(),
        answered[0].display(),
        answered[1].display(),
    ))
    .succeeded();
    assert_eq!(run.port_field(0, "rx_packets"), 201);
    assert_eq!(run.port_field(0, "tx_packets"), 200);
    assert!(
        run.stdout
            .contains("RX P=0/Q=0 (socket 0) -> TX P=0/Q=0 (socket 0)"),
        "{}",
        run.stdout
    );
    let replies = frames(&fs::read(&answered[0]).expect("a capture"));
    let expected: Vec<Vec<u8>> = requests
        .into_iter()
        .map(|request| {
            let mut reply = request.clone();
            reply[0..6].copy_from_slice(&request[6..12]);
            reply[6..12].copy_from_slice(&[0x00, 0x0d, 0x3a, 0x76, 0x3b, 0xd0]);
            reply[25] = 2;
            reply[26..32].copy_from_slice(&[0x00, 0x0d, 0x3a, 0x76, 0x3b, 0xd0]);
            reply[32..36].copy_from_slice(&request[42..46]);
            reply[36..46].copy_from_slice(&request[26..36]);
            reply
        })
        .collect();
    assert!(replies == expected, "{:x?}", replies.first());
    assert!(frames(&fs::read(&answered[1]).expect("a capture")).is_empty());
}

#[test]
fn flowgen_sends_its_flows_with_clones_and_takes_what_comes() {
    let sent = file("flowgen.pcap");
    let mut typed = Typed::piped(&format!(
        "--vdev=model0,link=pcap:tx={} --vdev=model1,link=gen:count=300 -- \
         --forward-mode=flowgen --flowgen-flows=8 --flowgen-clones=1 --burst=4 --txpkts=68 \
         --rxq=2 --stats-period=1 --json --total-num-mbufs=8192",
        sent.display(),
    ));
    typed.wait_for_count(1, "RX-packets", 300);
    wait_for_frames(&sent, 101);
    let run = typed.interrupt().succeeded();
    for line in [
        "testpmd: flowgen needs a TX queue for each RX queue: 2 TX queues a port instead of 1",
        "  packet len=68 - nb packet segments=1",
        "  number of flows for port 0: 8",
        "  number of flows for port 1: 8",
    ] {
        assert!(run.stdout.contains(line), "{line}: {}", run.stdout);
    }
    assert_eq!(run.port_field(1, "rx_packets"), 300);
    let sent = frames(&fs::read(&sent).expect("a capture"));
    assert!(sent.len() > 100);
    for frame in sent {
        assert_eq!(frame.len(), 64);
        assert_eq!(frame[26..33], [10, 254, 0, 0, 10, 253, 0]);
        assert!([0, 2, 4, 6].contains(&frame[33]), "{}", frame[33]);
    }
}

#[test]
fn in_5tswap_two_turns_make_the_packet_that_came() {
    let (rx, tx) = (file("5tswap-rx.pcap"), file("5tswap-tx.pcap"));
    let sent: Vec<Vec<u8>> = (0..500).map(|number| udp(number as u8, number)).collect();
    let turned = |rx: &PathBuf, tx: &PathBuf| {
        Run::of(&format!(
            "--vdev=model0,link=pcap:rx={}:tx={} -- --forward-mode=5tswap --json {SMALL}",
            rx.display(),
            tx.display()
        ))
        .succeeded();
        frames(&fs::read(tx).expect("a capture"))
    };
    fs::write(&rx, pcap(&sent)).expect("a capture");
    let once = turned(&rx, &tx);
    for (came, left) in sent.iter().zip(&once) {
        assert_eq!(came[26..30], left[30..34]);
        assert_eq!(came[30..34], left[26..30]);
        assert_eq!(came[34..36], left[36..38]);
        assert_eq!(came[36..38], left[34..36]);
        assert_eq!(came[38..], left[38..]);
    }
    let again = file("5tswap-again.pcap");
    assert!(turned(&tx, &again) == sent);
}

#[test]
fn paired_ports_exchange_their_packets() {
    let run = Run::of(&format!(
        "--vdev=model0,link=gen:count=500 --vdev=model1,link=sink -- --forward-mode=macswap \
         --json {SMALL}"
    ))
    .succeeded();
    assert_eq!(run.port_field(0, "rx_packets"), 500);
    assert_eq!(run.port_field(1, "tx_packets"), 500);
    assert_eq!(run.port_field(0, "tx_packets"), 0);
}

#[test]
fn rxonly_receives_what_a_generator_sends_on_every_queue() {
    let run = Run::of(&format!(
        "--vdev=model0,link=gen:count=2000 -- --forward-mode=rxonly --rxq=2 --json {SMALL}"
    ))
    .succeeded();
    assert_eq!(run.port_field(0, "rx_packets"), 2000);
    assert!(run.stdout.contains("RX Port= 0/Queue= 1"), "{}", run.stdout);
}

#[test]
fn tx_first_sets_packets_going_in_a_loop() {
    let mut typed = Typed::piped(&format!(
        "--vdev=model0 -- --tx-first --burst=8 --stats-period=1 --json {SMALL}"
    ));
    // More than were sent first: they go round.
    typed.wait_for_count(0, "RX-packets", 9);
    let run = typed.interrupt().succeeded();
    assert!(run.port_field(0, "rx_packets") >= 8);
    assert!(run.stdout.contains("TX-dropped: 0 "), "{}", run.stdout);
}

#[test]
fn packets_of_several_segments_are_sent() {
    let run = Run::of(&format!(
        "--vdev=model0,link=sink -- --forward-mode=txonly --txpkts=64,100,1000 --duration 0.2 \
         --json {SMALL}"
    ))
    .succeeded();
    let packets = run.port_field(0, "tx_packets");
    assert!(packets > 0);
    assert_eq!(run.port_field(0, "tx_bytes"), packets * 1164);
    assert!(
        run.stdout
            .contains("packet len=1164 - nb packet segments=3")
    );
}

#[test]
fn lengths_by_chance_stay_in_their_range_and_splits_among_their_segments() {
    let captured = |name: &str, options: &str| {
        let tx = file(name);
        let typed = Typed::piped(&format!(
            "--vdev=model0,link=pcap:tx={} -- --forward-mode=txonly {options} --json \
             {SMALL}",
            tx.display()
        ));
        // That one of 21 lengths is not among so many has a chance of 10^-20.
        wait_for_frames(&tx, 1000);
        let run = typed.interrupt().succeeded();
        assert_eq!(run.json()["findings"], 0);
        let lengths: Vec<usize> = frames(&fs::read(&tx).expect("a capture"))
            .iter()
            .map(Vec::len)
            .collect();
        (lengths, run.stdout)
    };
    let (lengths, stdout) = captured("range.pcap", "--txpkts=60-80");
    assert!(stdout.contains("packet len=60-80 - nb packet segments=1"));
    for length in 60..=80 {
        assert!(lengths.contains(&length), "no packet of {length} bytes");
    }
    assert!(lengths.iter().all(|length| (60..=80).contains(length)));
    let (lengths, _) = captured("split.pcap", "--txpkts=64,100,300 --txsplit=rand");
    for length in [64, 164, 464] {
        assert!(lengths.contains(&length), "no packet of {length} bytes");
    }
    assert!(lengths.iter().all(|l| [64, 164, 464].contains(l)));
}
