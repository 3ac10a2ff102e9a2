//! `mana testpmd` as a user runs it, on models.

#![forbid(unsafe_code)]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

/// Pools small enough for a test machine.
const SMALL: &str = "--total-num-mbufs=4096";

struct Run {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Run {
    /// Runs `mana testpmd` on the words of `line`.
    fn of(line: &str) -> Run {
        Run::from(command(line).output().expect("mana starts"))
    }

    /// The value of `field` in the port's part of the JSON line.
    fn port_field(&self, port: usize, field: &str) -> u64 {
        self.json()["ports"][port][field]
            .as_u64()
            .expect("a number")
    }

    fn json(&self) -> serde_json::Value {
        let line = self.stdout.lines().last().expect("output");
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"))
    }

    #[track_caller]
    fn succeeded(self) -> Run {
        assert_eq!(self.code, 0, "{}\n{}", self.stdout, self.stderr);
        self
    }

    #[track_caller]
    fn failed(self, code: i32, text: &str) {
        assert_eq!(self.code, code, "{}\n{}", self.stdout, self.stderr);
        assert!(
            self.stderr.contains(text),
            "{text} is missing in: {}",
            self.stderr
        );
    }
}

impl From<Output> for Run {
    fn from(output: Output) -> Run {
        Run {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).expect("UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("UTF-8"),
        }
    }
}

fn command(line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mana"));
    command
        .arg("testpmd")
        .args(line.split_whitespace())
        .stdin(Stdio::null());
    command
}

/// A file of this test alone.
fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// A capture of `frames` in the classic format, little-endian with microseconds.
fn pcap(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    bytes.extend(65535u32.to_le_bytes());
    bytes.extend(1u32.to_le_bytes());
    for frame in frames {
        bytes.extend([0; 8]);
        bytes.extend((frame.len() as u32).to_le_bytes());
        bytes.extend((frame.len() as u32).to_le_bytes());
        bytes.extend(frame);
    }
    bytes
}

/// The frames of a capture, whatever its time stamps.
fn frames(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = &bytes[24..];
    let mut frames = Vec::new();
    while !rest.is_empty() {
        let length = u32::from_le_bytes(rest[8..12].try_into().expect("4 bytes")) as usize;
        frames.push(rest[16..16 + length].to_vec());
        rest = &rest[16 + length..];
    }
    frames
}

/// A UDP packet of flow `flow` that carries `number`.
fn udp(flow: u8, number: u32) -> Vec<u8> {
    let mut frame = vec![0u8; 60 + number as usize % 40];
    let length = frame.len();
    frame[12..14].copy_from_slice(&[8, 0]);
    frame[14] = 0x45;
    frame[16..18].copy_from_slice(&((length - 14) as u16).to_be_bytes());
    frame[22..24].copy_from_slice(&[64, 17]);
    frame[26..34].copy_from_slice(&[10, 0, 0, flow, 10, 0, 1, 1]);
    frame[34..38].copy_from_slice(&[0x10, flow, 0, 9]);
    frame[38..40].copy_from_slice(&((length - 34) as u16).to_be_bytes());
    frame[42..46].copy_from_slice(&number.to_be_bytes());
    frame
}

#[test]
fn the_readmes_command_sends_and_ends_with_testpmds_tables() {
    let run = Run::of(&format!(
        "--vdev=model0 -- --forward-mode=txonly --auto-start --duration 0.3 --json {SMALL}"
    ))
    .succeeded();
    assert!(run.port_field(0, "tx_packets") > 0);
    assert!(run.json()["seconds"].as_f64().expect("seconds") >= 0.3);
    assert_eq!(run.json()["findings"], 0);
    for line in [
        "Configuring Port 0 (socket 0)\nPort 0: 00:0D:3A:00:00:00\n",
        "Checking link statuses...\nDone\n",
        "txonly packet forwarding - ports=1 - cores=1 - streams=1 - NUMA support enabled",
        "  ---------------------- Forward statistics for port 0  ----------------------\n",
        "  +++++++++++++++ Accumulated forward statistics for all ports+++++++++++++++\n",
        "testpmd: mb_pool_0 lies in ",
        "\nBye...\n",
    ] {
        assert!(
            run.stdout.contains(line),
            "{line} is missing in {}",
            run.stdout
        );
    }
}

#[test]
fn azures_line_runs_on_a_model_and_sigint_ends_it_with_the_final_table() {
    let mut child = command(
        "-l 1-3 --vdev=model0,mac=00:0d:3a:76:3b:d0 -- --forward-mode=txonly --auto-start \
         --txd=128 --rxd=128 --stats 2 --total-num-mbufs=4096",
    )
    .stdout(Stdio::piped())
    .stderr(Stdio::piped())
    .spawn()
    .expect("mana starts");
    std::thread::sleep(Duration::from_millis(700));
    rustix::process::kill_process(Pid::from_child(&child), Signal::INT).expect("a child");
    let asked = Instant::now();
    while child.try_wait().expect("a child").is_none() {
        assert!(
            asked.elapsed() < Duration::from_secs(10),
            "it does not stop"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    let run = Run::from(child.wait_with_output().expect("output")).succeeded();
    assert!(
        run.stdout.contains("Port 0: 00:0D:3A:76:3B:D0"),
        "{}",
        run.stdout
    );
    assert!(
        run.stdout
            .contains("Logical Core 2 (socket 0) forwards packets on 1 streams:")
    );
    assert!(run.stdout.contains("NIC statistics for port 0"));
    assert!(
        run.stdout
            .contains("Accumulated forward statistics for all ports")
    );
}

#[test]
fn azures_line_with_eight_queues_deals_two_streams_to_each_of_four_cores() {
    let run = Run::of(
        "-l 1-6 --vdev=model0,mac=00:0d:3a:76:3b:d0 -- --forward-mode=txonly --auto-start \
         --nb-cores=4 --txd=128 --rxd=128 --txq=8 --rxq=8 --stats 2 --duration 0.3 --json \
         --total-num-mbufs=16384",
    )
    .succeeded();
    assert!(
        run.stdout.contains("ports=1 - cores=4 - streams=8"),
        "{}",
        run.stdout
    );
    for core in 2..6 {
        let line = format!("Logical Core {core} (socket 0) forwards packets on 2 streams:");
        assert!(
            run.stdout.contains(&line),
            "{line} is missing in {}",
            run.stdout
        );
    }
    assert!(run.port_field(0, "tx_packets") > 0);
}

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
    let run = Run::of(&format!(
        "--vdev=model0,link=pcap:tx={} --vdev=model1,link=gen:count=300 -- \
         --forward-mode=flowgen --flowgen-flows=8 --flowgen-clones=1 --burst=4 --txpkts=68 \
         --rxq=2 --duration 0.3 --json --total-num-mbufs=8192",
        sent.display(),
    ))
    .succeeded();
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
fn what_came_before_forwarding_is_flushed_and_stands_in_no_table() {
    // While the other ports start, the generator fills the ring of the first.
    for option in ["", "--no-flush-rx"] {
        let run = Run::of(&format!(
            "--vdev=model0,link=gen --vdev=model1 --vdev=model2 -- --port-topology=loop \
             --duration 0.2 --json {option} --total-num-mbufs=8192"
        ))
        .succeeded();
        let came = run.port_field(0, "rx_packets");
        assert!(came > 256, "{came}");
        assert_eq!(run.port_field(0, "tx_packets"), came, "{option}");
    }
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
    let run = Run::of(&format!(
        "--vdev=model0 -- --tx-first --burst=8 --duration 0.2 --json {SMALL}"
    ))
    .succeeded();
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
fn mistakes_on_the_command_line_are_answered_with_exit_code_2() {
    Run::of("--vdev=model0 -- --forward-mod=noisy").failed(2, "not there yet");
    Run::of("--vdev=model0 -- --rxqueues=2").failed(2, "did you mean `--rxq`");
    Run::of("--vdev=model0 --vdev=7870:00:00.0").failed(2, "either models or");
    Run::of("--vdev=model0 -- --burst=1000").failed(2, "from 0 to 512");
}

#[test]
fn what_can_not_be_run_is_answered_with_exit_code_1_and_the_cause() {
    Run::of("--vdev=model0,link=wire").failed(1, "pcap");
    Run::of("--vdev=model0,ports=3,link=pair").failed(1, "no partner");
    Run::of("--vdev=model0,link=pcap:rx=/nonexistent.pcap").failed(1, "/nonexistent.pcap");
    Run::of("-l 1-2 --vdev=model0 -- --nb-cores=2").failed(1, "--nb-cores=2");
    Run::of("--vdev=model0 -- --rxq=3").failed(1, "power of two");
    Run::of("--vdev=model0 -- --total-num-mbufs=500").failed(1, "500");
}

#[test]
fn a_netdev_that_is_up_is_one_error_on_either_kernel_and_names_the_interface() {
    for kernel in ["6.12", "7.3"] {
        let run = Run::of(&format!(
            "--vdev=model0,netdev=up,kernel={kernel} -- --duration 0.1 {SMALL}"
        ));
        assert_eq!(run.code, 1, "{}", run.stderr);
        assert!(run.stderr.contains("is UP"), "{}", run.stderr);
    }
}

#[test]
fn options_without_meaning_get_a_line_and_the_help_text_names_the_modes() {
    let run = Run::of(&format!(
        "-n 4 --file-prefix=x --vdev=model0 -- --rxfreet=32 --duration 0.1 {SMALL}"
    ))
    .succeeded();
    for option in [
        "EAL: option -n ",
        "EAL: option --file-prefix ",
        "testpmd: option --rxfreet ",
    ] {
        assert!(
            run.stdout.contains(option),
            "{option} is missing in {}",
            run.stdout
        );
    }
    let run = Run::of("--help").succeeded();
    assert!(
        run.stdout
            .contains("io (default), mac, macswap, rxonly, txonly")
    );
}

#[test]
fn no_huge_uses_ordinary_pages_and_says_so() {
    let run = Run::of(&format!(
        "--no-huge --vdev=model0 -- --duration 0.1 {SMALL}"
    ))
    .succeeded();
    assert!(
        run.stdout.contains("MiB of 4 KiB pages\n"),
        "{}",
        run.stdout
    );
}

#[test]
fn a_closed_output_ends_the_run() {
    let mut child = command(&format!("--vdev=model0 -- --stats-period=1 {SMALL}"))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("mana starts");
    drop(child.stdout.take());
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child") {
            break status;
        }
        assert!(start.elapsed() < Duration::from_secs(10), "it runs on");
        std::thread::sleep(Duration::from_millis(10));
    };
    assert_eq!(status.code(), Some(1));
}

#[test]
fn burst_sizes_and_cycles_are_told_only_when_asked_for() {
    let line =
        format!("--vdev=model0,link=gen:count=2000 -- --forward-mode=macswap --burst=16 {SMALL} ");
    let plain = Run::of(&line).succeeded();
    assert!(!plain.stdout.contains("-bursts"), "{}", plain.stdout);
    assert!(!plain.stdout.contains("CPU cycles"), "{}", plain.stdout);

    let run = Run::of(&(line + "--record-burst-stats --record-core-cycles")).succeeded();
    let after = |text: &str| {
        let rest = run.stdout.split(text).nth(1);
        rest.unwrap_or_else(|| panic!("{text} is missing in {}", run.stdout))
    };
    let number = |text: &str| -> f64 {
        let digits = after(text).trim_start().split([' ', ')']).next();
        digits.expect("a word").parse().expect("a number")
    };
    assert!(number("  RX-bursts : ") >= 125.0);
    assert!(number("  TX-bursts : ") >= 125.0);
    // Empty bursts come first, however few; none is larger than what was asked for.
    for text in ["  RX-bursts : ", "  TX-bursts : "] {
        let line = after(text).lines().next().expect("a line");
        assert!(line.contains("% of 0 pkts + "), "{line}");
        let sizes = line.split("% of ").skip(1);
        let sizes = sizes.filter_map(|rest| rest.split(' ').next()?.parse::<u32>().ok());
        assert!(sizes.max() <= Some(16), "{line}");
    }
    assert_eq!(number("/ total macswap packets="), 2000.0);
    let cycles = number("(total cycles=");
    assert!((number("CPU cycles/packet=") - cycles / 2000.0).abs() < 0.01);
    assert!(number(" packets=2000) at ") > 20.0);
}

#[test]
fn lengths_by_chance_stay_in_their_range_and_splits_among_their_segments() {
    let captured = |name: &str, options: &str| {
        let tx = file(name);
        let run = Run::of(&format!(
            "--vdev=model0,link=pcap:tx={} -- --forward-mode=txonly {options} --duration 0.2 \
             --json {SMALL}",
            tx.display()
        ))
        .succeeded();
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
