//! Why memory could not be had, and what mends it.

use std::io;

/// Why a region could not be allocated or registered. The text of each names the remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MemoryError {
    /// A region of no bytes, or of more than the address space holds.
    #[error("region `{name}`: {len} bytes is no possible length")]
    Length {
        /// Name of the region.
        name: String,
        /// Bytes asked for.
        len: usize,
    },
    /// The pool of hugetlb pages does not hold enough free ones.
    #[error(
        "no free hugepages ({free} of {total} free{}, {needed} of {page_kib} KiB needed); \
         reserve: echo {} | sudo tee {file}",
        on_node(.node), .total + .needed.saturating_sub(*.free)
    )]
    NoFreeHugepages {
        /// Size of one page in KiB.
        page_kib: usize,
        /// Pages the region needs.
        needed: u64,
        /// Pages free and not promised to somebody else.
        free: u64,
        /// Pages reserved on this machine (on the node, where one is given).
        total: u64,
        /// The node the region is bound to, if any.
        node: Option<u32>,
        /// The file that sets the number of reserved pages.
        file: String,
        /// The system's own error.
        source: io::Error,
    },
    /// The kernel has no hugetlb pages of this size.
    #[error(
        "this kernel has no hugetlb pages of {page_kib} KiB; \
         boot with hugepagesz=, or use another page size or --no-huge"
    )]
    HugepagesUnsupported {
        /// Size of one page in KiB.
        page_kib: usize,
        /// The system's own error.
        source: io::Error,
    },
    /// A control group allows fewer bytes of hugetlb pages than the region needs.
    #[error(
        "the control group's hugetlb limit: {needed} bytes needed, {used} of {limit} used; \
         raise {file} (in Kubernetes: request hugepages-2Mi or hugepages-1Gi)"
    )]
    CgroupLimit {
        /// Bytes the region needs.
        needed: u64,
        /// Bytes in use in that group.
        used: u64,
        /// The limit in bytes.
        limit: u64,
        /// The file that holds the limit.
        file: String,
        /// The system's own error.
        source: io::Error,
    },
    /// The kernel has no transparent huge pages of this size.
    #[error("this kernel has no transparent huge pages of {page_kib} KiB; reserve hugetlb pages")]
    TransparentHugeUnsupported {
        /// Size of one page in KiB.
        page_kib: usize,
    },
    /// Transparent huge pages are switched off.
    #[error("switched off; switch on: echo madvise | sudo tee {file}")]
    TransparentHugeOff {
        /// The file that switches them.
        file: String,
    },
    /// RLIMIT_MEMLOCK allows fewer bytes to be locked or registered than are needed.
    #[error(
        "RLIMIT_MEMLOCK: {needed} bytes to be pinned besides {pinned}, the limit is {limit}; \
         raise it: ulimit -l unlimited (or LimitMEMLOCK=infinity of the service, or CAP_IPC_LOCK)"
    )]
    MemlockLimit {
        /// Bytes to be pinned.
        needed: u64,
        /// Bytes this process has pinned or locked already.
        pinned: u64,
        /// The soft limit in bytes.
        limit: u64,
    },
    /// The process may not do this.
    #[error(
        "region `{name}`: {operation} is not permitted ({source}); \
         run as root, or lift the seccomp or LSM rule that forbids it"
    )]
    Permission {
        /// Name of the region.
        name: String,
        /// The system call.
        operation: &'static str,
        /// The system's own error.
        source: io::Error,
    },
    /// The NUMA node asked for is not online on this machine.
    #[error(
        "NUMA node {node} is not online; online are: {online} (/sys/devices/system/node/online)"
    )]
    NodeMissing {
        /// The node asked for.
        node: u32,
        /// The kernel's list of online nodes.
        online: String,
    },
    /// Any other failure of a system call.
    #[error("region `{name}`: {operation} of {len} bytes failed: {source}")]
    System {
        /// Name of the region.
        name: String,
        /// The system call.
        operation: &'static str,
        /// Bytes asked for.
        len: usize,
        /// The system's own error.
        source: io::Error,
    },
}

fn on_node(node: &Option<u32>) -> String {
    node.map(|node| format!(" on node {node}"))
        .unwrap_or_default()
}
