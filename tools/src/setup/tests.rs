//! Setting up and undoing written machines, stopped at every moment.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::*;
use crate::doctor::trees::{CHANNEL1, MAC1, PCI, Written};

/// Every file and link of a tree but the journal.
fn everything(root: &Path) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().display().to_string();
            let data = fs::symlink_metadata(&path).unwrap();
            if data.is_symlink() {
                all.insert(
                    name,
                    format!("-> {}", fs::read_link(&path).unwrap().display()),
                );
            } else if data.is_dir() {
                folders.push(path);
            } else if !name.starts_with("var/lib/mana") {
                all.insert(name, fs::read_to_string(&path).unwrap().trim().to_owned());
            }
        }
    }
    all
}

/// A machine with the second port UP, without hugepages, and with a user.
fn machine() -> Written {
    let tree = Written::azure();
    tree.up("eth1");
    tree.up("enP30832s1d1");
    tree.pages(16, 16);
    tree.write(
        "etc/passwd",
        "root:x:0:0::/:/bin/sh\nanna:x:0:0::/home/anna:/bin/sh",
    );
    tree.write(
        "etc/security/limits.d/90-mana-anna.conf",
        "anna - memlock 4096",
    );
    tree.folder("etc/udev/rules.d");
    tree.folder("sys/module/uio_hv_generic");
    for file in ["new_id", "remove_id", "bind", "unbind"] {
        tree.write(&format!("sys/bus/vmbus/drivers/uio_hv_generic/{file}"), "");
    }
    for file in ["bind", "unbind"] {
        tree.write(&format!("sys/bus/vmbus/drivers/hv_netvsc/{file}"), "");
    }
    tree
}

fn args(tree: &Written, line: &str) -> Args {
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }
    let root = format!("--root={}", tree.root().display());
    let words = ["setup", &root].into_iter().chain(line.split_whitespace());
    <Line as clap::Parser>::try_parse_from(words).unwrap().args
}

fn setup(tree: &Written, line: &str) -> (Result<(), Error>, String) {
    let mut out = Vec::new();
    let result = run(&args(tree, line), &mut out);
    (result, String::from_utf8(out).unwrap())
}

#[test]
fn a_port_is_freed_and_undo_restores_what_was() {
    let tree = machine();
    let before = everything(tree.root());
    let (result, said) = setup(&tree, "--user=anna");
    result.unwrap();
    let expected = format!(
        "echo 1024 > /sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages\n\
         echo 'anna - memlock unlimited' > /etc/security/limits.d/90-mana-anna.conf\n\
         echo 'SUBSYSTEM==\"infiniband_verbs\", KERNEL==\"uverbs*\", OWNER=\"anna\"' > \
         /etc/udev/rules.d/90-mana-anna.rules\n\
         ip link set dev eth1 down\n\
         ip link set dev enP30832s1d1 down\n\
         # done; back again: mana setup --undo\n\
         # enP30832s1d1: --vdev=\"{PCI},mac={MAC1}\"\n"
    );
    assert_eq!(said, expected);
    let after = everything(tree.root());
    let flags = |all: &BTreeMap<String, String>, interface: &str| {
        let end = format!("/{interface}/flags");
        all.iter()
            .find(|(name, _)| name.ends_with(&end))
            .unwrap()
            .1
            .clone()
    };
    assert_eq!(
        (flags(&after, "eth1"), flags(&after, "eth0")),
        ("0x1002".into(), "0x1003".into())
    );
    // What is set up already needs nothing more, and the way back stays.
    let (result, said) = setup(&tree, "--user=anna");
    result.unwrap();
    assert!(said.starts_with("# nothing to do"), "{said}");
    setup(&tree, "--undo").0.unwrap();
    assert_eq!(everything(tree.root()), before);
    let (result, said) = setup(&tree, "--undo");
    assert_eq!((result.is_ok(), &*said), (true, "# nothing to undo\n"));
}

#[test]
fn a_dry_run_changes_nothing_and_prints_the_same_commands() {
    let tree = machine();
    let before = everything(tree.root());
    let (result, dry) = setup(&tree, "--user=anna --netvsc --dry-run");
    result.unwrap();
    assert_eq!(everything(tree.root()), before);
    let channel = format!("echo {CHANNEL1} > /sys/bus/vmbus/drivers/hv_netvsc/unbind");
    assert!(dry.contains(&channel), "{dry}");
    let (result, done) = setup(&tree, "--user=anna --netvsc");
    result.unwrap();
    for line in dry.lines().filter(|line| !line.starts_with('#')) {
        assert!(done.contains(line), "{line}");
    }
}

