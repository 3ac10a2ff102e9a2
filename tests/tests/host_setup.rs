//! `mana setup` on interfaces of the kernel: a written machine whose interfaces' flags are those of
//! real ones in a network namespace.

#![forbid(unsafe_code)]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use conformance::host::{Ended, Host, Job, Namespace};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(60);
const PCI: &str = "7870:00:00.0";

/// A machine with one port: `vf` and, above it, `synthetic`, which are interfaces of a namespace.
struct Machine<'a> {
    folder: TempDir,
    script: PathBuf,
    namespace: &'a Namespace,
}

impl<'a> Machine<'a> {
    fn new(host: &Host, namespace: &'a Namespace, vf: &str, synthetic: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        let write = |path: &str, text: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let function = format!("sys/bus/pci/devices/{PCI}");
        write(&format!("{function}/vendor"), "0x1414\n");
        write(&format!("{function}/device"), "0x00ba\n");
        for module in ["mana", "mana_ib", "ib_uverbs"] {
            write(&format!("sys/module/{module}/initstate"), "live\n");
        }
        write("proc/net/route", "Iface\n");
        for interface in [vf, synthetic] {
            let class = format!("sys/class/net/{interface}");
            write(&format!("{class}/address"), "00:0d:3a:76:3b:d1\n");
            // The namespace's own sysfs is mounted there for the time of each command.
            let real = format!("/real/class/net/{interface}/flags");
            symlink(real, root.join(&class).join("flags")).unwrap();
        }
        let vf = root.join("sys/class/net").join(vf);
        symlink(format!("/{function}"), vf.join("device")).unwrap();
        symlink(format!("/sys/class/net/{synthetic}"), vf.join("master")).unwrap();
        fs::create_dir_all(root.join("real")).unwrap();
        let script = folder.path().join("inside");
        let words = |line: &str| {
            let words = host.tools().words(line);
            let quoted: Vec<_> = words
                .iter()
                .map(|it| format!("'{}'", it.display()))
                .collect();
            quoted.join(" ")
        };
        let text = format!(
            "#!/bin/sh\nset -e\n{}\nexec '{}' setup --root='{}' --hugepages=0 \"$@\"\n",
            words(&format!(
                "mount -t sysfs sysfs {}",
                root.join("real").display()
            )),
            host.mana().display(),
            root.display(),
        );
        fs::write(&script, text).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o700)).unwrap();
        Self {
            folder,
            script,
            namespace,
        }
    }

    fn setup(&self, arguments: &str) -> Ended {
        Job::start(&mut self.namespace.program(&self.script, arguments), LIMIT).end()
    }

    fn journal(&self) -> PathBuf {
        self.folder.path().join("root/var/lib/mana/setup.journal")
    }
}

/// Whether the kernel has the interface UP, by what `ip` says.
fn is_up(namespace: &Namespace, interface: &str) -> bool {
    let shown = namespace
        .run(&format!("ip -br link show dev {interface}"))
        .success();
    let flags = shown
        .split_once('<')
        .and_then(|(_, rest)| rest.split_once('>'));
    flags.is_some_and(|(flags, _)| flags.split(',').any(|flag| flag == "UP"))
}

/// Takes both down, in a namespace prepared by these commands of `ip`, and up again.
#[track_caller]
fn down_and_up(test: &str, commands: &[&str], vf: &str, synthetic: &str) {
    let Some(host) = Host::or_skip(test) else {
        return;
    };
    let namespace = host.namespace();
    for command in commands {
        namespace.ip(command);
    }
    let both = || [is_up(&namespace, vf), is_up(&namespace, synthetic)];
    assert_eq!(both(), [true, true]);
    let machine = Machine::new(&host, &namespace, vf, synthetic);
    let dry = machine.setup("--dry-run").success();
    assert_eq!(both(), [true, true], "{dry}");
    let said = machine.setup("").success();
    let expected = format!("ip link set dev {synthetic} down\nip link set dev {vf} down\n");
    assert!(
        said.starts_with(&expected) && dry.starts_with(&expected),
        "{said}\n{dry}"
    );
    assert_eq!(both(), [false, false], "{said}");
    assert!(machine.journal().exists());
    let _ = machine.setup("--undo").success();
    assert_eq!(both(), [true, true]);
    assert!(!Path::new(&machine.journal()).exists());
}

#[test]
fn a_bridge_and_its_port_are_taken_down_and_up_again() {
    down_and_up(
        "a_bridge_and_its_port_are_taken_down_and_up_again",
        &[
            "link add veth0 type veth peer name veth1",
            "link add br0 type bridge",
            "link set veth0 master br0",
            "link set veth0 up",
            "link set br0 up",
        ],
        "veth0",
        "br0",
    );
}

#[test]
fn a_tap_and_a_veth_are_taken_down_and_up_again() {
    down_and_up(
        "a_tap_and_a_veth_are_taken_down_and_up_again",
        &[
            "link add veth0 type veth peer name veth1",
            "tuntap add tap0 mode tap",
            "link set veth0 up",
            "link set tap0 up",
        ],
        "tap0",
        "veth0",
    );
}

/// An interface that went away meanwhile is an error that names it; what was done before is undone.
#[test]
fn an_interface_that_is_gone_is_named_and_nothing_is_left_half_done() {
    let test = "an_interface_that_is_gone_is_named_and_nothing_is_left_half_done";
    let Some(host) = Host::or_skip(test) else {
        return;
    };
    let namespace = host.namespace();
    namespace.ip("link add veth0 type veth peer name veth1");
    namespace.ip("link set veth0 up");
    let machine = Machine::new(&host, &namespace, "gone0", "veth0");
    let ended = machine.setup("");
    assert_eq!(ended.code, Some(1), "{ended}");
    assert!(ended.stderr.contains("gone0"), "{ended}");
    assert!(
        is_up(&namespace, "veth0") && !machine.journal().exists(),
        "{ended}"
    );
}
