//! The prompt of DPDK's testpmd and of ours: the same script, answer by answer.

#![forbid(unsafe_code)]

use conformance::host::note;
use conformance::stack::{By, Column, Comparison, Dialogue, Difference, Session, Stack, parsers};

const OURS: Column = Column::OursRdmaCore56;

/// One port with one queue, whose wire brings everything back.
const ONE_QUEUE: &[&str] = &[
    "show port info 0",
    "show port stats 0",
    "show port xstats 0",
    "show port summary 0",
    "show device info all",
    "show fwd stats all",
    "show rxq info 0 0",
    "show txq info 0 0",
    "show rxq info 0 5",
    "show txq info 0 5",
    "show port 0 rss-hash",
    "show port 0 rss-hash key",
    "show port 0 rss reta 65 (0x3)",
    "show config fwd",
    "show config rxtx",
    "show config cores",
    "show config txpkts",
    "set fwd macswap",
    "set fwd bogus",
    "set burst 16",
    "set burst 1000",
    "set txpkts 64,128",
    "set txpkts 10",
    "show config txpkts",
    "set nbcore 1",
    "set nbcore 9",
    "set verbose 0",
    "csum set ip hw 0",
    "tx_vlan set 0 5",
    "set promisc 0 on",
    "set promisc 0 off",
    "set allmulti 0 on",
    "port config all rxq 2",
    "start",
    "start",
    "stop",
    "stop",
    "start tx_first",
    "show port stats 0",
    "stop",
    "start tx_first 3",
    "stop",
    "show fwd stats all",
    "set fwd txonly",
    "show config rxtx",
    "start",
    "stop",
    "set fwd csum",
    "port close 0",
    "port reset 0",
    "port start 0",
    "port stop 0",
    "port stop 0",
    "csum show 0",
    "csum set ip hw 0",
    "csum set sctp hw 0",
    "csum set outer-ip hw 0",
    "tso show 0",
    "tx_vlan set 0 4096",
    "tx_vlan set 0 5",
    "show config rxtx",
    "tx_vlan reset 0",
    "port start 0",
    "start",
    "stop",
    "port config mtu 0 1400",
    "port config mtu 0 99999",
    "port config mtu 9 1400",
    "dump_mempool",
    "clear port stats 0",
    "clear port xstats 0",
    "clear fwd stats all",
    "port stop 9",
    "port start 9",
    "show port info 9",
    "show port stats 9",
    "show port xstats 9",
    "show port 9 rss-hash",
    "csum show 9",
    "show rxq info 9 0",
    "clear port stats 9",
    "show port 9 rss reta 64 (0x1)",
    "tx_vlan set 9 5",
    "set promisc 9 on",
    "vlan set strip on 9",
    "show port summary 9",
    "csum set ip hw 9",
    "tso show 9",
    "port close 9",
    "set eth-peer 9 00:0d:3a:00:00:01",
    "set eth-peer 0 00:0d:3a:00:00:01",
    "show config fwd",
    "shw port",
    "show prt info 0",
    "show port info",
    "show port info x",
    "set burst",
    "start it",
    "bogus",
    "",
    "# a comment",
    "port stop all",
    "port close 0",
    "show port info 0",
];

/// Two queues each way.
const QUEUES: &[&str] = &[
    "show port 0 rss-hash",
    "show port 0 rss-hash key",
    "show port 0 rss reta 64 (0x3)",
    "show port 0 rss reta 64 x",
    "show port xstats 0",
    "vlan set strip on 0",
    "vlan set strip off 0",
    "set verbose 1",
    "set verbose 0",
    "set verbose x",
    "show rxq info 0 1",
    "show txq info 0 1",
    "show rxq info 0 2",
    "show config fwd",
    "show config rxtx",
    "start tx_first",
    "stop",
    "show fwd stats all",
    "port stop 0",
    "show rxq info 0 1",
    "port config all rxd 128",
    "port config all txd 128",
    "port config all rxd 0",
    "port config all rxd 100000",
    "port config all rxd 10000",
    "port config all txd 1",
    "port config all rxq 2000",
    "port config all txq 2000",
    "port config all bogus 1",
    "port config 0 rss-hash-key ipv4 00",
    "port config 0 rss-hash-key ipv4 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    "vlan set strip on 0",
    "port start 0",
    "show port 0 rss-hash key",
    "port 0 rxq 0 stop",
    "port 0 txq 5 stop",
    "show rxq info 0 1",
    "show txq info 0 1",
    "start tx_first",
    "stop",
];

