//! The driver id that every call must carry (reference/mana-hardware.md §5.4,
//! reference/uverbs-boundary.md §3): read from netlink or found by trying, never assumed.

use uverbs_abi::ids::{MANA_DRIVER_IDS, attr, method, object, write_cmd};
use uverbs_abi::{Attribute, Call, Errno, IbDevice, Transport, Value};

use crate::{VerbsError, operation};

/// Finds the id that the kernel accepts: the one that netlink told, if any, then those under which
/// MANA is known.
pub(super) fn find(transport: &dyn Transport, device: &IbDevice) -> Result<u32, VerbsError> {
    let mut tried = Vec::with_capacity(1 + MANA_DRIVER_IDS.len());
    for id in device.driver_id.into_iter().chain(MANA_DRIVER_IDS) {
        if tried.contains(&id) {
            continue;
        }
        tried.push(id);
        if accepts(transport, id)
            .map_err(|errno| VerbsError::kernel(&device.name, operation::FIND_DRIVER_ID, errno))?
        {
            return Ok(id);
        }
    }
    Err(VerbsError::DriverId {
        device: device.name.clone(),
        tried,
    })
}

/// QUERY_DEVICE without buffers needs no context and changes nothing: the kernel answers `EINVAL`
/// to a wrong driver id and `ENOSPC`, for want of room for the answer, to the right one.
fn accepts(transport: &dyn Transport, driver_id: u32) -> Result<bool, Errno> {
    let call = Call {
        driver_id,
        object: object::DEVICE,
        method: method::DEVICE_INVOKE_WRITE,
    };
    let command = Value::Const(u64::from(write_cmd::QUERY_DEVICE));
    // SAFETY: the call carries no address.
    let answer = unsafe { transport.invoke(call, &mut [Attribute::new(attr::WRITE_CMD, command)]) };
    match answer {
        Ok(()) | Err(Errno::ENOSPC) => Ok(true),
        Err(Errno::EINVAL) => Ok(false),
        Err(errno) => Err(errno),
    }
}
