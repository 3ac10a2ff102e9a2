//! docs/features.md says what is so: its tests exist, its columns of the C drivers are theirs, and its
//! capabilities are the port's.

#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use conformance::{Rig, suites};
use mana_model::{DeviceConfig, DoorbellMode, Kernel};
use pmd_api::Support;

/// The rows of DPDK's mana.ini, those of its later versions among them.
const MANA: &str = "Speed capabilities=P;Link status=P;Removal event=Y;Rx interrupt=Y;RSS hash=Y;\
    L3 checksum offload=Y;L4 checksum offload=Y;MTU update=Y;Multiprocess aware=Y;Linux=Y;x86-64=Y;\
    Usage doc=Y";
/// The rows of DPDK's mlx5.ini.
const MLX5: &str = "Speed capabilities=Y;Link status=Y;Link status event=Y;Removal event=Y;\
    Rx interrupt=Y;Fast mbuf free=Y;Queue start/stop=Y;Shared Rx queue=Y;Burst mode info=Y;\
    Power mgmt address monitor=Y;MTU update=Y;Buffer split on Rx=Y;Scattered Rx=Y;LRO=Y;TSO=Y;\
    Promiscuous mode=Y;Allmulticast mode=Y;Unicast MAC filter=Y;Multicast MAC filter=Y;RSS hash=Y;\
    RSS key update=Y;RSS reta update=Y;Inner RSS=Y;SR-IOV=Y;VLAN filter=Y;Flow control=Y;\
    CRC offload=Y;VLAN offload=Y;L3 checksum offload=Y;L4 checksum offload=Y;Timestamp offload=Y;\
    Inner L3 checksum=Y;Inner L4 checksum=Y;Packet type parsing=Y;Rx descriptor status=Y;\
    Tx descriptor status=Y;Basic stats=Y;Extended stats=Y;Stats per queue=Y;FW version=Y;\
    Module EEPROM dump=Y;Multiprocess aware=Y;Linux=Y;Windows=P;ARMv8=Y;Power8=Y;x86-32=Y;x86-64=Y;\
    Usage doc=Y";

/// What the fourth column may say, and which answers of `Port::capabilities` go with it.
const VERDICTS: [(&str, Option<Support>); 6] = [
    ("yes", Some(Support::Yes)),
    ("partly", Some(Support::Yes)),
    ("not by this device", Some(Support::NotByDevice)),
    ("not by this kernel", Some(Support::NotByKernel)),
    ("not yet", Some(Support::NotYet)),
    ("does not apply", None),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A row of the tables, cell by cell.
struct Row {
    feature: String,
    mana: String,
    mlx5: String,
    here: String,
    capabilities: Vec<String>,
    kernels: String,
    last: String,
}

fn rows() -> Vec<Row> {
    let text = fs::read_to_string(root().join("docs/features.md")).expect("the document");
    let lines = text.lines().filter(|line| line.starts_with("| "));
    let cells = lines.map(|line| {
        let inner = line.trim_matches('|');
        let cells: Vec<String> = inner
            .split('|')
            .map(|cell| cell.trim().to_owned())
            .collect();
        assert_eq!(cells.len(), 7, "{line}");
        cells
    });
    let rows = cells
        .filter(|cells| cells[0] != "feature")
        .map(|cells| Row {
            capabilities: quoted(&cells[4]),
            feature: cells[0].clone(),
            mana: cells[1].clone(),
            mlx5: cells[2].clone(),
            here: cells[3].clone(),
            kernels: cells[5].clone(),
            last: cells[6].clone(),
        });
    rows.collect()
}

/// Names in backquotes.
fn quoted(text: &str) -> Vec<String> {
    let parts = text.split('`').skip(1).step_by(2);
    parts.map(str::to_owned).collect()
}

fn is_name(text: &str) -> bool {
    let allowed =
        |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_';
    !text.is_empty() && text.chars().all(allowed)
}

/// Names of all test functions of the house.
fn tests() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for room in [
        "crates",
        "driver-gdma",
        "driver-mana",
        "pmd-api",
        "tests",
        "tools",
    ] {
        collect(&root().join(room), &mut found);
    }
    found
}

