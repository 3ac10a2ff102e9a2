//! The prompt of `mana testpmd`, as scripts drive it: through a pipe, a terminal, a file.

#![forbid(unsafe_code)]

mod support;

use std::fs;
use std::time::Instant;

use rustix::process::{Signal, kill_process};
use support::{
    LIMIT, Run, SMALL, Typed, command, file, frames, frames_so_far, pcap, udp, wait_for_frames,
};

/// Runs a script through a pipe, all at once.
fn script(line: &str, lines: &[&str]) -> Run {
    let mut typed = Typed::piped(line);
    for line in lines {
        typed.line(line);
    }
    typed.end().succeeded()
}

/// Types a line again and again, until the number behind `field` in the answer is so high.
#[track_caller]
fn ask_until(typed: &mut Typed, line: &str, field: &str, least: u64) {
    let start = Instant::now();
    let mut value = 0;
    while value < least {
        assert!(start.elapsed() < LIMIT, "{field}{value}");
        typed.line(line);
        typed.wait_for(field);
        typed.wait_until("the end of its line", |written| {
            let number = written.split_once(['\r', '\n']);
            value = number.map_or(0, |(number, _)| number.trim().parse().expect("a number"));
            number.is_some()
        });
    }
}

fn small(options: &str) -> String {
    format!("--vdev=model0 -- -i {SMALL} {options}")
}

#[track_caller]
fn assert_has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "`{part}` is missing in {text}");
    }
}

#[test]
fn a_script_through_a_pipe_reads_prompts_its_own_lines_and_testpmds_answers() {
    let lines = [
        "show port stats 0",
        "# a comment",
        "",
        "show config cores",
        "quit",
    ];
    let run = script(&format!("-l 0-1 {}", small("")), &lines);
    assert_has(
        &run.stdout,
        &[
            "Interactive-mode selected\n",
            "Checking link statuses...\nDone\ntestpmd> show port stats 0\r\n\n  ######",
            "testpmd> # a comment\r\ntestpmd> \r\ntestpmd> show config cores\r\n\
             List of forwarding lcores:  1\ntestpmd> quit\r\n",
            "\nStopping port 0...\nStopping ports...\nDone\n",
            "Port 0 is closed\nDone\n\nBye...\n",
        ],
    );
    assert!(!run.stdout.contains("Bad arguments"), "{}", run.stdout);
    assert!(!run.stdout.contains("start packet forwarding"));
}

#[test]
fn forwarding_starts_and_stops_again_with_what_was_set_in_between() {
    let mut typed = Typed::piped(&small(""));
    typed.line("start tx_first");
    typed.line("start");
    typed.line("show fwd stats all");
    typed.wait_for("Accumulated forward statistics");
    typed.line("stop");
    typed.wait_for("\nDone.\n");
    for line in [
        "set fwd txonly",
        "set burst 16",
        "set txpkts 100,200",
        "set nbcore 1",
        "show config txpkts",
        "start",
    ] {
        typed.line(line);
    }
    typed.wait_for("packet len=300 - nb packet segments=2");
    typed.line("show port stats all");
    typed.wait_for("TX-bytes");
    typed.line("stop");
    typed.line("stop");
    typed.wait_for("\nDone.\n");
    typed.line("quit");
    let run = typed.end().succeeded();
    assert_has(
        &run.stdout,
        &[
            "Set txonly packet forwarding mode\n",
            "Number of packets per burst set to 16\n",
            "Number of segments: 2\nSegment sizes: 100,200\nSplit packet: off\n",
            "txonly packet forwarding packets/burst=16",
        ],
    );
    assert_has(
        &run.stderr,
        &[
            "Packet forwarding already started\n",
            "Packet forwarding not started\n",
        ],
    );
}

#[test]
fn as_many_bursts_as_asked_for_go_out_before_forwarding_begins() {
    let mut typed = Typed::piped(&format!(
        "--vdev=model0,link=sink -- -i --burst=16 {SMALL} --rxq=2 --txq=2"
    ));
    typed.line("start tx_first x");
    for (command, sent) in [
        ("start tx_first 0", 0),
        ("start tx_first 1", 32),
        ("start tx_first 3", 96),
    ] {
        typed.line(command);
        typed.line("stop");
        typed.wait_for(&format!("TX-packets: {sent} "));
        typed.wait_for("\nDone.\n");
    }
    typed.line("quit");
    let run = typed.end().succeeded();
    assert_has(&run.stderr, &["`x`: expected a number of bursts"]);
}

