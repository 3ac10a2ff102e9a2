//! Command lines that are read, and those that are refused with what to write instead.

use super::*;

fn parse(line: &str) -> Result<AppArgs, UsageError> {
    let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    AppArgs::parse(&words)
}

fn error(line: &str) -> String {
    parse(line).unwrap_err().to_string()
}

#[test]
fn azures_single_queue_line_reads_verbatim() {
    let args = parse("--forward-mode=txonly --auto-start --txd=128 --rxd=128 --stats 2").unwrap();
    let expected = AppArgs {
        mode: ModeName::TxOnly,
        mode_named: true,
        auto_start: true,
        txd: 128,
        rxd: 128,
        stats_period: Some(Duration::from_secs(2)),
        ..AppArgs::default()
    };
    assert_eq!(args, expected);
}

#[test]
fn azures_line_with_several_queues_reads_verbatim() {
    let args = parse(
        "--forward-mode=txonly --auto-start --nb-cores=4 --txd=128 --rxd=128 --txq=8 --rxq=8 \
         --stats 2",
    )
    .unwrap();
    assert_eq!((args.nb_cores, args.rxq, args.txq), (4, 8, 8));
}

#[test]
fn every_value_out_of_range_is_an_error_that_names_the_range() {
    assert_eq!(
        error("--burst=513"),
        "`--burst=513`: expected a number from 0 to 512"
    );
    assert_eq!(
        error("--rxq=65536"),
        "`--rxq=65536`: expected a number from 0 to 65535"
    );
    for line in [
        "--txq=x",
        "--rxd=63",
        "--txd=65536",
        "--nb-cores=0",
        "--mbuf-size=128",
        "--mbcache=513",
        "--stats-period=-1",
        "--max-pkt-len=63",
        "--duration=0",
        "--duration=inf",
        "--tx-ip=1.2.3.4",
        "--tx-ip=1.2.3.4,5.6.7.256",
        "--eth-peer=0",
        "--eth-peer=32,aa:bb:cc:dd:ee:ff",
        "--txpkts=64,0",
        "--txpkts=41",
        "--port-topology=ring",
        "--flowgen-flows=0",
        "--txonly-flows=0",
        "--txonly-flows=65",
        "--flowgen-flows=2147483648",
        "--flowgen-clones=513",
        "--flowgen-clones=-1",
    ] {
        assert!(parse(line).is_err(), "{line}");
    }
}

#[test]
fn a_forward_mode_that_does_not_exist_is_answered_with_those_that_do() {
    let text = error("--forward-mode=noisy");
    assert!(text.contains("io, mac, macswap, rxonly, txonly"), "{text}");
}

#[test]
fn lengths_that_no_mbuf_holds_are_refused_with_the_mbuf_size_that_does() {
    assert!(error("--max-pkt-len=9018").contains("--mbuf-size=9146"));
    assert!(error("--txpkts=64,4096").contains("--mbuf-size=4224"));
    parse("--max-pkt-len=9018 --mbuf-size=9146").unwrap();
    let scattered = parse("--max-pkt-len=9018 --enable-scatter").unwrap();
    assert_eq!(
        (scattered.mtu(), scattered.mbufs_of_a_packet(1500)),
        (Some(9000), 5)
    );
    assert_eq!(
        parse("--max-pkt-len=9018 --mbuf-size=9146")
            .unwrap()
            .mbufs_of_a_packet(1500),
        1
    );
    parse("--txpkts=64,4096 --mbuf-size=4224").unwrap();
}

#[test]
fn flowgen_needs_one_segment_that_holds_the_packet() {
    assert!(error("--forward-mode=flowgen --txpkts=64-128").contains("one length"));
    assert!(error("--forward-mode=flowgen --txpkts=45").contains("at least 46"));
    assert!(error("--forward-mode=flowgen --txpkts=2000,2000").contains("--mbuf-size=4124"));
    let args = parse("--forward-mode=flowgen --txpkts=46 --flowgen-flows=7 --flowgen-clones=3");
    let flows = Flows {
        flows: 7,
        clones: 3,
    };
    assert_eq!(args.unwrap().flows, flows);
    parse("--txpkts=45").unwrap();
}

#[test]
fn peers_default_to_testpmds_addresses() {
    let args = parse("--eth-peer=1,12:34:56:78:9a:bc").unwrap();
    assert_eq!(args.peer(1).to_string(), "12:34:56:78:9a:bc");
    assert_eq!(args.peer(3).to_string(), "02:00:00:00:00:03");
}

#[test]
fn what_must_not_be_ignored_is_refused_and_the_rest_gets_a_line() {
    assert!(error("--portmask=0x1").contains("choose ports by device"));
    let args = parse("--rxfreet=32 --txfreet=32 --json --duration 0.5").unwrap();
    assert_eq!(args.notes.len(), 2);
    assert_eq!(args.duration, Some(Duration::from_millis(500)));
}

#[test]
fn a_prompt_and_a_command_file_are_asked_for_as_of_testpmd() {
    let args = parse("-i -a --cmdline-file=/x").unwrap();
    assert!(args.interactive && args.auto_start);
    let file = |path: &str, echo| {
        let path = path.into();
        Some(CommandFile { path, echo })
    };
    assert_eq!(args.command_file, file("/x", true));
    let args = parse("--cmdline-file-noecho /y").unwrap();
    assert!(!args.interactive);
    assert_eq!(args.command_file, file("/y", false));
}

#[test]
fn txonlys_packets_can_be_shaped() {
    let args =
        parse("--txpkts=64,128 --tx-ip=10.0.1.4,10.0.1.5 --tx-udp=7 --txonly-multi-flow").unwrap();
    assert_eq!(args.tx_lengths.segments, [64, 128]);
    assert!(error("--txpkts=20,64 --txsplit=rand").contains("first segment alone"));
    assert!(error("--txpkts=64-3000").contains("--mbuf-size=3128"));
    assert_eq!(args.tx_ip.1, Ipv4Addr::new(10, 0, 1, 5));
    assert_eq!(args.tx_udp, (7, 7));
    assert!(args.multi_flow);
}
