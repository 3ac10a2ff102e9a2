//! What the ib device says about itself (reference/mana-hardware.md §1.3, §4.7).

use uverbs_abi::ids::{PORT_STATE_ACTIVE, PORT_STATE_DOWN, attr};
use uverbs_abi::{Errno, wire};

use super::attributes::Attributes;
use super::call::Kernel;

/// 4 KiB to 2 MiB.
const PAGE_SIZES: u64 = 0x3F_F000;
/// `IB_PORT_PHYS_STATE_LINK_UP` and `_DISABLED`.
const PHYS_LINK_UP: u8 = 5;
const PHYS_DISABLED: u8 = 3;
/// `IB_WIDTH_1X`, `IB_SPEED_SDR`.
const WIDTH_1X: u8 = 1;
const SPEED_SDR: u8 = 1;
/// `gid_tbl_len`.
pub(crate) const GIDS: u32 = 16;
/// Behind the link layer: `IB_UVERBS_QPF_GRH_REQUIRED` in the flags, and the speed in the wider field.
const GRH_REQUIRED_AND_SDR: [u8; 10] = [1, 0, 0, 0, 0, 0, 1, 0, 0, 0];
/// `IB_MTU_4096`.
const MTU_4096: u8 = 5;
/// `IB_LINK_LAYER_INFINIBAND`: the core's guess where the driver says nothing.
const INFINIBAND: u8 = 1;
/// `IB_LINK_LAYER_ETHERNET`.
const ETHERNET: u8 = 2;

impl Kernel<'_> {
    /// The legacy structure.
    pub(crate) fn device_attributes(&self) -> wire::QueryDeviceResp {
        let (limits, kind) = (self.limits, self.context.kind);
        wire::QueryDeviceResp {
            max_mr_size: limits.max_mr_size,
            page_size_cap: PAGE_SIZES,
            vendor_id: kind.vendor_id,
            vendor_part_id: kind.vendor_part_id,
            max_qp: limits.max_qp,
            max_qp_wr: limits.max_qp_wr,
            max_sge: limits.max_sge,
            max_cq: limits.max_cq,
            max_cqe: limits.max_cqe,
            max_mr: limits.max_mr,
            max_pd: limits.max_pd,
            phys_port_cnt: if kind.ethernet {
                self.ports.len() as u8
            } else {
                1
            },
            ..wire::QueryDeviceResp::default()
        }
    }

    pub(crate) fn ex_query_device(&mut self, call: &mut Attributes<'_, '_>) -> Result<(), Errno> {
        let known = size_of::<wire::ExQueryDevice>();
        let asked = call.bytes(attr::CORE_IN).iter().take(known);
        if asked.copied().any(|byte| byte != 0) {
            return Err(Errno::EINVAL);
        }
        let whole = size_of::<wire::ExQueryDeviceResp>();
        let answer = wire::ExQueryDeviceResp {
            base: self.device_attributes(),
            response_length: whole.min(call.room(attr::CORE_OUT)) as u32,
            raw_packet_caps: self.context.kind.raw_packet_caps,
            ..wire::ExQueryDeviceResp::default()
        };
        call.put(attr::CORE_OUT, &answer);
        Ok(())
    }

    /// The state is that of the netdev, so it is DOWN while a driver owns the port.
    pub(crate) fn query_port(&mut self, call: &mut Attributes<'_, '_>) -> Result<(), Errno> {
        let port = self.port_index(call.constant(attr::PORT_NUM)?)?;
        if !self.rules.port_properties {
            let answer = wire::QueryPortResp {
                link_layer: INFINIBAND,
                ..wire::QueryPortResp::default()
            };
            call.put(attr::PORT_RESP, &answer);
            return Ok(());
        }
        let (netdev, active) = (&self.ports[port].netdev, self.ports[port].is_active());
        let answer = wire::QueryPortResp {
            max_msg_sz: 0,
            // One key.
            unused1: [1, 0, 0],
            state: if active {
                PORT_STATE_ACTIVE
            } else {
                PORT_STATE_DOWN
            },
            max_mtu: MTU_4096,
            active_mtu: mtu_number(netdev.mtu),
            phys_state: if active { PHYS_LINK_UP } else { PHYS_DISABLED },
            link_layer: ETHERNET,
            ..wire::QueryPortResp::default()
        };
        // What only a port of RoCE has: a table of GIDs, and a width and speed.
        let answer = match self.rules.first_port_is_roce && port == 0 {
            true => wire::QueryPortResp {
                unused0: [0, 0, GIDS],
                active_width: WIDTH_1X,
                active_speed: SPEED_SDR,
                unused3: GRH_REQUIRED_AND_SDR,
                ..answer
            },
            false => answer,
        };
        call.put(attr::PORT_RESP, &answer);
        Ok(())
    }
}

/// `iboe_get_mtu`: the largest of 256 (1) to 4096 (5) that the netdev's MTU holds with 56 bytes of
/// RDMA headers, 0 if none.
fn mtu_number(netdev: u32) -> u8 {
    let payload = netdev.saturating_sub(56);
    (1..=5).rev().find(|n| payload >= 128 << n).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mtu_numbers_leave_room_for_the_headers() {
        for (netdev, number) in [(1500, 3), (9000, 5), (4096, 4), (300, 0), (312, 1), (0, 0)] {
            assert_eq!(mtu_number(netdev), number, "{netdev}");
        }
    }
}
