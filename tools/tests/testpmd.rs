//! `mana testpmd` as a user runs it, on models: command lines, output, ends.

#![forbid(unsafe_code)]

mod support;

use std::process::Stdio;
use std::time::{Duration, Instant};

use support::{LIMIT, Run, SMALL, Typed, command};

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
    let mut typed = Typed::piped(
        "-l 1-3 --vdev=model0,mac=00:0d:3a:76:3b:d0 -- --forward-mode=txonly --auto-start \
         --txd=128 --rxd=128 --stats 2 --total-num-mbufs=4096",
    );
    typed.wait_for("NIC statistics for port 0");
    let run = typed.interrupt().succeeded();
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
fn what_came_before_forwarding_is_flushed_and_stands_in_no_table() {
    // While the other ports start, the generator fills the ring of the first.
    for option in ["", "--no-flush-rx"] {
        let mut typed = Typed::piped(&format!(
            "--vdev=model0,link=gen --vdev=model1 --vdev=model2 -- --port-topology=loop \
             --stats-period=1 --json {option} --total-num-mbufs=8192"
        ));
        // More than one ring holds, which is what came before, and one after that.
        typed.wait_for_count(0, "RX-packets", 1000);
        let run = typed.interrupt().succeeded();
        let came = run.port_field(0, "rx_packets");
        assert!(came > 256, "{came}");
        assert_eq!(run.port_field(0, "tx_packets"), came, "{option}");
    }
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
    for kernel in ["6.12", "7.3", "5.15-azure"] {
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
    for option in ["EAL: option -n ", "testpmd: option --rxfreet "] {
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
        assert!(start.elapsed() < LIMIT, "it runs on");
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