/// Wherever the machine stops, undo restores what was; and so does an undo after a second run.
#[test]
fn stopped_at_any_moment_undo_restores_what_was() {
    let mut stops = 0;
    loop {
        let tree = machine();
        let before = everything(tree.root());
        let args = args(&tree, "");
        let machine = Machine::read(Tree::below(tree.root()).unwrap(), false, None);
        let journal = Journal::new(machine.tree.place(&args.journal), "boot".to_owned());
        let wanted = Wanted {
            hugepages: 64,
            page_kib: 2048,
            node: None,
            netvsc: false,
            user: Some("anna".to_owned()),
            force: false,
        };
        let plan = plan::plan(&machine, &wanted).unwrap();
        let mut left = stops;
        let mut stopped = false;
        let mut go_on = |_| {
            stopped = left == 0;
            left -= i32::from(!stopped);
            !stopped
        };
        apply(&machine.tree, &journal, &plan, &mut io::sink(), &mut go_on).unwrap();
        if !stopped {
            assert_eq!(stops, 3 * plan.steps.len() as i32);
            assert!(stops >= 12);
            break;
        }
        if stops % 2 == 1 {
            // A line that was cut off in the middle: its step was not begun.
            let path = journal.path();
            let mut bytes = fs::read(path).unwrap_or_default();
            bytes.extend(b"{\"boot\":\"boot\",\"st");
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
            // A second run goes on from there.
            let rest = plan::plan(&machine_of(&tree), &wanted).unwrap();
            apply(&machine.tree, &journal, &rest, &mut io::sink(), &mut |_| {
                true
            })
            .unwrap();
        }
        undo(&machine.tree, &journal, false, &mut io::sink()).unwrap();
        assert_eq!(everything(tree.root()), before, "stopped at moment {stops}");
        assert!(journal.is_empty());
        stops += 1;
    }
}

fn machine_of(tree: &Written) -> Machine {
    Machine::read(Tree::below(tree.root()).unwrap(), false, None)
}

#[test]
fn a_step_that_fails_takes_back_those_before_it() {
    let tree = machine();
    // The third step can't be done, when two are.
    tree.without("etc/udev");
    tree.write("etc/udev", "a file where a folder should be");
    let before = everything(tree.root());
    let (result, _) = setup(&tree, "--user=anna");
    let error = result.unwrap_err().to_string();
    assert!(
        error.contains("what was done before it is undone"),
        "{error}"
    );
    assert_eq!(everything(tree.root()), before);
    assert!(!tree.path("var/lib/mana/setup.journal").exists());
}

#[test]
fn the_interface_the_machine_is_reached_by_is_left_alone_unless_forced() {
    let tree = machine();
    for port in ["eth0", "enP30832s1", "00:0d:3a:76:3b:d0"] {
        let error = setup(&tree, &format!("--port={port}"))
            .0
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("eth0 carries the default route") && error.contains("--force"),
            "{error}"
        );
    }
    // Without a port all others are taken.
    let (result, said) = setup(&tree, "--dry-run");
    result.unwrap();
    assert!(
        !said.contains("eth0 down") && said.contains("eth1 down"),
        "{said}"
    );
    let (result, said) = setup(&tree, "--port=eth0 --force --dry-run");
    result.unwrap();
    assert!(
        said.contains("ip link set dev eth0 down\nip link set dev enP30832s1 down"),
        "{said}"
    );
}

#[test]
fn what_a_reboot_undid_is_not_undone_again() {
    let tree = machine();
    tree.write("proc/sys/kernel/random/boot_id", "first");
    setup(&tree, "--user=anna").0.unwrap();
    tree.write("proc/sys/kernel/random/boot_id", "second");
    let (result, said) = setup(&tree, "--undo");
    result.unwrap();
    assert!(
        !said.contains("ip link") && said.contains("limits.d/90-mana-anna.conf"),
        "{said}"
    );
}

#[test]
fn wrong_wishes_are_refused_before_anything_is_done() {
    let tree = machine();
    let before = everything(tree.root());
    for (line, part) in [
        ("--port=eth7", "none is eth7"),
        ("--user=nobody-here", "no user `nobody-here`"),
        ("--user=../../etc", "no name of a user"),
        ("--hugepage-size=1G", "no hugepages of 1048576 KiB"),
        ("--node=7", "no hugepages of 2048 KiB"),
    ] {
        let error = setup(&tree, line).0.unwrap_err().to_string();
        assert!(error.contains(part), "{line}: {error}");
        assert_eq!(everything(tree.root()), before, "{line}");
    }
    tree.write("var/lib/mana/setup.journal", "not ours");
    let error = setup(&tree, "--undo").0.unwrap_err().to_string();
    assert!(error.contains("line 1"), "{error}");
}