#[test]
fn link_and_rss_are_what_the_port_says() {
    let lines = [
        "show port info 0",
        "show port 0 rss-hash",
        "port stop 0",
        "show port info 0",
        "port config all rxq 4",
        "show rxq info 0 0",
        "port start 0",
        "show port 0 rss-hash",
        "show port 0 rss-hash key",
        "show port 0 rss reta 64 (0x8000000000000003)",
        "show port summary 0",
        "quit",
    ];
    let run = script("--vdev=model0 -- -i --total-num-mbufs=8192", &lines);
    let info = "Link status: up\nLink speed: Unknown\n";
    assert_eq!(run.stdout.matches(info).count(), 2, "{}", run.stdout);
    assert_has(
        &run.stdout,
        &[
            // Of a netdev that is DOWN the kernel does not tell.
            ", link unknown, assumed up\n",
            "Redirection table size: 64\n",
            "Hash key size in bytes: 40\n",
            "rss-hash\r\nRSS disabled\n",
            "rss-hash\r\nRSS functions:\n  ipv4  ipv4-tcp  ipv4-udp  ipv6  ipv6-tcp  ipv6-udp\n",
            "RSS key:\n6D5A56DA255B0EC2",
            "hash index=0, queue=0\nRSS RETA configuration: hash index=1, queue=1\n\
             RSS RETA configuration: hash index=63, queue=3\n",
            "net_mana       up       Unknown",
            "RX scattered packets: off\n",
        ],
    );
}

/// All entries of a redirection table that repeats these queues, as testpmd takes them.
fn reta(order: &[u16]) -> String {
    let entry = |entry: usize| format!("({entry},{})", order[entry % order.len()]);
    let entries: Vec<String> = (0..64).map(entry).collect();
    entries.join(",")
}

#[test]
fn rss_is_set_on_a_port_that_runs_whether_it_forwards_or_not() {
    let key = "00112233445566778899".repeat(4);
    for forwards in [false, true] {
        let mut typed =
            Typed::piped("--vdev=model0,link=gen -- -i --rxq=4 --txq=4 --total-num-mbufs=8192");
        typed.line("show port 0 rss reta 4 (0xf)");
        typed.wait_for("hash index=3, queue=3\n");
        if forwards {
            typed.line("start");
            typed.wait_for("TX RS bit threshold=0\n");
        }
        typed.line(&format!("port config 0 rss reta {}", reta(&[2, 0, 3, 1])));
        typed.wait_for("The reta size of port 0 is 64\n");
        // On a busy machine it may be told first which queue is waited for.
        typed.wait_for("\nPort 0: rss changed event\n");
        typed.line(&format!("port config 0 rss-hash-key ipv4 {key}"));
        typed.wait_for("\nPort 0: rss changed event\n");
        typed.line("show port 0 rss reta 64 (0x8000000000000003)");
        typed.wait_for(
            "hash index=0, queue=2\nRSS RETA configuration: hash index=1, queue=0\n\
             RSS RETA configuration: hash index=63, queue=1\n",
        );
        typed.line("show port 0 rss-hash key");
        typed.wait_for(&format!("RSS key:\n{key}\n"));
        // A part of a table is a table that the kernel can't make.
        typed.line("port config 0 rss reta (0,0)");
        typed.line("port config 0 rss reta (0,4)");
        typed.line("port config all rss reta (64,0)");
        typed.line("port config all rss reta 0,1");
        // Everything to one queue: there is nothing to hash for.
        typed.line(&format!("port config all rss reta {}", reta(&[3])));
        typed.wait_for("\nPort 0: rss changed event\n");
        typed.line("show port 0 rss-hash");
        typed.wait_for("rss-hash\r\nRSS disabled\n");
        typed.line("show event");
        typed.wait_for("Port 0: RSS was set anew: nothing was received for ");
        if forwards {
            typed.line("stop");
            typed.wait_for("\nDone.\n");
        }
        // It stays over a stop, until there are other queues.
        typed.line("port stop 0");
        typed.line("port start 0");
        typed.line("show port 0 rss reta 1 (0x1)");
        typed.wait_for("hash index=0, queue=3\n");
        typed.line("port stop 0");
        typed.line(&format!("port config 0 rss reta {}", reta(&[1, 2])));
        typed.line("port start 0");
        typed.line("show port 0 rss reta 2 (0x3)");
        typed.wait_for("hash index=0, queue=1\nRSS RETA configuration: hash index=1, queue=2\n");
        typed.line("port stop 0");
        typed.line("port config all rxq 2");
        typed.line("port start 0");
        typed.line("show port 0 rss reta 2 (0x3)");
        typed.wait_for("hash index=0, queue=0\nRSS RETA configuration: hash index=1, queue=1\n");
        typed.line("quit");
        let run = typed.end().succeeded();
        assert_has(
            &run.stderr,
            &[
                "Bad redirection table parameter, return code = -95: entry 2 of the indirection \
                 table: not by this kernel",
                "Bad redirection table parameter, return code = -22: entry 0 of the indirection \
                 table names receive queue 4, the port has 4",
                "Invalid RETA hash index=64\nInvalid RSS Redirection Table config entered\n",
                "`0,1`: expected (hash,queue)[,(hash,queue)]\n",
            ],
        );
    }
}

