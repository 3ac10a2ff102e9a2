//! Why huge pages were refused: the kernel's pools, the control groups, the switch of THP.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::MemoryError;
use crate::page::HUGE_2M;

/// The files that answer, under a root that tests replace.
#[derive(Debug)]
pub(crate) struct Machine {
    root: PathBuf,
}

impl Machine {
    /// This machine.
    pub(crate) fn here() -> Machine {
        Machine {
            root: PathBuf::from("/"),
        }
    }

    /// The cause of `source`, with which the kernel has refused `len` bytes of hugetlb pages of
    /// `page` bytes on `node`.
    ///
    /// # Errors
    /// `source` itself, when nothing here explains it.
    pub(crate) fn explain_hugetlb(
        &self,
        len: usize,
        page: usize,
        node: Option<u32>,
        source: io::Error,
    ) -> Result<MemoryError, io::Error> {
        let page_kib = page >> 10;
        let pool = self.pool(page_kib, node);
        let Some(total) = number(&pool.join("nr_hugepages")) else {
            return Ok(MemoryError::HugepagesUnsupported { page_kib, source });
        };
        // Pages promised to a mapping that has not touched them yet count as free in that file.
        let free = number(&pool.join("free_hugepages"))
            .unwrap_or(0)
            .saturating_sub(number(&pool.join("resv_hugepages")).unwrap_or(0));
        let needed = (len / page) as u64;
        if free < needed {
            let file = pool.join("nr_hugepages").display().to_string();
            return Ok(MemoryError::NoFreeHugepages {
                page_kib,
                needed,
                free,
                total,
                node,
                file,
                source,
            });
        }
        match self.exceeded_limit(page, len as u64) {
            Some((file, used, limit)) => Ok(MemoryError::CgroupLimit {
                needed: len as u64,
                used,
                limit,
                file: file.display().to_string(),
                source,
            }),
            None => Err(source),
        }
    }

    /// Why transparent huge pages of 2 MiB are out of the question, if they are.
    pub(crate) fn transparent_off(&self) -> Option<MemoryError> {
        let folder = self.root.join("sys/kernel/mm/transparent_hugepage");
        let switch = folder.join("enabled");
        let enabled = fs::read_to_string(&switch).unwrap_or_default();
        let size = number(&folder.join("hpage_pmd_size"));
        if enabled.is_empty() || size.is_some_and(|size| size != HUGE_2M as u64) {
            let page_kib = HUGE_2M >> 10;
            return Some(MemoryError::TransparentHugeUnsupported { page_kib });
        }
        let file = switch.display().to_string();
        enabled
            .contains("[never]")
            .then_some(MemoryError::TransparentHugeOff { file })
    }

    fn pool(&self, page_kib: usize, node: Option<u32>) -> PathBuf {
        let pools = match node {
            Some(node) => format!("sys/devices/system/node/node{node}/hugepages"),
            None => "sys/kernel/mm/hugepages".to_owned(),
        };
        self.root
            .join(pools)
            .join(format!("hugepages-{page_kib}kB"))
    }

    /// The first limit, from this process's control group upwards, that leaves less than `needed`
    /// bytes: its file, the bytes used, the limit.
    fn exceeded_limit(&self, page: usize, needed: u64) -> Option<(PathBuf, u64, u64)> {
        let size = if page == HUGE_2M { "2MB" } else { "1GB" };
        // cgroup 2, then cgroup 1; `rsvd` limits what is mapped, the other what is touched.
        let files = [
            ("rsvd.max", "rsvd.current"),
            ("max", "current"),
            ("rsvd.limit_in_bytes", "rsvd.usage_in_bytes"),
            ("limit_in_bytes", "usage_in_bytes"),
        ];
        for folder in self.groups() {
            for (limit, used) in files {
                let file = folder.join(format!("hugetlb.{size}.{limit}"));
                // `max`, which is no number, is no limit.
                let Some(limit) = number(&file) else { continue };
                let used = number(&folder.join(format!("hugetlb.{size}.{used}"))).unwrap_or(0);
                if used.saturating_add(needed) > limit {
                    return Some((file, used, limit));
                }
            }
        }
        None
    }

    /// Folders of this process's control groups that may limit hugetlb, the innermost first.
    fn groups(&self) -> Vec<PathBuf> {
        let own = fs::read_to_string(self.root.join("proc/self/cgroup")).unwrap_or_default();
        let mut folders = Vec::new();
        for line in own.lines() {
            let mut fields = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
                continue;
            };
            let mounts: &[&str] = match controllers {
                "" => &["sys/fs/cgroup", "sys/fs/cgroup/unified"],
                list if list.split(',').any(|name| name == "hugetlb") => &["sys/fs/cgroup/hugetlb"],
                _ => continue,
            };
            for mount in mounts {
                for group in Path::new(path.trim_start_matches('/')).ancestors() {
                    folders.push(self.root.join(mount).join(group));
                }
            }
        }
        folders
    }
}

