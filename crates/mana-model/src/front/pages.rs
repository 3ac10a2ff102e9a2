//! Pages of the program as the kernel pins them.

use uverbs_abi::Errno;

/// Brings all pages of `length` bytes from `address` on into memory, for writing as well where
/// `writing`, as pinning them does. Their content stays what it is.
///
/// # Errors
///
/// `EFAULT` where something there is not mapped, or not with these rights.
pub(crate) fn populate(address: u64, length: u64, writing: bool) -> Result<(), Errno> {
    let start = address & !(super::PAGE - 1);
    let end = address.checked_add(length).ok_or(Errno::EINVAL)?;
    let end = end.checked_next_multiple_of(super::PAGE);
    let bytes = usize::try_from(end.ok_or(Errno::EINVAL)? - start).map_err(|_| Errno::EINVAL)?;
    let advice = if writing {
        libc::MADV_POPULATE_WRITE
    } else {
        libc::MADV_POPULATE_READ
    };
    let populated = |bytes| {
        let start = std::ptr::without_provenance_mut(start as usize);
        // SAFETY: madvise with this advice touches no content and changes no mapping: it only makes
        // present what is mapped, and says what is not.
        unsafe { libc::madvise(start, bytes, advice) == 0 }
    };
    // Kernels before 5.14 do not know the advice, not even for nothing: they can't be asked.
    match populated(bytes) || !populated(0) {
        true => Ok(()),
        false => Err(Errno::EFAULT),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_mapped_is_a_fault_and_what_is_stays_as_it_is() {
        let bytes = vec![7_u8; 3 * 4096];
        let address = bytes.as_ptr() as u64;
        assert_eq!(populate(address, bytes.len() as u64, true), Ok(()));
        assert!(bytes.iter().all(|byte| *byte == 7));
        assert_eq!(populate(0, 1, false), Err(Errno::EFAULT));
        assert_eq!(populate(1 << 63, 8, true), Err(Errno::EFAULT));
        assert_eq!(populate(u64::MAX - 8, 16, true), Err(Errno::EINVAL));
        // Constants can be read only.
        let text = populate as *const () as u64;
        assert_eq!(populate(text, 1, false), Ok(()));
        assert_eq!(populate(text, 1, true), Err(Errno::EFAULT));
    }
}
