//! Opening a device by libibverbs, and the proof that libmana drives it.

use std::ffi::CStr;
use std::ptr::NonNull;

use uverbs_abi::IbDevice;

use super::extended::Extended;
use super::ffi;
use super::library::{Library, object_of};
use super::{DRIVER_ID, null_errno};
use crate::{RdmaCoreError, VerbsError, operation};

pub(super) fn too_old(library: &Library, symbol: &str) -> RdmaCoreError {
    RdmaCoreError::TooOld {
        library: library.versions(),
        symbol: symbol.to_owned(),
    }
}

/// Opens the device of that name.
pub(super) fn open_device(
    library: &Library,
    device: &IbDevice,
) -> Result<NonNull<ffi::Context>, VerbsError> {
    let failed = |errno| VerbsError::kernel(&device.name, operation::GET_CONTEXT, errno);
    let mut count = 0;
    // SAFETY: `count` is valid for writes.
    let list = unsafe { (library.get_device_list)(&mut count) };
    if list.is_null() {
        return Err(failed(null_errno()));
    }
    let count = usize::try_from(count).unwrap_or(0);
    let mut context = None;
    for n in 0..count {
        // SAFETY: the list has that many entries.
        let entry = unsafe { *list.add(n) };
        // SAFETY: entries are devices until the list is freed; the name ends with a zero.
        let name = unsafe { CStr::from_ptr((library.get_device_name)(entry)) };
        if name.to_bytes() == device.name.as_bytes() {
            // SAFETY: an entry of the list. The context keeps the device when the list is freed.
            let opened = unsafe { (library.open_device)(entry) };
            context = Some(NonNull::new(opened).ok_or_else(null_errno));
            break;
        }
    }
    // SAFETY: the list of `get_device_list`, freed once.
    unsafe { (library.free_device_list)(list) };
    match context {
        Some(context) => context.map_err(failed),
        None => Err(RdmaCoreError::NotListed {
            device: device.name.clone(),
            kernel: device.driver_id,
            library: DRIVER_ID,
        }
        .into()),
    }
}

/// Whether the context's operations are libmana's.
pub(super) fn prove(
    library: &Library,
    extended: Extended,
    device: &IbDevice,
) -> Result<(), RdmaCoreError> {
    let parent_domain = extended.alloc_parent_domain().ok();
    if parent_domain.is_some_and(|function| library.is_in_mana(function as *const _)) {
        return Ok(());
    }
    let driver = extended.driver();
    if library.is_in_mana(driver) {
        return Err(too_old(library, "alloc_parent_domain"));
    }
    let opened_by = object_of(driver).map(|object| object.file);
    Err(RdmaCoreError::ForeignContext {
        device: device.name.clone(),
        opened_by: opened_by.unwrap_or_else(|| "an unknown library".to_owned()),
        kernel: device.driver_id,
        library: DRIVER_ID,
    })
}