#[test]
fn every_mistake_is_answered_and_the_prompt_goes_on() {
    let answers = [
        ("shw port stats 0", "did you mean `show`?"),
        ("show prt stats 0", "did you mean `port`?"),
        ("show port stats", "after `show port stats`: expected PORTS"),
        ("show port stats 7", "Invalid port 7"),
        ("show port stats x", "`x`: expected a port number"),
        ("show port info -1", "`-1`: expected a port number"),
        ("show rxq info 0 9", "error desc: Invalid argument(-22)"),
        ("set fwd txnoly", "did you mean `txonly`?"),
        ("set burst 1000", "nb pkt per burst: 1000 > 512"),
        ("set burst 0", "nb pkt per burst: 0 < 1"),
        ("set txpkts 10", "total packet length=10 < 42 - give up"),
        ("set txpkts 64,x", "`64,x`: expected LEN"),
        ("set nbcore 99", "nb fwd cores 99 > "),
        ("csum set ip hw 0", "Please stop port 0 first"),
        ("tso set 1400 0", "Please stop port 0 first"),
        (
            "set promisc 0 on",
            "promiscuous mode for port 0: Operation not supported (no: not by",
        ),
        ("port config all rxq 2", "Please stop all ports first"),
        ("port start 0", "Port 0 is now not stopped"),
        ("port close 0", "Cannot close started device (port 0)"),
        (
            "port reset 0",
            "Can not reset port(s), please stop port(s) first.",
        ),
        (
            "port 0 rxq 5 stop",
            "Invalid RX queue 5 (must be < nb_rxq=1)",
        ),
        ("port 0 rxq 0 stop", "Function not supported in PMD"),
        (
            "port config 0 rss-hash-key ipv4 00",
            "key length: 2 invalid",
        ),
        (
            "show port 0 rss reta 65 (0x1)",
            "Invalid redirection table size: 65 (1-64)",
        ),
        (
            "show port 0 rss reta 64 0x1",
            "Invalid string: 0x1 for reta masks",
        ),
        ("show device info 1:2.3", "Device 1:2.3 is not found"),
        ("tx_vlan set 0 5", "Please stop port 0 first"),
        ("port config mtu 0 65536", "`65536`: expected an MTU"),
        (
            "set capture rx 0 /nonexistent/x.pcap",
            "/nonexistent/x.pcap: No such file",
        ),
        ("set capture tx 0 off", "there is no capture of tx"),
        ("help nothing", "expected control, display"),
        ("port stop 0", ""),
        (
            "port config all rxq 65",
            "(65) can't be greater than max_rx_queues (64) of port 0",
        ),
        (
            "port config all txd 1",
            "txd (1) can't be less than min_txds (64) of port 0",
        ),
        ("port config all txq 0", "should be non zero"),
        (
            "tx_vlan set 0 4096",
            "Invalid vlan_id 4096 (must be < 4096)",
        ),
        ("start", "Not all ports were started"),
        ("port close 0", ""),
        ("port start 0", "Invalid port 0"),
        ("show port info 0", "Invalid port 0"),
        ("port close all", ""),
        ("\u{1b}[A\u{7f}", ""),
    ];
    let mut lines: Vec<&str> = answers.iter().map(|(line, _)| *line).collect();
    lines.push("quit");
    let run = script(&small(""), &lines);
    let answers: Vec<&str> = answers.iter().map(|(_, answer)| *answer).collect();
    assert_has(&run.stderr, &answers);
    let prompts = run.stdout.matches("testpmd> ").count();
    assert_eq!(prompts, lines.len(), "{}", run.stdout);
    assert_has(
        &run.stdout,
        &[
            "shw port stats 0\r\nCommand not found\n",
            "show port stats\r\nBad arguments\n",
            "The valid ports array is [ 0 ]\n",
            "The valid ports array is [  ]\n",
        ],
    );
}