fn number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::HUGE_1G;

    /// A machine made of files.
    struct Fake(tempfile::TempDir);

    impl Fake {
        fn with(files: &[(&str, &str)]) -> (Fake, Machine) {
            let fake = Fake(tempfile::tempdir().unwrap());
            for (path, content) in files {
                let path = fake.0.path().join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, content).unwrap();
            }
            let machine = Machine {
                root: fake.0.path().to_owned(),
            };
            (fake, machine)
        }
    }

    fn refused(machine: &Machine, len: usize, page: usize, node: Option<u32>) -> String {
        let source = io::Error::from_raw_os_error(libc::ENOMEM);
        match machine.explain_hugetlb(len, page, node, source) {
            Ok(error) => error.to_string(),
            Err(source) => format!("unexplained: {source}"),
        }
    }

    const POOL: &str = "sys/kernel/mm/hugepages/hugepages-2048kB";

    #[test]
    fn too_few_free_pages_are_counted_and_the_command_reserves_enough() {
        let (_fake, machine) = Fake::with(&[
            (&format!("{POOL}/nr_hugepages"), "8\n"),
            (&format!("{POOL}/free_hugepages"), "5\n"),
            (&format!("{POOL}/resv_hugepages"), "2\n"),
        ]);
        let text = refused(&machine, 4 * HUGE_2M, HUGE_2M, None);
        assert!(
            text.contains("(3 of 8 free, 4 of 2048 KiB needed)"),
            "{text}"
        );
        assert!(
            text.contains("echo 9 | sudo tee"),
            "one page more than now: {text}"
        );
        assert!(text.contains(&format!("{POOL}/nr_hugepages")), "{text}");
    }

    #[test]
    fn a_bound_region_is_counted_on_its_node() {
        let node = "sys/devices/system/node/node1/hugepages/hugepages-2048kB";
        let (_fake, machine) = Fake::with(&[
            (&format!("{POOL}/nr_hugepages"), "64"),
            (&format!("{POOL}/free_hugepages"), "64"),
            (&format!("{node}/nr_hugepages"), "0"),
            (&format!("{node}/free_hugepages"), "0"),
        ]);
        let text = refused(&machine, HUGE_2M, HUGE_2M, Some(1));
        assert!(text.contains("0 of 0 free on node 1"), "{text}");
        assert!(text.contains(node), "{text}");
    }

    #[test]
    fn a_page_size_the_kernel_lacks_is_named() {
        let (_fake, machine) = Fake::with(&[(&format!("{POOL}/nr_hugepages"), "64")]);
        let text = refused(&machine, HUGE_1G, HUGE_1G, None);
        assert!(text.contains("no hugetlb pages of 1048576 KiB"), "{text}");
    }

    #[test]
    fn a_control_group_limit_is_found_in_the_group_or_above_it() {
        let pool = [
            (format!("{POOL}/nr_hugepages"), "64"),
            (format!("{POOL}/free_hugepages"), "64"),
        ];
        let pool = pool
            .each_ref()
            .map(|(path, content)| (path.as_str(), *content));
        for (own, file, used) in [
            (
                "0::/pods/mana\n",
                "sys/fs/cgroup/pods/hugetlb.2MB.max",
                "current",
            ),
            (
                "0::/\n",
                "sys/fs/cgroup/hugetlb.2MB.rsvd.max",
                "rsvd.current",
            ),
            (
                "5:cpu:/\n4:hugetlb:/x\n",
                "sys/fs/cgroup/hugetlb/x/hugetlb.2MB.limit_in_bytes",
                "usage_in_bytes",
            ),
        ] {
            let (folder, _) = file.rsplit_once('/').unwrap();
            let used = format!("{folder}/hugetlb.2MB.{used}");
            let mut files = pool.to_vec();
            files.extend([
                ("proc/self/cgroup", own),
                (file, "4194304\n"),
                (&used, "2097152\n"),
            ]);
            let (_fake, machine) = Fake::with(&files);
            let text = refused(&machine, 2 * HUGE_2M, HUGE_2M, None);
            assert!(
                text.contains("4194304 bytes needed, 2097152 of 4194304 used"),
                "{text}"
            );
            assert!(text.contains(file), "{text}");
            let text = refused(&machine, HUGE_2M, HUGE_2M, None);
            assert!(text.starts_with("unexplained"), "one page fits: {text}");
        }
    }

    #[test]
    fn a_group_without_limit_explains_nothing() {
        let (_fake, machine) = Fake::with(&[
            (&format!("{POOL}/nr_hugepages"), "64"),
            (&format!("{POOL}/free_hugepages"), "64"),
            ("proc/self/cgroup", "0::/a\n"),
            ("sys/fs/cgroup/a/hugetlb.2MB.max", "max\n"),
        ]);
        let text = refused(&machine, HUGE_2M, HUGE_2M, None);
        assert!(text.starts_with("unexplained"), "{text}");
    }

    #[test]
    fn transparent_huge_pages_are_off_by_switch_by_size_or_by_absence() {
        let enabled = "sys/kernel/mm/transparent_hugepage/enabled";
        let size = "sys/kernel/mm/transparent_hugepage/hpage_pmd_size";
        let off = |files: &[(&str, &str)]| {
            let (_fake, machine) = Fake::with(files);
            machine.transparent_off().map(|error| error.to_string())
        };
        assert_eq!(
            off(&[(enabled, "always [madvise] never"), (size, "2097152\n")]),
            None
        );
        assert_eq!(off(&[(enabled, "[always] madvise never")]), None);
        let never = off(&[(enabled, "always madvise [never]"), (size, "2097152")]).unwrap();
        assert!(never.contains("echo madvise | sudo tee"), "{never}");
        let large = off(&[(enabled, "[always] madvise never"), (size, "536870912")]).unwrap();
        assert!(
            large.contains("no transparent huge pages of 2048 KiB"),
            "{large}"
        );
        assert_eq!(off(&[]).as_deref(), Some(large.as_str()));
    }
}
