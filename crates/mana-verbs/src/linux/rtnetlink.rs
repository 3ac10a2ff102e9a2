//! What sysfs does not tell of an interface: the adapter's largest MTU (`IFLA_MAX_MTU`), by
//! NETLINK_ROUTE. Where the kernel does not answer, it is not known.

use super::netlink::Socket;

/// `RTM_NEWLINK` and `RTM_GETLINK`.
const NEWLINK: u16 = 16;
const GETLINK: u16 = 18;
/// `NLM_F_REQUEST`.
const F_REQUEST: u16 = 1;
/// `IFLA_IFNAME` and `IFLA_MAX_MTU`.
const IFNAME: u16 = 3;
const MAX_MTU: u16 = 51;
/// Bits of an attribute's type that are its number.
const TYPE_MASK: u16 = 0x3fff;
/// Bytes of `nlmsghdr` and of `ifinfomsg` behind it.
const HEADERS: usize = 32;

/// The largest MTU of the interface of that name in this network namespace. A driver that sets no
/// limit shows 0 and has none.
pub(super) fn max_mtu(name: &str) -> Option<u32> {
    let answer = Socket::open(libc::NETLINK_ROUTE)
        .and_then(|socket| socket.exchange(&get_link(name)))
        .inspect_err(|errno| tracing::debug!(%errno, name, "no limit of the MTU by netlink"))
        .ok()?;
    read_max_mtu(&answer).filter(|limit| *limit > 0)
}

fn get_link(name: &str) -> Vec<u8> {
    let attribute = 4 + name.len() + 1;
    let length = HEADERS + attribute.next_multiple_of(4);
    let mut message = Vec::with_capacity(length);
    message.extend((length as u32).to_ne_bytes());
    message.extend(GETLINK.to_ne_bytes());
    message.extend(F_REQUEST.to_ne_bytes());
    // The number of the request.
    message.extend(1u32.to_ne_bytes());
    message.resize(HEADERS, 0);
    message.extend((attribute as u16).to_ne_bytes());
    message.extend(IFNAME.to_ne_bytes());
    message.extend(name.as_bytes());
    message.resize(length, 0);
    message
}

/// The limit in an answer; `None` where it is a refusal, or malformed.
fn read_max_mtu(answer: &[u8]) -> Option<u32> {
    let u16_at = |bytes: &[u8], at: usize| {
        let bytes = bytes.get(at..at + 2)?;
        Some(u16::from_ne_bytes([bytes[0], bytes[1]]))
    };
    let length = u32::from_ne_bytes(answer.get(..4)?.try_into().ok()?) as usize;
    if u16_at(answer, 4)? != NEWLINK {
        return None;
    }
    let mut rest = answer.get(HEADERS..length)?;
    loop {
        let length = usize::from(u16_at(rest, 0)?);
        let value = rest.get(4..length)?;
        if u16_at(rest, 2)? & TYPE_MASK == MAX_MTU {
            return Some(u32::from_ne_bytes(value.get(..4)?.try_into().ok()?));
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the layouts of linux/netlink.h, linux/rtnetlink.h and linux/if_link.h.
    #[cfg(target_endian = "little")]
    #[test]
    fn the_request_names_the_interface() {
        let mut expected = vec![44, 0, 0, 0, 18, 0, 1, 0, 1, 0, 0, 0];
        expected.resize(32, 0);
        expected.extend(*b"\x09\0\x03\0eth1\0\0\0\0");
        assert_eq!(get_link("eth1"), expected);
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn the_limit_is_found_among_the_attributes() {
        let mut answer = vec![48, 0, 0, 0, 16, 0, 0, 0, 1, 0, 0, 0];
        answer.resize(32, 0);
        answer.extend([5, 0, 16, 0, 2, 0, 0, 0]);
        answer.extend([8, 0, 51, 0, 0x28, 0x23, 0, 0]);
        assert_eq!(read_max_mtu(&answer), Some(9000));
        for cut in 0..answer.len() {
            assert_eq!(read_max_mtu(&answer[..cut]), None, "{cut}");
        }
        answer[4] = 2;
        assert_eq!(read_max_mtu(&answer), None, "NLMSG_ERROR");
    }

    /// The loopback interface has no limit, and every namespace has it.
    #[test]
    fn the_running_kernel_answers() {
        assert_eq!(max_mtu("no such interface"), None);
        let answer = Socket::open(libc::NETLINK_ROUTE)
            .unwrap()
            .exchange(&get_link("lo"));
        assert!(read_max_mtu(&answer.unwrap()).is_some());
    }
}