#[test]
fn the_end_of_the_input_and_a_signal_end_it_with_the_tables() {
    let run = script(&small(""), &["start tx_first"]);
    assert_has(&run.stdout, &["\nDone.\n", "\nBye...\n"]);
    let mut typed = Typed::piped(&small(""));
    typed.line("start");
    typed.wait_for("TX RS bit threshold=0\n");
    kill_process(typed.id(), Signal::INT).expect("a child");
    typed.wait_for("Accumulated forward statistics for all ports");
    assert_has(&typed.end().succeeded().stdout, &["\nBye...\n"]);
}

#[test]
fn a_command_file_is_run_before_the_prompt_or_before_forwarding() {
    let commands = file("commands.txt");
    fs::write(
        &commands,
        "set fwd rxonly\nbogus\nshow port summary all\nquit\nstop\n",
    )
    .expect("a file");
    let path = commands.display();
    let run = script(&small(&format!("--cmdline-file={path}")), &["quit"]);
    let read = format!("Read CLI commands from {path}\ntestpmd> quit\r\n");
    assert_has(
        &run.stdout,
        &[
            &format!("CLI commands to be read from {path}\n"),
            "testpmd> set fwd rxonly\nSet rxonly packet forwarding mode\n",
            "testpmd> bogus\nCommand not found\n",
            "0    00:0D:3A:00:00:00 7870:00:00.0_port1 net_mana       up",
            &read,
        ],
    );
    let line = format!("--vdev=model0 -- {SMALL} --duration 0.2 --cmdline-file-noecho={path}");
    let run = Run::of(&line).succeeded();
    assert!(!run.stdout.contains("testpmd> "), "{}", run.stdout);
    // What follows `quit` in the file is not run.
    assert!(!run.stderr.contains("not started"), "{}", run.stderr);
    assert_has(
        &run.stdout,
        &[
            "Set rxonly packet forwarding mode\n",
            "No commandline core given, start packet forwarding\n",
            "rxonly packet forwarding - ports=1",
        ],
    );
}

#[test]
fn a_command_file_that_can_not_be_read_is_told_and_without_a_prompt_nothing_is_forwarded() {
    let run = script(&small("--cmdline-file=/nonexistent"), &["quit"]);
    assert_has(
        &run.stderr,
        &["Failed to open file /nonexistent: No such file"],
    );
    assert_has(&run.stdout, &["testpmd> quit\r\n"]);
    let line = format!("--vdev=model0 -- {SMALL} --cmdline-file=/nonexistent");
    Run::of(&line).failed(1, "--cmdline-file=/nonexistent: No such file");
}