/// Two ports, each other's peer.
const PORTS: &[&str] = &[
    "show port info all",
    "show port stats all",
    "show port xstats all",
    "show port summary all",
    "show device info all",
    "show config fwd",
    "show config rxtx",
    "start tx_first",
    "stop",
    "show fwd stats all",
    "clear port stats all",
    "clear port xstats all",
    "set promisc all off",
    "port stop 1",
    "start",
    "port start 1",
    "port start all",
    "port stop all",
    "port start all",
    "start tx_first",
    "stop",
    "port stop all",
    "port close 1",
    "show port summary all",
    "show port summary 1",
    "port start 0",
    "start",
    "stop",
];

/// The differences that are meant. Whatever else differs is a mistake, and so is one of these that
/// is not there any more.
const DIFFERENCES: &[Difference] = &[
    Difference {
        commands: "",
        theirs: &[],
        ours: &["`…", "after `…", "did you mean `…"],
        why: "a mistake is explained",
    },
    Difference {
        commands: "show port info",
        theirs: &["Link speed: N Gbps"],
        ours: &["Link speed: Unknown"],
        why: "mana_ib tells no speed; the driver in C states 100 Gbps whatever there is",
    },
    Difference {
        commands: "show port summary",
        theirs: &[
            "N MAC N:N:N.N_port1 net_mana up N Gbps",
            "N MAC N:N:N.N_port2 net_mana up N Gbps",
        ],
        ours: &[
            "N MAC N:N:N.N_port1 net_mana up Unknown",
            "N MAC N:N:N.N_port2 net_mana up Unknown",
        ],
        why: "the same",
    },
    Difference {
        commands: "show device info",
        theirs: &["\tDevice speed capability: N Gbps"],
        ours: &["\tDevice speed capability: Unknown"],
        why: "the same",
    },
    Difference {
        commands: "show port info",
        theirs: &["  strip off, filter off, extend off, qinq strip off"],
        ours: &["  strip on, filter off, extend off, qinq strip off"],
        why: "the device takes every tag out; `vlan set strip off` has them put back",
    },
    Difference {
        commands: "show port info",
        theirs: &["Device error handling mode: none"],
        ours: &["Device error handling mode: proactive"],
        why: "a port recovers from a reset by itself",
    },
    Difference {
        commands: "show port info",
        theirs: &["  none"],
        ours: &["  provider rdma-core (libibverbs N.N, libmana N.N), driver id N, …"],
        why: "what the port stands on",
    },
    Difference {
        commands: "show port xstats",
        theirs: &[],
        ours: &[
            "rx_q0_…",
            "tx_q0_…",
            "tx_sa_drop_errors: N",
            "tx_mtu_drop_errors: N",
            "tx_invalid_…",
            "tx_hdr_…",
            "tx_vf_…",
            "tx_vport_…",
            "tx_vlan_…",
            "tx_gdma_…",
        ],
        why: "counters that the driver in C does not have",
    },
    Difference {
        commands: "show port xstats",
        theirs: &[],
        ours: &["rx_q1_…", "tx_q1_…"],
        why: "the same",
    },
    Difference {
        commands: "show port 0 rss reta",
        theirs: &["Failed to get RSS RETA info, return code = -N"],
        ours: &["RSS RETA configuration: hash index=N, queue=N"],
        why: "the kernel fills the table with the queues in turn; the driver in C does not tell",
    },
    Difference {
        commands: "show port 0 rss-hash key",
        theirs: &["  ipv4"],
        ours: &["  ipv4 ipv4-tcp ipv4-udp ipv6 ipv6-tcp ipv6-udp"],
        why: "it keeps what the key was set for, which no kernel reads; the device hashes all",
    },
    Difference {
        commands: "vlan set strip on",
        theirs: &["rx_vlan_strip_set(port_pi=N, on=N) failed diag=-N"],
        ours: &[],
        why: "the device does",
    },
    Difference {
        commands: "vlan set strip off",
        theirs: &[],
        ours: &["rx_vlan_strip_set(port_pi=N, on=N) failed diag=-N: the port is started: …"],
        why: "tags are put back from the next start on; the driver in C leaves them out",
    },
    Difference {
        commands: "port 0 rxq 0 stop",
        theirs: &["Function not supported in PMD"],
        ours: &["Function not supported in PMD: no: not by this kernel: …"],
        why: "whose limit it is",
    },
    Difference {
        commands: "show rxq info",
        theirs: &["RX drop packets: off"],
        ours: &["RX drop packets: on"],
        why: "the device drops what finds no buffer",
    },
    Difference {
        commands: "show ",
        theirs: &["error desc: Invalid argument(-N)"],
        ours: &["error desc: Invalid argument(-N): queues end at N"],
        why: "a mistake is explained",
    },
    Difference {
        commands: "set promisc",
        theirs: &["Error during enabling promiscuous mode for port N: Operation not supported"],
        ours: &[
            "Error during enabling promiscuous mode for port N: Operation not supported (no: not by \
             this kernel)",
        ],
        why: "whose limit it is",
    },
    Difference {
        commands: "set allmulti",
        theirs: &["Error during enabling all-multicast mode for port N: Operation not supported"],
        ours: &[
            "Error during enabling all-multicast mode for port N: Operation not supported (no: not \
             by this kernel)",
        ],
        why: "whose limit it is",
    },
    Difference {
        commands: "port close 0",
        theirs: &[],
        ours: &["Cannot close started device (port N): `port stop N` first"],
        why: "DPDK's library logs it",
    },
    Difference {
        commands: "port config mtu 0 1400",
        theirs: &["Set MTU failed. diag=-N"],
        ours: &[],
        why: "ours is the port's own; the driver in C sets the netdev's, which is none of this \
              machine",
    },
    Difference {
        commands: "csum s",
        theirs: &["invalid port N"],
        ours: &[],
        why: "said twice",
    },
    Difference {
        commands: "show rxq info 9",
        theirs: &[
            "Failed to retrieve information for port: N, RX queue: N",
            "error desc: No such device(-N)",
        ],
        ours: &["Invalid port N"],
        why: "one text for a port that is not there",
    },
    Difference {
        commands: "show port 9 rss reta",
        theirs: &["Error during getting device (port N) info: No such device"],
        ours: &["Invalid port N"],
        why: "the same",
    },
    Difference {
        commands: "set promisc 9",
        theirs: &["Error during enabling promiscuous mode for port N: No such device"],
        ours: &["Invalid port N"],
        why: "the same",
    },
    Difference {
        commands: "set eth-peer 9",
        theirs: &["Error: Invalid port number N"],
        ours: &["Invalid port N"],
        why: "the same",
    },
    Difference {
        commands: "show port 0 rss-hash",
        theirs: &["RSS disabled"],
        ours: &[
            "RSS functions:",
            "  ipv4 ipv4-tcp ipv4-udp ipv6 ipv6-tcp ipv6-udp",
            "RSS key:",
            "KEY",
        ],
        why: "the driver in C forgets what it was configured with (defect 30)",
    },
    Difference {
        commands: "dump_mempool",
        theirs: &["  ops_name: <ring_mp_mc>"],
        ours: &["  ops_name: <mana>"],
        why: "another pool",
    },
    Difference {
        commands: "dump_mempool",
        theirs: &["  memory chunk at 0xN, addr=0xN, iova=0xN, len=N"],
        ours: &["  memory chunk at 0xN, len=N of N KiB pages"],
        why: "addresses are virtual ones; pages are told",
    },
    Difference {
        commands: "dump_mempool",
        theirs: &[
            "  flags=N",
            "  pool=0xN",
            "  iova=0xN",
            "  header_size=N",
            "  trailer_size=N",
            "  total_obj_size=N",
            "  private_data_size=N",
            "  ops_index=N",
            "    cache_count[N]=N",
            "    total_cache_count=N",
            "  no statistics available",
        ],
        ours: &[],
        why: "a pool of ours has none of it; common_pool_count has what rests in caches, too",
    },
    Difference {
        commands: "dump_mempool",
        theirs: &[],
        ours: &["  in_use=N"],
        why: "what is missing, in a number",
    },
    Difference {
        commands: "quit",
        theirs: &["Primary: Sending 'stop_req' request to secondary..."],
        ours: &[],
        why: "there are no secondary processes",
    },
];

