//! Hugepages and the limits on memory.

use crate::doctor::machine::Machine;
use crate::doctor::report::Check;
use crate::doctor::tree::Seen;

/// `CAP_IPC_LOCK`.
const IPC_LOCK: u32 = 14;
/// Locked memory that a default testpmd run pins: pool and rings, in bytes.
const PINNED: u64 = 512 << 20;

/// Are hugepages reserved, and are some free?
pub fn hugepages(machine: &Machine) -> Check {
    let name = "hugepages";
    let why = "without free hugepages the driver takes 4 KiB pages, which is slower, and DPDK does \
               not start (`No free 2048 kB hugepages`)";
    let fix = "mana setup --hugepages=1024, or: echo 1024 | sudo tee \
               /sys/devices/system/node/node*/hugepages/hugepages-2048kB/nr_hugepages";
    let tree = &machine.tree;
    let nodes: Vec<String> = tree
        .list("/sys/devices/system/node")
        .ok()
        .unwrap_or_default()
        .into_iter()
        .filter(|name| {
            name.strip_prefix("node")
                .is_some_and(|it| it.parse::<u32>().is_ok())
        })
        .collect();
    let mut places: Vec<(String, String)> = nodes
        .iter()
        .map(|node| {
            (
                node.clone(),
                format!("/sys/devices/system/node/{node}/hugepages"),
            )
        })
        .collect();
    if places.is_empty() {
        places.push((
            "this machine".to_owned(),
            "/sys/kernel/mm/hugepages".to_owned(),
        ));
    }
    let mut seen = Vec::new();
    let (mut reserved, mut free_in_all) = (0, 0);
    for (place, folder) in places {
        let sizes = match tree.list(&folder) {
            Seen::Is(sizes) => sizes,
            Seen::Absent => continue,
            Seen::Unclear(reason) => return Check::unknown(name, reason, why),
        };
        for size in sizes {
            let Some(label) = size.strip_prefix("hugepages-") else {
                continue;
            };
            let number = |file: &str| tree.number::<u64>(&format!("{folder}/{size}/{file}"));
            let (total, free) = (number("nr_hugepages"), number("free_hugepages"));
            let (Seen::Is(total), Seen::Is(free)) = (&total, &free) else {
                if let Seen::Unclear(reason) = total {
                    return Check::unknown(name, reason, why);
                }
                continue;
            };
            reserved += total;
            free_in_all += free;
            if *total > 0 {
                seen.push(format!("{place}: {free} of {total} of {label} free"));
            }
        }
    }
    if seen.is_empty() && !tree.exists("/sys/kernel/mm/hugepages") {
        let seen = "the kernel has no hugepages, or /sys is not there";
        return Check::unknown(name, seen, why);
    }
    match (reserved, free_in_all) {
        (0, _) => Check::warning(name, "none reserved", why).mended_by(fix),
        (_, 0) => Check::warning(name, format!("{}: none free", seen.join(", ")), why).mended_by(
            "sudo grep -l hugepages /proc/*/smaps shows who has them; reserve more: \
             mana setup --hugepages=1024",
        ),
        _ => Check::ok(name, seen.join(", ")),
    }
}

/// Is hugetlbfs mounted? This driver does without, DPDK does not.
pub fn hugetlb_mount(machine: &Machine) -> Check {
    let name = "hugetlb-mount";
    let why = "DPDK takes its hugepages from a mounted hugetlbfs; this driver does without";
    let mounts = match machine.tree.read("/proc/self/mounts") {
        Seen::Is(text) => text,
        _ => match machine.tree.read("/proc/mounts") {
            Seen::Is(text) => text,
            Seen::Absent => return Check::unknown(name, "/proc/mounts is not there", why),
            Seen::Unclear(reason) => return Check::unknown(name, reason, why),
        },
    };
    let places: Vec<&str> = mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ');
            let place = fields.nth(1)?;
            (fields.next()? == "hugetlbfs").then_some(place)
        })
        .collect();
    match places.is_empty() {
        true => Check::warning(name, "hugetlbfs is not mounted", why).mended_by(
            "sudo mkdir -p /dev/hugepages && sudo mount -t hugetlbfs hugetlbfs /dev/hugepages",
        ),
        false => Check::ok(name, places.join(", ")),
    }
}