#[test]
fn ports_are_stopped_configured_anew_and_started_again() {
    let key = "0123456789abcdef".repeat(5);
    let lines = [
        "port stop all",
        "port stop 0",
        "port config all rxq 2",
        "port config all rxd 128",
        &format!("port config 0 rss-hash-key ipv4 {key}"),
        "csum set tcp hw 0",
        "port start all",
        "show port 0 rss-hash key",
        "show port 0 rss reta 64 (0x5)",
        "show rxq info 0 1",
        "start tx_first",
        "stop",
        "port stop 0",
        "port reset 0",
        "port start 0",
        "start",
        "stop",
        "quit",
    ];
    let run = script("--vdev=model0 -- -i --total-num-mbufs=8192", &lines);
    assert_has(
        &run.stdout,
        &[
            "Stopping ports...\nChecking link statuses...\nDone\n",
            "port stop 0\r\nStopping ports...\nDone\n",
            "TCP checksum offload is hw\n",
            "Configuring Port 0 (socket 0)\nPort 0: 00:0D:3A:00:00:00\nChecking link",
            &format!("RSS key:\n{}\n", key.to_uppercase()),
            "RSS RETA configuration: hash index=0, queue=0\n\
             RSS RETA configuration: hash index=2, queue=0\n",
            "Number of RXDs: 128\n",
            "ports=1 - cores=1 - streams=2",
            "Rx offloads=0x80000 Tx offloads=0x8",
            "Resetting ports...\n",
        ],
    );
    assert_eq!(run.stdout.matches("\nDone.\n").count(), 2, "{}", run.stdout);
}

#[test]
fn a_tag_is_put_into_what_leaves_until_it_is_reset() {
    let sink = file("prompt-tags.pcap");
    let model = format!("--vdev=model0,link=pcap:tx={}", sink.display());
    let mut typed = Typed::piped(&format!("{model} -- -i {SMALL}"));
    typed.line("set fwd txonly");
    typed.wait_for("Set txonly packet forwarding mode");
    for command in ["tx_vlan set 0 291", "tx_vlan reset 0"] {
        let before = frames_so_far(&sink);
        for line in ["port stop 0", command, "port start 0", "start tx_first"] {
            typed.line(line);
        }
        // What a stop finds underway never leaves.
        wait_for_frames(&sink, before + 32);
        typed.line("stop");
        typed.wait_for("\nDone.\n");
    }
    typed.line("quit");
    let run = typed.end().succeeded();
    assert_has(&run.stdout, &["Tx offloads=0x1\n", "Tx offloads=0x0\n"]);
    let frames = frames(&fs::read(&sink).expect("a capture"));
    let (tagged, plain) = frames.split_at(frames.partition_point(|frame| frame.len() == 68));
    assert!(tagged.len() >= 32 && plain.len() >= 32, "{}", frames.len());
    // TPID, then priority 0 and VLAN 291.
    let tag = [0x81, 0x00, 0x01, 0x23];
    assert!(tagged.iter().all(|frame| frame[12..16] == tag));
    assert!(
        plain
            .iter()
            .all(|frame| frame.len() == 64 && frame[12..14] == [8, 0])
    );
}

#[test]
fn devices_and_pools_are_shown() {
    let run = script(
        &small(""),
        &["show device info all", "dump_mempool", "quit"],
    );
    assert_has(
        &run.stdout,
        &[
            "Infos for device 7870:00:00.0 *********************\nBus name: pci\n\
             Bus information: vendor_id=1414, device_id=ba\n",
            "\n\tPort id: 0 \n\tMAC address: 00:0D:3A:00:00:00\n\tDevice name: 7870:00:00.0_port1\n",
            "mempool <mb_pool_0>@0x",
            "    cache_size=250\n",
        ],
    );
}

#[test]
fn packets_are_printed_and_captured_as_they_were_on_the_wire() {
    let (source, sink) = (file("prompt-rx.pcap"), file("prompt-tx.pcap"));
    let captured = [
        file("prompt-captured-rx.pcap"),
        file("prompt-captured-tx.pcap"),
    ];
    let mut sent: Vec<Vec<u8>> = (0..300).map(|number| udp(number as u8, number)).collect();
    for frame in sent.iter_mut().step_by(5) {
        frame.splice(12..12, [0x81, 0x00, 0x00, 0x07]);
    }
    fs::write(&source, pcap(&sent)).expect("a capture");
    let mut typed = Typed::piped(&format!(
        "--vdev=model0,link=pcap:rx={}:tx={} -- -i {SMALL}",
        source.display(),
        sink.display()
    ));
    typed.line("set verbose 1");
    typed.line(&format!("set capture rx 0 {}", captured[0].display()));
    typed.line(&format!("set capture tx 0 {}", captured[1].display()));
    typed.line("start");
    let last = format!("length={}", sent[299].len());
    typed.wait_for("port 0/queue 0: received ");
    wait_for_frames(&captured[1], sent.len());
    typed.line("stop");
    typed.wait_for("\nDone.\n");
    typed.line("set verbose 0");
    typed.line("set capture rx 0 off");
    typed.line("set capture tx 0 off");
    typed.line("quit");
    let run = typed.end().succeeded();
    assert_has(
        &run.stdout,
        &[
            "Change verbose level from 0 to 1\n",
            " - dst=",
            &last,
            "sw ptype: L2_ETHER L3_IPV4 L4_UDP  - l2_len=14 - l3_len=20 - l4_len=8 - Receive \
             queue=0x0\n  ol_flags: RTE_MBUF_F_RX_",
            " - VLAN tci=0x7 - sw ptype",
            "Port 0: capture of rx ended with 300 packets\n",
            "Port 0: capture of tx ended with 300 packets\n",
        ],
    );
    for path in captured {
        let bytes = fs::read(path).expect("a capture");
        // Nanoseconds, version 2.4, Ethernet.
        assert_eq!(bytes[..8], [0x4d, 0x3c, 0xb2, 0xa1, 2, 0, 4, 0]);
        assert_eq!(bytes[20..24], [1, 0, 0, 0]);
        assert!(frames(&bytes) == sent, "a frame differs");
    }
}