fn collect(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("text");
            tests_of(&text, found);
        }
    }
}

/// The functions behind `#[test]`, and those that a table of situations lists.
fn tests_of(text: &str, found: &mut BTreeSet<String>) {
    let mut is_test = false;
    for line in text.lines().map(str::trim) {
        if line == "#[test]" {
            is_test = true;
        } else if let Some(rest) = line.strip_prefix("fn ") {
            if is_test {
                found.extend(rest.split('(').next().map(str::to_owned));
            }
            is_test = false;
        }
    }
    if let Some((_, list)) = text.split_once("\nsituations! {\n") {
        let names = list.lines().map(str::trim).take_while(|line| *line != "}");
        found.extend(names.map(str::to_owned));
    }
}

#[test]
fn every_yes_is_proven_by_tests_that_exist_and_everything_else_has_a_verdict() {
    let tests = tests();
    let mut seen = BTreeSet::new();
    for row in rows() {
        let Row {
            feature,
            here,
            last,
            ..
        } = &row;
        assert!(seen.insert(feature.clone()), "{feature} twice");
        assert!(
            VERDICTS.iter().any(|(verdict, _)| verdict == here),
            "{feature}: `{here}`"
        );
        let names = quoted(last).into_iter().filter(|name| is_name(name));
        let names: Vec<String> = names.collect();
        for name in &names {
            let known = tests.contains(name) || suites::find(name).is_some();
            assert!(known, "{feature}: there is no test and no suite {name}");
        }
        let links = last.split("](").skip(1);
        let links: Vec<&str> = links.filter_map(|rest| rest.split(')').next()).collect();
        for link in &links {
            assert!(
                root().join("docs").join(link).is_file(),
                "{feature}: {link}"
            );
        }
        let is_document = feature.ends_with(" doc");
        let proven = !names.is_empty() || is_document && !links.is_empty();
        let claimed = matches!(here.as_str(), "yes" | "partly");
        assert!(proven || !claimed, "{feature}: nothing proves it");
    }
}

#[test]
fn the_column_of_real_kernels_is_what_their_guests_run() {
    for row in rows() {
        let mut kernels = BTreeSet::new();
        for name in quoted(&row.last) {
            let runs = |kernel: &&&str| suites::on_kernel(kernel).contains(&name.as_str());
            kernels.extend(["6.12", "7.x"].iter().filter(runs));
        }
        let kernels: Vec<&str> = kernels.into_iter().copied().collect();
        assert_eq!(row.kernels, kernels.join(", "), "{}", row.feature);
    }
}

#[test]
fn the_columns_of_the_drivers_in_c_are_what_their_files_say() {
    let rows = rows();
    type Cell = fn(&Row) -> &str;
    let columns: [(&str, Cell); 2] = [(MANA, |row| &row.mana), (MLX5, |row| &row.mlx5)];
    for (file, cell) in columns {
        let pairs = file.split(';').filter_map(|line| line.split_once('='));
        let mut told: BTreeMap<&str, &str> =
            pairs.map(|(name, value)| (name.trim(), value)).collect();
        for row in &rows {
            let expected = told.remove(row.feature.as_str()).unwrap_or("–");
            assert_eq!(cell(row), expected, "{}", row.feature);
        }
        assert!(told.is_empty(), "rows that are missing: {told:?}");
    }
}

#[test]
fn every_capability_stands_in_a_row_and_the_port_says_the_same() {
    let rig = Rig::model(DeviceConfig::new(Kernel::V7_3), DoorbellMode::Stepped);
    let port = rig.open();
    let mut told: BTreeMap<&str, Support> = port.capabilities().iter().collect();
    for row in rows() {
        let verdict = VERDICTS.iter().find(|(verdict, _)| *verdict == row.here);
        let verdict = verdict.and_then(|(_, support)| *support);
        for name in &row.capabilities {
            let said = told.remove(name.as_str());
            assert_eq!(said, verdict, "{}: {name}", row.feature);
        }
    }
    assert!(told.is_empty(), "capabilities without a row: {told:?}");
    port.close().expect("it closes");
}
