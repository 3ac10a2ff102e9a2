//! What there is to explain. The guide is Microsoft's article "Microsoft Azure Network Adapter
//! (MANA) and DPDK on Linux".

/// One thing that goes wrong.
pub struct Topic {
    /// Its stable name; for a check the check's.
    pub name: &'static str,
    /// In a few words.
    pub title: &'static str,
    pub cause: &'static str,
    pub fix: &'static str,
    /// Where this is known from.
    pub source: &'static str,
    /// By what its lines in logs are known: all parts of one of these. The first topic with a match
    /// has the line.
    pub signs: &'static [&'static [&'static str]],
}

const GUIDE: &str = "the guide's table of errors";

/// Every topic; those with the more particular signs first.
pub const TOPICS: &[Topic] = &[
    Topic {
        name: "capabilities",
        title: "no right to make raw packet queues",
        cause: "the kernel creates raw packet queue pairs only for processes with CAP_NET_RAW (EPERM, -1)",
        fix: "run the program with sudo, or `sudo setcap cap_net_raw+ep PROGRAM`; in a container \
              --cap-add=NET_RAW --cap-add=IPC_LOCK",
        source: "mana_ib of Linux: create_qp asks for the capability",
        signs: &[
            &["failed to start tx queues -1\n"],
            &["create send queue", "EPERM"],
        ],
    },
    Topic {
        name: "descriptors",
        title: "a completion queue is refused as too large (-22)",
        cause: "rdma-core before 49 makes queues of at most 256 entries, and some kernels fewer than \
                DPDK's default of 1024; the kernel or libmana answers EINVAL",
        fix: "--rxd=128 --txd=128 (up to 256), rdma-core 49 or later, or provider=uverbs",
        source: "reports of users; rdma-core's history between releases 44 and 49",
        signs: &[
            &["ailed to create cq"],
            &["ibv_create_cq", "-22"],
            &["ibv_create_cq", "nvalid argument"],
            &["failed to start", "queues -22"],
        ],
    },
    Topic {
        name: "netdev-down",
        title: "the kernel owns the port",
        cause: "the MANA interface, or the synthetic interface of the same MAC above it, is UP; the \
                device accepts one owner a port, so the kernel refuses queues with ENODEV (-19, Linux \
                6.12) or EBUSY (-16, 7.3)",
        fix: "set both down, the synthetic one first: `sudo ip link set dev eth1 down && sudo ip link \
              set dev enP… down`, or `sudo mana setup --port MAC`; never the interface you are logged \
              in by",
        source: GUIDE,
        signs: &[
            &["Failed to create qp queue index"],
            &["failed to start tx queues -19"],
            &["failed to start tx queues -16"],
            &["its netdev", "is UP"],
            &["create send queue", "ENODEV"],
            &["create send queue", "EBUSY"],
        ],
    },
    Topic {
        name: "hugepages",
        title: "no hugepages",
        cause: "none are reserved, none are free, or hugetlbfs is not mounted or not writable for this \
                user; DPDK then does not start, this driver takes 4 KiB pages and says so",
        fix: "`sudo mana setup --hugepages=1024`, or `echo 1024 | sudo tee \
              /sys/devices/system/node/node*/hugepages/hugepages-2048kB/nr_hugepages`; look at \
              `grep Huge /proc/meminfo`",
        source: GUIDE,
        signs: &[
            &["No free ", "hugepages reported"],
            &["No available ", "hugepages reported"],
            &["Cannot get hugepage information"],
            &["Cannot init EAL: Permission denied"],
            &["get_num_hugepages", "No free"],
        ],
    },
    Topic {
        name: "driver-id",
        title: "kernel and rdma-core number the driver differently",
        cause: "libibverbs finds a device's library by the kernel's driver id. Azure's 5.15 gives MANA \
                19, which is erdma in rdma-core; so libibverbs opens the device with erdma, which has no \
                parent domain (-12)",
        fix: "update the kernel (Ubuntu: `sudo apt install linux-azure && sudo reboot`) or use \
              provider=uverbs, which takes any number",
        source: GUIDE,
        signs: &[
            &["ibv_alloc_parent_domain failed"],
            &["Probe on IB port", "failed -12"],
            &["the kernel's driver id is"],
            &["opened it with", "not with libmana"],
        ],
    },
    Topic {
        name: "slow-path",
        title: "traffic takes the synthetic path",
        cause: "the VF's port was not probed or not found, so that netvsc carries all packets: about a \
                million a second at best",
        fix: "probe the MANA port itself: -a BDF,mac=MAC; look for errors of the mana driver before it",
        source: "reports of users; Microsoft's LISA takes 1.2 million packets a second as the limit",
        signs: &[
            &["Couldn't find port for VF"],
            &["hn_vf_add", "failed"],
            &["Data path switched from VF"],
        ],
    },
    Topic {
        name: "firmware",
        title: "the device refuses the kernel's driver",
        cause: "the guest's kernel is too old for the host's firmware (or the host is being serviced); \
                the VM falls back silently to the synthetic path",
        fix: "update the kernel; stop and deallocate the VM, then start it, so that it moves to another \
              host",
        source: "reports of users of 2026",
        signs: &[
            &["HWC: Failed hw_channel req"],
            &["gdma probe failed"],
            &["HWC: Request timed out"],
        ],
    },
    Topic {
        name: "queue-counts",
        title: "the C driver refuses the numbers of queues",
        cause: "DPDK's MANA driver wants as many receive as transmit queues, a power of two of each",
        fix: "--rxq and --txq the same power of two; this driver needs it of receive queues only, \
              because the kernel's indirection table does",
        source: "DPDK's drivers/net/mana",
        signs: &[
            &["number of TX/RX queues must be power of 2"],
            &["Only support equal number of rx/tx queues"],
            &["receive queues: the number must be a power of two"],
        ],
    },
    Topic {
        name: "promiscuous",
        title: "promiscuous mode is refused",
        cause: "the device has none for VFs; testpmd asks for it at every start and goes on without",
        fix: "nothing: the message is harmless",
        source: "DPDK's documentation of net/mana",
        signs: &[
            &["promiscuous mode", "not supported"],
            &["romiscuous", "Operation not supported"],
        ],
    },
    Topic {
        name: "mr-protocol-error",
        title: "memory can't be registered (EPROTO, -71)",
        cause: "the device refused the registration; seen with Ubuntu 22.04's 5.15 kernel",
        fix: "update the kernel to 6.2 or later",
        source: "reports of users",
        signs: &[
            &["ibv_reg_mr", "Protocol error"],
            &["ibv_reg_mr", "EPROTO"],
            &["register memory", "EPROTO"],
        ],
    },
    Topic {
        name: "memlock",
        title: "memory can't be pinned",
        cause: "registering a pool pins its pages; without CAP_IPC_LOCK no more than RLIMIT_MEMLOCK \
                (ENOMEM, -12)",
        fix: "`sudo mana setup --user=$USER` and log in again, `ulimit -l unlimited` as root, systemd's \
              LimitMEMLOCK=infinity, or --cap-add=IPC_LOCK",
        source: "mmap and ib_umem of Linux",
        signs: &[
            &["ibv_reg_mr", "Cannot allocate memory"],
            &["RLIMIT_MEMLOCK"],
            &["register memory", "ENOMEM"],
        ],
    },
    Topic {
        name: "rdma-core",
        title: "libibverbs and libmana do not serve",
        cause: "they are missing, older than 44 (the release that brought libmana) or 49 (rings above 256 \
                entries), or mixed from several releases",
        fix: "install both from one release (`sudo apt install libibverbs1 ibverbs-providers`, `sudo dnf \
              install libibverbs`), remove copies in /usr/local and LD_LIBRARY_PATH, or choose \
              provider=uverbs, which needs neither",
        source: "the guide's requirements; rdma-core's history",
        signs: &[
            &["MLX5_1.", "not found"],
            &["IBVERBS_PRIVATE_", "not found"],
            &["libmana.so.1", "cannot open shared object"],
            &["libibverbs.so.1", "cannot open shared object"],
            &["couldn't load driver", "mana"],
            &["can't be loaded", "so.1"],
        ],
    },
    Topic {
        name: "dpdk-vdevs",
        title: "failsafe or vdev_netvsc take the port",
        cause: "net_vdev_netvsc and net_failsafe put themselves before the MANA port, and drop packets \
                when the VF comes and goes",
        fix: "start DPDK with -a BDF,mac=MAC (or --vdev of the same text), leave iface= out",
        source: GUIDE,
        signs: &[&["net_vdev_netvsc"], &["vdev_netvsc"], &["net_failsafe"]],
    },
    Topic {
        name: "vpp-pci-device",
        title: "VPP does not know the device",
        cause: "VPP's dpdk plugin has a list of PCI devices, in which 1414:00ba is missing",
        fix: "give the device in VPP's startup.conf as a vdev with mac=, or add the id to the plugin",
        source: "reports of users of VPP on AKS",
        signs: &[&["Unsupported PCI device", "1414"]],
    },
    Topic {
        name: "vpp-xstats",
        title: "VPP crashes on the port's extended statistics",
        cause: "DPDK's MANA driver has none of its own, and the number of the generic ones changes at \
                start: VPP does not expect that",
        fix: "a newer VPP, or a DPDK whose driver has them: the crash is in VPP's dpdk plugin",
        source: "reports of users of VPP on AKS",
        signs: &[&["rte_eth_xstats_get", "returned"]],
    },
    Topic {
        name: "pmd-not-built",
        title: "DPDK was built without its MANA driver",
        cause: "meson leaves net/mana out, in one line of many, where the headers of libibverbs and \
                libmana are missing",
        fix: "`sudo apt install libibverbs-dev` (rdma-core 44 or later), then build DPDK from an empty \
              folder; or use the distribution's DPDK with its librte-net-mana package",
        source: "reports of users; DPDK's drivers/net/mana/meson.build",
        signs: &[
            &["net/mana:", "missing dependency"],
            &["Dependency libmana", "NO"],
        ],
    },
    Topic {
        name: "ib-device",
        title: "no ib device",
        cause: "mana_ib is not loaded, not installed, or refused the device",
        fix: "`sudo modprobe mana_ib`; on Ubuntu `sudo apt install linux-modules-extra-$(uname -r)`; \
              kernels without CONFIG_MANA_INFINIBAND can't be used",
        source: "the guide's requirements; reports of users",
        signs: &[
            &["no MANA device"],
            &["MANA_DRIVER", "No IB device"],
            &["No IB devices found"],
            &["ib_register_device failed"],
        ],
    },
    Topic {
        name: "modules",
        title: "kernel modules are missing",
        cause: "mana makes the netdev, mana_ib the ib device, ib_uverbs the node that is opened; \
                distributions put the last two into a package of their own",
        fix: "`sudo modprobe -a mana mana_ib ib_uverbs`, after installing linux-modules-extra (Ubuntu) \
              or kernel-modules-extra (Fedora, RHEL); Debian 12's own 6.1 has no mana_ib",
        source: "the guide's requirements",
        signs: &[
            &["Module mana_ib not found"],
            &["Module ib_uverbs not found"],
            &["Module mana not found"],
        ],
    },
    Topic {
        name: "uverbs-node",
        title: "the node in /dev/infiniband can't be opened",
        cause: "it is not there (ib_uverbs not loaded, a container without the device) or this user may \
                not open it (EACCES), or a cgroup forbids the device (EPERM)",
        fix: "`sudo modprobe ib_uverbs`; `sudo mana setup --user=$USER`; in a container \
              --device=/dev/infiniband",
        source: "ib_uverbs of Linux",
        signs: &[
            &["/dev/infiniband", "ermission denied"],
            &["/dev/infiniband", "EACCES"],
            &["/dev/infiniband", "EPERM"],
            &["Failed to open IB device"],
        ],
    },
    Topic {
        name: "hugetlb-cgroup",
        title: "a cgroup limits hugepages",
        cause: "mmap of hugepages fails with ENOMEM (or SIGBUS on access) although pages are free, \
                because the container's hugetlb limit is reached",
        fix: "Kubernetes: request `hugepages-2Mi`; docker: raise the limit or --privileged",
        source: "reports of users on AKS",
        signs: &[
            &["hugepage", "Cannot allocate memory"],
            &["SIGBUS", "hugepage"],
        ],
    },
    Topic {
        name: "mtu",
        title: "an MTU that does not fit",
        cause: "the adapter has a limit of its own, and receive buffers must hold a whole packet unless \
                packets may be scattered",
        fix: "an MTU of at most the adapter's; --mbuf-size of MTU + 146 bytes, or --enable-scatter",
        source: "the driver's own checks",
        signs: &[
            &["MTU", "must be"],
            &["an MTU of"],
            &["the MTU of", "allows"],
        ],
    },
    Topic {
        name: "tx-ip",
        title: "packets of txonly do not arrive",
        cause: "testpmd's default source addresses (198.18.0.0/15) are dropped by Azure's switch",
        fix: "--tx-ip=SOURCE,DESTINATION with addresses of the virtual network",
        source: "reports of users; Microsoft's own scripts",
        signs: &[&["198.18.0."]],
    },
    Topic {
        name: "device-opens",
        title: "the device does not open",
        cause: "DPDK names the device that none of its drivers took; the lines above tell why",
        fix: "`mana doctor`; in DPDK --log-level=pmd.net.mana:debug",
        source: GUIDE,
        signs: &[&["Requested device", "cannot be used"], &["can't be used:"]],
    },
    Topic {
        name: "device-users",
        title: "another process has the port",
        cause: "a port has one owner; queues are refused with ENODEV or EBUSY while it lives",
        fix: "stop it (`sudo fuser -v /dev/infiniband/*`), or choose another port with mac=",
        source: "mana_ib of Linux",
        signs: &[&["the vPort is in use"]],
    },
    Topic {
        name: "pci-device",
        title: "no MANA function",
        cause: "accelerated networking is off, the VM's size has no MANA, or the host gave it a device \
                of another maker",
        fix: "`lspci -d 1414:00ba:0200` must list one; turn accelerated networking on; after a redeploy \
              a size may come with MANA or with Mellanox",
        source: "the guide's requirements",
        signs: &[],
    },
    Topic {
        name: "kernel-driver",
        title: "the function is not bound to mana",
        cause: "the driver reaches the device through the kernel's mana; vfio or uio can't be used",
        fix: "unbind the other driver and bind mana (the check prints the commands)",
        source: "DPDK's documentation of net/mana: a bifurcated driver",
        signs: &[],
    },
    Topic {
        name: "kernel",
        title: "the kernel's release",
        cause: "the Ethernet driver came with 5.15, the InfiniBand driver with 6.2, receive interrupts \
                with 6.8, two ib devices with 6.16; some distributions port it back",
        fix: "a kernel of 6.2 or later; 6.8 for interrupts",
        source: "the guide's requirements; Linux's history",
        signs: &[],
    },
    Topic {
        name: "distribution",
        title: "the image",
        cause: "the guide names RHEL 8.9 and 9.4, Ubuntu 20.04 and 22.04 (5.15.0-1045-azure) as images \
                with the drivers ported back; all others need a kernel of 6.2 or later",
        fix: "one of these, or a newer kernel",
        source: "the guide's requirements",
        signs: &[],
    },
    Topic {
        name: "ports",
        title: "the ports of the machine",
        cause: "several ports share one PCI address; they are told apart by their MAC",
        fix: "-a BDF,mac=MAC",
        source: "the guide",
        signs: &[],
    },
    Topic {
        name: "default-route",
        title: "the interface the machine is reached by",
        cause: "a port that the driver has is lost to the kernel, and with it the login that came by it",
        fix: "a second network interface for the VM; `mana setup` refuses the first unless forced",
        source: "the guide: leave the primary interface for SSH",
        signs: &[],
    },
    Topic {
        name: "netvsc",
        title: "the synthetic channel in user mode",
        cause: "it was bound to uio_hv_generic for DPDK's netvsc driver; its interface is then gone",
        fix: "not needed for the MANA port itself; `sudo mana setup --undo`, or bind hv_netvsc again",
        source: "the guide's steps",
        signs: &[],
    },
    Topic {
        name: "hugetlb-mount",
        title: "hugetlbfs is not mounted",
        cause: "DPDK takes hugepages from files there; this driver from memfd_create, without a mount",
        fix: "`sudo mount -t hugetlbfs hugetlbfs /dev/hugepages`",
        source: "DPDK's getting started guide",
        signs: &[],
    },
    Topic {
        name: "thp",
        title: "transparent huge pages",
        cause: "where no hugepages are reserved the driver asks for these; `never` leaves 4 KiB pages",
        fix: "`echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled`, or reserve hugepages",
        source: "Linux's documentation",
        signs: &[],
    },
    Topic {
        name: "container",
        title: "running in a container",
        cause: "it needs /dev/infiniband, CAP_NET_RAW, CAP_IPC_LOCK, hugepages and the host's netdev DOWN",
        fix: "docker run --device=/dev/infiniband --cap-add=NET_RAW --cap-add=IPC_LOCK --volume=\
              /dev/hugepages:/dev/hugepages",
        source: "reports of users on AKS",
        signs: &[],
    },
    Topic {
        name: "numa",
        title: "cores far from the device",
        cause: "memory and doorbells of another node cost more",
        fix: "cores of the device's node: the check names them",
        source: "DPDK's guides",
        signs: &[],
    },
    Topic {
        name: "preload",
        title: "the device model is preloaded",
        cause: "LD_PRELOAD puts mana-model in front of the kernel; nothing reaches real devices",
        fix: "`unset LD_PRELOAD SYSFS_PATH` for the real machine",
        source: "this project",
        signs: &[],
    },
];