#[test]
fn statistics_are_cleared_for_who_looks() {
    let mut typed = Typed::piped(&format!(
        "--vdev=model0,link=gen:count=500 -- -i --forward-mode=rxonly {SMALL} --no-flush-rx"
    ));
    typed.line("start");
    ask_until(&mut typed, "show port xstats 0", "rx_good_packets: ", 500);
    typed.line("clear port stats 0");
    typed.line("clear fwd stats all");
    typed.wait_for("NIC statistics for port 0 cleared");
    typed.line("show port stats 0");
    typed.line("stop");
    typed.line("quit");
    let run = typed.end().succeeded();
    let (before, after) = run.stdout.split_once("port 0 cleared").expect("cleared");
    assert_has(before, &["rx_good_packets: 500\n"]);
    assert_has(
        after,
        &["  RX-packets: 0          RX-missed: 0 ", "RX-total: 0\n"],
    );
}

#[test]
fn a_terminal_has_completion_history_and_control_keys() {
    let mut typed = Typed::on_terminal(&small(""));
    typed.wait_for("testpmd> ");
    typed.keys("show conf\tcor\t\r");
    typed.wait_for("List of forwarding lcores:");
    // Up, Enter: the same again.
    typed.wait_for("testpmd> ");
    typed.keys("\u{1b}[A\r");
    typed.wait_for("List of forwarding lcores:");
    typed.wait_for("testpmd> ");
    // Ctrl-C leaves the line alone.
    typed.keys("quit\u{3}");
    typed.wait_for("testpmd> ");
    typed.keys("show event\r");
    typed.wait_for("No event");
    typed.wait_for("testpmd> ");
    // Ctrl-D ends it.
    typed.keys("\u{4}");
    typed.wait_for("Bye...");
    typed.end().succeeded();
}

#[test]
fn nobody_reading_ends_it_with_exit_code_1() {
    use std::process::Stdio;
    let mut child = command(&small(""))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("mana starts");
    drop(child.stdout.take());
    assert_eq!(child.wait().expect("a child").code(), Some(1));
}

#[test]
fn histograms_are_shown_once_they_were_asked_for() {
    let mut typed = Typed::piped(&small(""));
    typed.line("show port histograms 0");
    typed.wait_for("none: `set histograms on` first");
    for line in ["set histograms on", "set fwd txonly", "start"] {
        typed.line(line);
    }
    typed.wait_for("txonly packet forwarding packets/burst=32");
    let measured = "tx_q0_completion_ns_count: ";
    ask_until(&mut typed, "show port xstats 0", measured, 1);
    typed.line("stop");
    typed.wait_for("\nDone.\n");
    for line in ["show port histograms all", "show port xstats 0", "quit"] {
        typed.line(line);
    }
    let run = typed.end().succeeded();
    assert_has(
        &run.stdout,
        &[
            "Histograms are on\n",
            "###### Histograms for port 0 \n",
            "rx_q0_burst_packets: ",
            "tx_q0_completion_ns: ",
            "\n  32-63 ",
            "\ntx_q0_burst_packets_max: 32\n",
        ],
    );
}