fn both(stack: &Stack, model: &str, app: &str, by: By, script: &[&str]) -> [Dialogue; 2] {
    [Column::DpdkRdmaCore56, OURS]
        .map(|column| Dialogue::run(stack, column, model, app, by, script))
}

#[test]
fn each_command_is_answered_as_dpdks_testpmd_answers_it() {
    let test = "each_command_is_answered_as_dpdks_testpmd_answers_it";
    let Some(stack) = Stack::or_skip(test) else {
        return;
    };
    let mut comparison = Comparison::new(DIFFERENCES);
    for (model, app, by, script) in [
        (
            "model0,link=loop",
            "--txd=128 --rxd=128",
            By::Typing,
            ONE_QUEUE,
        ),
        (
            "model0,link=loop",
            "--txd=128 --rxd=128",
            By::File,
            ONE_QUEUE,
        ),
        ("model0,link=loop", "--rxq=2 --txq=2", By::Typing, QUEUES),
        ("model0,ports=2,link=pair", "", By::Typing, PORTS),
    ] {
        let [theirs, ours] = both(&stack, model, app, by, script);
        comparison.add(&theirs, &ours);
    }
    let lines = comparison.end();
    note(&format!("stack: {lines} lines of the prompts are alike"));
}

/// What DTS does with a testpmd, up to packets that are printed, and from there on.
const SHOWN_TO_DTS: [&[&str]; 2] = [
    &[
        "show device info all",
        "show port info all",
        "show port stats all",
        "show port info 9",
        "show port stats 9",
        "show rxq info 0 0",
        "show txq info 0 0",
        "set fwd macswap",
        "set fwd rxonly",
        "set verbose 1",
        "start",
    ],
    &[
        // Behind the packets, a prompt of its own.
        "",
        "set verbose 0",
        "start",
        "stop",
        "stop",
        "port stop all",
        "csum set ip hw 0",
        "csum set udp hw 0",
        "csum set tcp hw 0",
        "csum set sctp hw 0",
        "tx_vlan set 0 4096",
        "tx_vlan set 0 5",
        "tx_vlan reset 0",
        "port start all",
        "port stop all",
        "port close all",
        "quit",
    ],
];

