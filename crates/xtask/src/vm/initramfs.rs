//! What a guest boots into: Debian's programs and libraries, the kernel's modules, the programs of this
//! house, and what is to be run.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::cpio::Archive;
use super::elf;
use super::packages::Trees;
use crate::debian::failed;
use crate::process;

const INIT: &str = include_str!("init.sh");
/// File systems that are mounted at once, after those that these need.
const MOUNTS: &str = "\
sysfs /sys sysfs defaults 0 0
devpts /dev/pts devpts defaults 0 0
tmpfs /dev/shm tmpfs defaults 0 0
tmpfs /run tmpfs defaults 0 0
hugetlbfs /dev/hugepages hugetlbfs defaults 0 0
";
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";
/// Loaded by the guest's first program, with what they need. A kernel without the first makes no guest;
/// up to 6.1 Debian's have no `mana_ib`.
const LOADED: [&str; 3] = ["mana", "mana_ib", "ib_uverbs"];
/// Loaded before them, where the kernel has not got it built in: by it the guest tells everything.
const FIRST: [&str; 2] = ["virtio_pci", "virtio_console"];
/// There to be loaded.
const OFFERED: [&str; 3] = ["8021q", "tun", "veth"];
/// Folders of the trees that no program of a guest looks into, the last part of their paths.
const LEFT_OUT: [&str; 9] = [
    "share",
    "include",
    "gconv",
    "krb5",
    "engines-3",
    "perl",
    "perl-base",
    "security",
    "pkgconfig",
];
/// Libraries that programs of a guest load by name, the verbs for one. Of all other libraries of the trees
/// only those are in a guest that something in it is linked with: Debian's packages depend on many more.
const OPENED: [&str; 3] = ["libibverbs.so.1", "libmana.so.1", "libgcc_s.so.1"];
/// Drivers of verbs and what names them, by the folder they are in: a guest has one kind of device, and
/// every program of verbs loads all drivers.
const DRIVERS: [&str; 2] = ["usr/lib/x86_64-linux-gnu/libibverbs", "etc/libibverbs.d"];
/// Where rdma-core 44 stands beside the one of the guest, and who puts it in front: in a mount namespace,
/// where the folder of libraries is one of links to all of the guest's others and to these. What is
/// started before the links are complete is busybox, which needs no library.
const SIDE: &str = "usr/lib/rdma-core-44";
const SIDE_BY_SIDE: &str = "#!/bin/sh
# `rdma-core-44 COMMAND...`: runs it with the libraries of rdma-core 44 in the place of the guest's.
if [ -z \"$RDMA_CORE_44\" ]; then
    mkdir -p /run/rdma-core-56
    exec env RDMA_CORE_44=1 unshare -m busybox ash \"$0\" \"$@\"
fi
folder=/usr/lib/x86_64-linux-gnu
busybox mount --bind $folder /run/rdma-core-56 &&
busybox mount -t tmpfs tmpfs $folder &&
busybox ln -s /run/rdma-core-56/* $folder &&
busybox rm $folder/libibverbs* $folder/libmana.so* &&
busybox ln -s /usr/lib/rdma-core-44/* $folder || exit 125
exec \"$@\"
";

/// What goes into a guest besides the trees.
pub struct Content<'a> {
    /// The program of this house.
    pub mana: &'a Path,
    /// Files, and where to: permissions are kept.
    pub files: &'a [(PathBuf, String)],
    /// The script to run; none for a prompt.
    pub command: Option<&'a str>,
    /// Whether the drivers are loaded.
    pub modules: bool,
    /// What is printed before a prompt.
    pub welcome: &'a str,
    /// The ports by which the guest tells and asks, by name.
    pub ports: &'a [&'a str],
}

/// Writes the archive.
pub fn write(path: &Path, trees: &Trees, content: &Content<'_>) -> Result<(), String> {
    let file = File::create(path).map_err(|error| failed(path, &error))?;
    let mut made = Made {
        archive: Archive::new(BufWriter::with_capacity(1 << 20, file)),
        path,
        libraries: BTreeMap::new(),
        needed: OPENED.map(str::to_owned).into(),
    };
    made.fill(trees, content)?;
    let finished = made.archive.finish();
    finished.map(drop).map_err(|error| failed(path, &error))
}

struct Made<'a, W> {
    archive: Archive<W>,
    path: &'a Path,
    /// The trees' libraries by name, and those among them that are needed.
    libraries: BTreeMap<String, PathBuf>,
    needed: BTreeSet<String>,
}

impl<W: Write> Made<'_, W> {
    fn fill(&mut self, trees: &Trees, content: &Content<'_>) -> Result<(), String> {
        self.text("init", 0o755, INIT)?;
        self.text("etc/vm/welcome", 0o644, content.welcome)?;
        let ports = content.ports.join(" ") + "\n";
        self.text("etc/vm/ports", 0o644, &ports)?;
        self.text("etc/fstab", 0o644, MOUNTS)?;
        if let Some(command) = content.command {
            self.text("etc/vm/command", 0o644, command)?;
        }
        self.text(
            "etc/passwd",
            0o644,
            "root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n",
        )?;
        self.text("etc/group", 0o644, "root:x:0:\nnogroup:x:65534:\n")?;
        for (link, target) in [
            ("bin", "usr/bin"),
            ("sbin", "usr/sbin"),
            ("lib", "usr/lib"),
            ("lib64", "usr/lib64"),
            ("usr/bin/sh", "dash"),
        ] {
            self.link(link, target)?;
        }
        for folder in ["dev", "proc", "sys", "run", "tmp", "mnt"] {
            let done = self.archive.folder(folder);
            done.map_err(|error| failed(self.path, &error))?;
        }
        self.busybox(&trees.guest)?;
        self.tree(&trees.guest, "")?;
        if let Some(dpdk) = &trees.dpdk {
            self.tree(dpdk, "")?;
        }
        self.rdma_core_44(&trees.rdma_core_44)?;
        self.modules(trees, content.modules)?;
        self.copy(content.mana, "usr/bin/mana")?;
        for (from, to) in content.files {
            self.copy(from, to)?;
        }
        // Each may need others.
        while let Some(name) = self.needed.pop_first() {
            if let Some(from) = self.libraries.remove(&name) {
                self.copy(&from, &format!("{LIBRARIES}/{name}"))?;
            }
        }
        Ok(())
    }

    fn text(&mut self, path: &str, permissions: u32, text: &str) -> Result<(), String> {
        let done = self.archive.file(path, permissions, text.as_bytes());
        done.map_err(|error| failed(self.path, &error))
    }

    fn link(&mut self, path: &str, target: &str) -> Result<(), String> {
        let done = self.archive.link(path, target);
        done.map_err(|error| failed(self.path, &error))
    }

    /// A file, or a link as it is.
    fn copy(&mut self, from: &Path, to: &str) -> Result<(), String> {
        let wrong = |error| failed(from, &error);
        let data = fs::symlink_metadata(from).map_err(wrong)?;
        if data.is_symlink() {
            let target = fs::read_link(from).map_err(wrong)?;
            let name = target.file_name().unwrap_or_default();
            self.needed.insert(name.to_string_lossy().into_owned());
            return self.link(to, &target.to_string_lossy());
        }
        let bytes = elf::loaded(fs::read(from).map_err(wrong)?);
        self.needed.extend(elf::needed(&bytes));
        let done = self.archive.file(to, data.permissions().mode(), &bytes);
        done.map_err(|error| failed(self.path, &error))
    }

    /// What is below `folder` of a tree, at the same place.
    fn tree(&mut self, tree: &Path, folder: &str) -> Result<(), String> {
        let at = tree.join(folder);
        let entries = fs::read_dir(&at).map_err(|error| failed(&at, &error))?;
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let below = match folder {
                "" => name.clone(),
                folder => format!("{folder}/{name}"),
            };
            let kind = entry.file_type().map_err(|error| failed(&at, &error))?;
            match kind.is_dir() {
                true if LEFT_OUT.contains(&name.as_str()) => {}
                true => self.tree(tree, &below)?,
                // For compilers and linkers.
                false if name.ends_with(".a") || name.ends_with(".o") => {}
                false if DRIVERS.contains(&folder) && !is_ours(&name) => {}
                false if folder == LIBRARIES && name.contains(".so") => {
                    self.libraries.entry(name).or_insert(entry.path());
                }
                false => self.copy(&entry.path(), &below)?,
            }
        }
        Ok(())
    }

    /// Its tools, in a folder behind the others of the search path.
    fn busybox(&mut self, guest: &Path) -> Result<(), String> {
        let mut list = Command::new(guest.join("usr/bin/busybox"));
        for name in process::capture(list.arg("--list"))?.lines() {
            self.link(&format!("usr/libexec/busybox/{name}"), "../../bin/busybox")?;
        }
        Ok(())
    }

    fn rdma_core_44(&mut self, tree: &Path) -> Result<(), String> {
        let libraries = tree.join(LIBRARIES);
        for name in ["libibverbs.so.1", "libmana.so.1"] {
            let at = libraries.join(name);
            let file = at.canonicalize().map_err(|error| failed(&at, &error))?;
            let full = file.file_name().unwrap_or_default().to_string_lossy();
            self.copy(&file, &format!("{SIDE}/{full}"))?;
            self.link(&format!("{SIDE}/{name}"), &full)?;
        }
        let to = format!("{SIDE}/libibverbs/{}", provider(&libraries)?);
        self.link(&to, "../libmana.so.1")?;
        self.text("usr/bin/rdma-core-44", 0o755, SIDE_BY_SIDE)
    }

    /// The drivers and what they need, with what `modprobe` wants to know.
    fn modules(&mut self, trees: &Trees, loaded: bool) -> Result<(), String> {
        let release = &trees.release;
        let mut found = BTreeMap::new();
        modules_below(&trees.modules.join("kernel"), &mut found)?;
        let mut wanted: Vec<String> = LOADED
            .iter()
            .chain(&FIRST)
            .chain(&OFFERED)
            .map(ToString::to_string)
            .collect();
        let mut lines = BTreeMap::new();
        while let Some(name) = wanted.pop() {
            if lines.contains_key(&name) {
                continue;
            }
            // Built into the kernel.
            let Some(path) = found.get(&name) else {
                continue;
            };
            let module = module(&trees.guest, path)?;
            let needs = needs(&module);
            let to = format!("usr/lib/modules/{release}/{name}.ko");
            let done = self.archive.file(&to, 0o644, &module);
            done.map_err(|error| failed(self.path, &error))?;
            wanted.extend(needs.iter().cloned());
            lines.insert(name, needs);
        }
        let (there, missing): (Vec<&str>, Vec<&str>) = LOADED
            .into_iter()
            .partition(|name| lines.contains_key(*name));
        if missing.contains(&LOADED[0]) {
            return Err(format!("{}: no module mana", trees.modules.display()));
        }
        for name in missing {
            eprintln!("xtask: {release} has no module {name}: the guest goes without");
        }
        let dependencies = dependencies(&lines);
        self.text(
            &format!("usr/lib/modules/{release}/modules.dep"),
            0o644,
            &dependencies,
        )?;
        let loaded = if loaded {
            there.join(" ")
        } else {
            String::new()
        };
        let first = FIRST.into_iter().filter(|name| lines.contains_key(*name));
        let first: Vec<&str> = first.collect();
        self.text("etc/vm/first", 0o644, &first.join(" "))?;
        self.text("etc/vm/modules", 0o644, &loaded)
    }
}

/// Whether a file of a driver of verbs is that of this device: `libmana-rdmav57.so`, `mana.driver`.
fn is_ours(name: &str) -> bool {
    name.starts_with("libmana-") || name.starts_with("mana.")
}

/// The name under which libibverbs looks for the driver: a link to its library.
fn provider(libraries: &Path) -> Result<String, String> {
    let folder = libraries.join("libibverbs");
    let entries = fs::read_dir(&folder).map_err(|error| failed(&folder, &error))?;
    let mut names = entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned());
    names
        .find(|name| name.starts_with("libmana-"))
        .ok_or_else(|| format!("{}: no libmana-*", folder.display()))
}

fn modules_below(folder: &Path, found: &mut BTreeMap<String, PathBuf>) -> Result<(), String> {
    let wrong = |error| failed(folder, &error);
    for entry in fs::read_dir(folder).map_err(wrong)? {
        let path = entry.map_err(wrong)?.path();
        if path.is_dir() {
            modules_below(&path, found)?;
        } else if let Some(name) = path.file_name().and_then(|name| name.to_str())
            && let Some((name, "" | ".xz" | ".gz" | ".zst")) = name.split_once(".ko")
        {
            // The kernel writes both as one.
            found.insert(name.replace('-', "_"), path.clone());
        }
    }
    Ok(())
}

/// A module as it is in memory, unpacked by the guest's busybox.
fn module(guest: &Path, path: &Path) -> Result<Vec<u8>, String> {
    let by = match path.extension().and_then(|extension| extension.to_str()) {
        Some("ko") => return fs::read(path).map_err(|error| failed(path, &error)),
        Some("xz") => "xz",
        Some("gz") => "gzip",
        _ => {
            let path = path.display();
            return Err(format!("{path}: unpack it: only .xz and .gz are read here"));
        }
    };
    let mut unpack = Command::new(guest.join("usr/bin/busybox"));
    unpack.args([by, "-dc"]).arg(path);
    let output = unpack
        .output()
        .map_err(|error| process::not_started(&unpack, &error))?;
    match output.status.success() {
        true => Ok(output.stdout),
        false => Err(format!("{}: cannot be unpacked", path.display())),
    }
}

/// The modules that one names in its section `.modinfo`: `depends=a,b`, between zero bytes.
fn needs(module: &[u8]) -> Vec<String> {
    let mark = b"\0depends=";
    let Some(at) = module.windows(mark.len()).position(|window| window == mark) else {
        return Vec::new();
    };
    let rest = &module[at + mark.len()..];
    let end = rest.iter().position(|&byte| byte == 0).unwrap_or(0);
    String::from_utf8_lossy(&rest[..end])
        .split(',')
        .filter(|name| !name.is_empty())
        .map(|name| name.replace('-', "_"))
        .collect()
}

/// `modules.dep`: each with all that must be there before, the nearest first.
fn dependencies(lines: &BTreeMap<String, Vec<String>>) -> String {
    fn collect<'a>(
        name: &'a str,
        lines: &'a BTreeMap<String, Vec<String>>,
        order: &mut Vec<&'a str>,
        seen: &mut BTreeSet<&'a str>,
    ) {
        for need in lines.get(name).into_iter().flatten() {
            if lines.contains_key(need) && seen.insert(need) {
                collect(need, lines, order, seen);
                order.push(need);
            }
        }
    }
    let mut text = String::new();
    for name in lines.keys() {
        let mut order = Vec::new();
        collect(name, lines, &mut order, &mut BTreeSet::new());
        text.push_str(&format!("{name}.ko:"));
        for need in order.iter().rev() {
            text.push_str(&format!(" {need}.ko"));
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_say_what_they_need() {
        let module = b"\x7fELF..\0license=GPL\0depends=ib_uverbs,mana,ib-core\0name=mana_ib\0";
        assert_eq!(needs(module), ["ib_uverbs", "mana", "ib_core"]);
        assert!(needs(b"\0depends=\0name=mana\0").is_empty());
        assert!(needs(b"nothing").is_empty());
    }

    #[test]
    fn what_is_needed_stands_before_what_needs_it() {
        let lines: BTreeMap<String, Vec<String>> = [
            ("mana_ib", vec!["ib_uverbs", "mana", "ib_core"]),
            ("ib_uverbs", vec!["ib_core", "builtin"]),
            ("ib_core", vec![]),
            ("mana", vec![]),
        ]
        .map(|(name, needs)| {
            (
                name.to_owned(),
                needs.iter().map(ToString::to_string).collect(),
            )
        })
        .into();
        let text = dependencies(&lines);
        assert!(text.contains("ib_uverbs.ko: ib_core.ko\n"), "{text}");
        assert!(
            text.contains("mana_ib.ko: mana.ko ib_uverbs.ko ib_core.ko\n"),
            "{text}"
        );
        assert!(text.contains("mana.ko:\n"), "{text}");
    }
}
