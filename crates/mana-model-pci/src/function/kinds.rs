//! Which requests there are: numbers, names, and sizes by version (reference/mana-hardware.md
//! §6.5-§6.7, layouts in reference/kernel-in-a-vm.md §7).

/// A request that this device knows.
#[derive(Debug)]
pub(super) struct Kind {
    pub(super) number: u32,
    pub(super) name: &'static str,
    /// Bytes that a request of version 1, 2, … has at least; of later versions what the last one has.
    sizes: &'static [usize],
    /// The last version of its answer.
    pub(super) answers: u16,
}

impl Kind {
    /// Bytes that a request of this version has at least.
    pub(super) fn size(&self, version: u16) -> usize {
        let index = usize::from(version.max(1) - 1).min(self.sizes.len() - 1);
        self.sizes[index]
    }

    /// The kind of this number.
    pub(super) fn find(number: u32) -> Option<&'static Self> {
        KINDS.iter().find(|kind| kind.number == number)
    }
}

macro_rules! kinds {
    ($($constant:ident = $number:literal, $name:literal, $sizes:expr, $answers:literal;)*) => {
        $(pub(super) const $constant: u32 = $number;)*

        pub(super) static KINDS: &[Kind] = &[
            $(Kind { number: $number, name: $name, sizes: &$sizes, answers: $answers },)*
        ];
    };
}

kinds! {
    VERIFY_VF_DRIVER_VERSION = 0x1, "VERIFY_VF_DRIVER_VERSION", [640], 1;
    QUERY_MAX_RESOURCES = 0x2, "QUERY_MAX_RESOURCES", [40], 1;
    LIST_DEVICES = 0x3, "LIST_DEVICES", [40], 1;
    REGISTER_DEVICE = 0x4, "REGISTER_DEVICE", [40], 1;
    DEREGISTER_DEVICE = 0x5, "DEREGISTER_DEVICE", [40], 1;
    GENERATE_TEST_EQE = 0xA, "GENERATE_TEST_EQE", [44], 1;
    CREATE_QUEUE = 0xC, "CREATE_QUEUE", [96], 1;
    DISABLE_QUEUE = 0xD, "DISABLE_QUEUE", [52], 1;
    ALLOCATE_RESOURCE_RANGE = 0x16, "ALLOCATE_RESOURCE_RANGE", [56], 1;
    DESTROY_RESOURCE_RANGE = 0x18, "DESTROY_RESOURCE_RANGE", [52], 1;
    CREATE_DMA_REGION = 0x19, "CREATE_DMA_REGION", [64], 1;
    DMA_REGION_ADD_PAGES = 0x1A, "DMA_REGION_ADD_PAGES", [56], 1;
    DESTROY_DMA_REGION = 0x1B, "DESTROY_DMA_REGION", [48], 1;
    CREATE_PD = 0x1D, "CREATE_PD", [48], 1;
    DESTROY_PD = 0x1E, "DESTROY_PD", [48], 1;
    CREATE_MR = 0x1F, "CREATE_MR", [88], 1;
    DESTROY_MR = 0x20, "DESTROY_MR", [48], 1;
    QUERY_HWC_TIMEOUT = 0x54, "QUERY_HWC_TIMEOUT", [48], 1;
    ALLOC_DM = 0x60, "ALLOC_DM", [56], 1;
    DESTROY_DM = 0x61, "DESTROY_DM", [48], 1;

    QUERY_DEV_CONFIG = 0x2_0001, "MANA_QUERY_DEV_CONFIG", [88], 4;
    QUERY_GF_STAT = 0x2_0002, "MANA_QUERY_GF_STAT", [48], 1;
    CONFIG_VPORT_TX = 0x2_0003, "MANA_CONFIG_VPORT_TX", [56], 1;
    CREATE_WQ_OBJ = 0x2_0004, "MANA_CREATE_WQ_OBJ", [88, 88, 96], 2;
    DESTROY_WQ_OBJ = 0x2_0005, "MANA_DESTROY_WQ_OBJ", [56], 1;
    FENCE_RQ = 0x2_0006, "MANA_FENCE_RQ", [48], 1;
    CONFIG_VPORT_RX = 0x2_0007, "MANA_CONFIG_VPORT_RX", [112, 120], 2;
    QUERY_VPORT_CONFIG = 0x2_0008, "MANA_QUERY_VPORT_CONFIG", [44], 1;
    QUERY_LINK_CONFIG = 0x2_000A, "MANA_QUERY_LINK_CONFIG", [48], 2;
    SET_BW_CLAMP = 0x2_000B, "MANA_SET_BW_CLAMP", [56], 1;
    QUERY_PHY_STAT = 0x2_000C, "MANA_QUERY_PHY_STAT", [48], 1;

    GET_ADAPTER_CAP = 0x3_0001, "MANA_IB_GET_ADAPTER_CAP", [40], 4;
    CREATE_ADAPTER = 0x3_0002, "MANA_IB_CREATE_ADAPTER", [48, 56], 1;
    DESTROY_ADAPTER = 0x3_0003, "MANA_IB_DESTROY_ADAPTER", [48], 1;
    CONFIG_IP_ADDR = 0x3_0004, "MANA_IB_CONFIG_IP_ADDR", [72], 1;
    CONFIG_MAC_ADDR = 0x3_0005, "MANA_IB_CONFIG_MAC_ADDR", [64], 1;
    CREATE_UD_QP = 0x3_0006, "MANA_IB_CREATE_UD_QP", [112], 1;
    DESTROY_UD_QP = 0x3_0007, "MANA_IB_DESTROY_UD_QP", [56], 1;
    CREATE_CQ = 0x3_0008, "MANA_IB_CREATE_CQ", [64], 1;
    DESTROY_CQ = 0x3_0009, "MANA_IB_DESTROY_CQ", [56], 1;
    CREATE_RC_QP = 0x3_000A, "MANA_IB_CREATE_RC_QP", [160], 1;
    DESTROY_RNIC_QP = 0x3_000B, "MANA_IB_DESTROY_RNIC_QP", [56], 1;
    SET_QP_STATE = 0x3_000D, "MANA_IB_SET_QP_STATE", [160, 160, 184], 1;
    CREATE_UC_QP = 0x3_0020, "MANA_IB_CREATE_UC_QP", [128], 1;
    QUERY_VF_COUNTERS = 0x3_0022, "MANA_IB_QUERY_VF_COUNTERS", [48], 2;
    QUERY_DEVICE_COUNTERS = 0x3_0023, "MANA_IB_QUERY_DEVICE_COUNTERS", [48], 1;
}