#[test]
fn dts_reads_what_both_say() {
    let Some(stack) = Stack::or_skip("dts_reads_what_both_say") else {
        return;
    };
    for column in [Column::DpdkRdmaCore56, OURS] {
        // The frames are there when forwarding begins, and wait for it.
        let model = "model0,ports=2,link=gen:count=8:size=60";
        let app = "-i --total-num-mbufs=8192 --rxq=2 --txq=2 --no-flush-rx";
        let session = Session::on_terminal(&stack, column, model, "DEVICE", app);
        let mut session = session.on_its_libraries(&stack);
        let [first, second] = SHOWN_TO_DTS.map(|commands| commands.join("\n"));
        session.type_line(&first);
        // Both ports' packets were printed; the last line of one tells its flags.
        session.wait_until("16 packets", |text| {
            text.matches("src=").count() == 16 && text.matches("ol_flags: ").count() == 16
        });
        session.type_line(&second);
        let dialogue = Dialogue::of(session.end());
        let text = |command: &str| dialogue.answer(command).text();
        let is_right = |what: &str, found: Result<(), String>| {
            found.unwrap_or_else(|error| panic!("{} {what}: {error}", column.name()));
        };
        let count = |what: &str, found: Result<usize, String>, expected: usize| {
            is_right(
                what,
                found.map(|found| assert_eq!(found, expected, "{what}")),
            );
        };
        let names = text("show device info all");
        let names = parsers::dts_devices(&names);
        assert_eq!(names, ["7870:00:00.0_port1", "7870:00:00.0_port2"]);
        count("ports", parsers::dts_ports(&text("show port info all")), 2);
        count(
            "statistics",
            parsers::dts_stats(&text("show port stats all")),
            2,
        );
        is_right(
            "receive queue",
            parsers::dts_queue(&text("show rxq info 0 0"), true),
        );
        is_right(
            "send queue",
            parsers::dts_queue(&text("show txq info 0 0"), false),
        );
        count(
            "packets",
            parsers::dts_packets(&dialogue.outcome.ended.stdout),
            16,
        );
        for (command, verdict) in parsers::DTS_VERDICTS {
            // Where DTS gives a command twice, it looks at the second answer.
            let (command, turn) = match command.strip_suffix(" again") {
                Some(command) => (command, 1),
                None => (*command, 0),
            };
            let mut found = dialogue
                .answers
                .iter()
                .filter(|reply| reply.command == command);
            let reply = found.nth(turn).unwrap_or_else(|| panic!("no {command}"));
            is_right(command, parsers::dts_verdict(&reply.text(), *verdict));
        }
    }
}

/// LISA's command line, its signal and its figures: rates that are not 0.
#[test]
fn lisa_reads_the_rates_of_both() {
    let Some(stack) = Stack::or_skip("lisa_reads_the_rates_of_both") else {
        return;
    };
    for column in [Column::DpdkRdmaCore56, OURS] {
        for (mode, direction, model) in [
            ("txonly", "Tx", "model0,link=sink"),
            ("rxonly", "Rx", "model0,link=gen"),
        ] {
            let app = format!("--forward-mode={mode} -a --stats-period 1 --total-num-mbufs=8192");
            let eal = "-n 4 --proc-type=primary DEVICE";
            let session = Session::on_terminal(&stack, column, model, eal, &app);
            let mut session = session.on_its_libraries(&stack);
            session.wait_until("two rates", |text| {
                parsers::lisa_rates(text, direction).len() >= 2
            });
            let outcome = session.interrupt();
            outcome.assert_clean();
            let text = &outcome.ended.stdout;
            let rates = parsers::lisa_rates(text, direction);
            let sane = 1..=1_000_000_000;
            assert!(
                parsers::are_rates(&rates, sane),
                "{rates:?} in {}",
                outcome.ended
            );
            let others = parsers::lisa_rates(text, if direction == "Rx" { "Tx" } else { "Rx" });
            assert!(others.is_empty(), "{others:?} in {}", outcome.ended);
        }
    }
}
