//! How a port is chosen on the command line, and what is said when it can't be.

#![forbid(unsafe_code)]

use conformance::situations;
use conformance::stack::{Column, Outcome, Session, Stack};

const MAC: &str = "00:0d:3a:76:3b:d0";
const OTHER: &str = "00:0d:3a:76:3b:d1";
const APP: &str = "--auto-start --total-num-mbufs=4096 --txd=128 --rxd=128";

/// Two ports of one function, at Azure's usual address.
fn model() -> String {
    format!("model0,mac={MAC},mac={OTHER}")
}

/// Starts forwarding with these device arguments; the MACs of the ports that came up.
fn probed(stack: &Stack, column: Column, eal: &str) -> Vec<String> {
    let session = Session::start(stack, column, &model(), eal, APP);
    let mut session = session.on_its_libraries(stack);
    if column.is_ours() {
        // DPDK's writes nothing to a pipe before it ends.
        session.wait_until("forwarding", |text| text.contains("RX queue: 0"));
    }
    let outcome = session.stop();
    let _counted = outcome.clean();
    let text = &outcome.ended.stdout;
    if let Some(announced) = column.announced() {
        assert!(text.contains(announced), "{text}");
    }
    (0..3)
        .filter_map(|port| text.split_once(&format!("\nPort {port}: ")))
        .filter_map(|(_, rest)| rest.lines().next())
        .map(str::to_lowercase)
        .collect()
}

fn takes_the_port_of_a_pci_address_and_a_mac(stack: &Stack, column: Column) -> String {
    let eal = format!("DEVICE,mac={OTHER}");
    assert_eq!(probed(stack, column, &eal), [OTHER]);
    "yes".to_owned()
}

fn takes_vdev_for_the_same_as_azures_guide_writes_it(stack: &Stack, column: Column) -> String {
    let provider = column.provider();
    let eal = format!("--vdev=7870:00:00.0,mac={MAC}{provider}");
    assert_eq!(probed(stack, column, &eal), [MAC]);
    "yes".to_owned()
}

fn takes_all_ports_of_a_pci_address_alone(stack: &Stack, column: Column) -> String {
    assert_eq!(probed(stack, column, "DEVICE"), [MAC, OTHER]);
    "yes".to_owned()
}

/// What chooses nothing at all, or for ours the MAC alone, which DPDK has no word for.
fn takes_what_is_there_without_an_address(stack: &Stack, column: Column) -> String {
    if column.is_ours() {
        let eal = format!("-a mac={OTHER}{}", column.provider());
        assert_eq!(probed(stack, column, &eal), [OTHER]);
        return "yes, also by MAC alone".to_owned();
    }
    assert_eq!(probed(stack, column, ""), [MAC, OTHER]);
    "yes, all".to_owned()
}

fn runs_on_a_physical_function(stack: &Stack, column: Column) -> String {
    if !column.is_ours() {
        return "since 25.07".to_owned();
    }
    let (model, eal) = (format!("{},pf=on", model()), "DEVICE");
    let session = Session::start(stack, column, &model, eal, APP);
    let mut session = session.on_its_libraries(stack);
    session.wait_until("forwarding", |text| text.contains("RX queue: 0"));
    let outcome = session.stop();
    let _counted = outcome.clean();
    let text = outcome.ended.stdout.to_lowercase();
    for (port, mac) in [MAC, OTHER].iter().enumerate() {
        assert!(text.contains(&format!("\nport {port}: {mac}")), "{text}");
    }
    "yes".to_owned()
}

fn refuses_a_mac_that_no_port_has(stack: &Stack, column: Column) -> String {
    for word in ["-a ", "--vdev="] {
        let provider = column.provider();
        let eal = format!("{word}7870:00:00.0,mac=00:0d:3a:00:00:99{provider}");
        let mut session = Session::start(stack, column, &model(), &eal, APP);
        if !column.is_ours() {
            session.type_line("");
        }
        let outcome = session.end();
        assert_refused(&outcome);
    }
    match column.is_ours() {
        true => "exit 1, names the ports that are there".to_owned(),
        false => "forwards on no port, exit 0".to_owned(),
    }
}

#[track_caller]
fn assert_refused(outcome: &Outcome) {
    let text = &outcome.ended.stderr;
    if outcome.column.is_ours() {
        assert_eq!(outcome.ended.code, Some(1), "{}", outcome.ended);
        for part in ["00:0d:3a:00:00:99", MAC, OTHER] {
            assert!(text.contains(part), "no {part}: {text}");
        }
        return;
    }
    for line in [
        "PCI_BUS: Requested device 7870:00:00.0 cannot be used",
        "EAL: Bus (pci) probe failed.",
        "testpmd: No probed ethernet devices",
    ] {
        assert!(text.lines().any(|found| found == line), "no {line}: {text}");
    }
    assert_eq!(outcome.ended.code, Some(0), "{}", outcome.ended);
}

situations! {
    takes_the_port_of_a_pci_address_and_a_mac
    takes_vdev_for_the_same_as_azures_guide_writes_it
    takes_all_ports_of_a_pci_address_alone
    takes_what_is_there_without_an_address
    runs_on_a_physical_function
    refuses_a_mac_that_no_port_has
}