/// Does a cgroup limit hugepages?
pub fn hugetlb_cgroup(machine: &Machine) -> Check {
    let name = "hugetlb-cgroup";
    let why = "hugepages beyond this limit fail with ENOMEM although pages are free";
    let groups = match machine.tree.read("/proc/self/cgroup") {
        Seen::Is(text) => text,
        Seen::Absent => return Check::unknown(name, "/proc/self/cgroup is not there", why),
        Seen::Unclear(reason) => return Check::unknown(name, reason, why),
    };
    let mut limits = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (fields.next(), fields.next()) else {
            continue;
        };
        let (base, file) = match controllers {
            "" => ("/sys/fs/cgroup".to_owned(), "max"),
            _ if controllers.split(',').any(|it| it == "hugetlb") => {
                (format!("/sys/fs/cgroup/{controllers}"), "limit_in_bytes")
            }
            _ => continue,
        };
        // The limit of every group above counts, too; in a container only its own is in sight.
        let mut group = group.trim_end_matches('/').to_owned();
        loop {
            for size in ["2MB", "1GB"] {
                let path = format!("{base}{group}/hugetlb.{size}.{file}");
                if let Seen::Is(limit) = machine.tree.number::<u64>(&path)
                    // Unlimited is the largest multiple of a page that fits.
                    && limit < 1 << 62
                {
                    limits.push((path, limit));
                }
            }
            let Some((above, _)) = group.rsplit_once('/') else {
                break;
            };
            group = above.to_owned();
        }
    }
    let Some((path, limit)) = limits.iter().min_by_key(|it| it.1) else {
        return Check::ok(name, "no limit on hugepages");
    };
    let seen = format!("{path} is {} MiB", limit >> 20);
    match *limit < PINNED {
        true => Check::warning(name, seen, why).mended_by(
            "Kubernetes: request hugepages-2Mi for the container; docker: run it with --privileged \
             or raise the limit; systemd: move the program out of the limited slice",
        ),
        false => Check::ok(name, seen),
    }
}

/// What of transparent huge pages, on which the driver falls back?
pub fn thp(machine: &Machine) -> Check {
    let name = "thp";
    let why = "with reserved hugepages this does not matter; without, they are the next best";
    let path = "/sys/kernel/mm/transparent_hugepage/enabled";
    let text = match machine.tree.read(path) {
        Seen::Is(text) => text,
        Seen::Absent => return Check::ok(name, "the kernel has none"),
        Seen::Unclear(reason) => return Check::unknown(name, reason, why),
    };
    let chosen = text
        .split_whitespace()
        .find_map(|word| word.strip_prefix('[')?.strip_suffix(']'));
    match chosen {
        Some("never") => {
            Check::warning(name, "never", why).mended_by(format!("echo madvise | sudo tee {path}"))
        }
        Some(mode) => Check::ok(name, mode),
        None => Check::unknown(name, format!("{path} reads {text:?}"), why),
    }
}

/// May memory be pinned?
pub fn memlock(machine: &Machine) -> Check {
    let name = "memlock";
    let why = "registering a pool pins it; beyond this limit that fails with ENOMEM";
    let limits = match machine.tree.read("/proc/self/limits") {
        Seen::Is(text) => text,
        Seen::Absent => return Check::unknown(name, "/proc/self/limits is not there", why),
        Seen::Unclear(reason) => return Check::unknown(name, reason, why),
    };
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max locked memory"));
    let Some(soft) = line.and_then(|line| line.split_whitespace().next()) else {
        return Check::unknown(name, "/proc/self/limits has no `Max locked memory`", why);
    };
    if super::process::has_capability(machine, IPC_LOCK) == Some(true) {
        return Check::ok(
            name,
            format!("{soft} bytes, which does not bind: CAP_IPC_LOCK"),
        );
    }
    match soft.parse::<u64>() {
        _ if soft == "unlimited" => Check::ok(name, soft),
        Ok(bytes) if bytes >= PINNED => Check::ok(name, format!("{} MiB", bytes >> 20)),
        Ok(bytes) => Check::warning(name, format!("{} KiB", bytes >> 10), why).mended_by(
            "mana setup --user=$USER and log in again, or: ulimit -l unlimited (as root)",
        ),
        Err(_) => Check::unknown(name, format!("/proc/self/limits reads {soft:?}"), why),
    }
}
