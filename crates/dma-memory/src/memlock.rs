//! RLIMIT_MEMLOCK: what the kernel charges a registration (and `mlockall`) against.

use std::fs;

use crate::MemoryError;

/// `CAP_IPC_LOCK` of linux/capability.h: holders are not limited.
const CAP_IPC_LOCK: u32 = 14;

/// Whether `bytes` more can be registered with a device under RLIMIT_MEMLOCK.
///
/// The kernel pins what is registered and answers a registration above the limit with a bare
/// ENOMEM: call this to tell the cause. A device model pins nothing, so allocation itself does not
/// look at the limit.
///
/// # Errors
/// [`MemoryError::MemlockLimit`] when the kernel would refuse.
pub fn check_memlock(bytes: usize) -> Result<(), MemoryError> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    check(limit(), &status, bytes as u64)
}

fn check(limit: Option<u64>, status: &str, needed: u64) -> Result<(), MemoryError> {
    let capabilities =
        field(status, "CapEff:").map_or(0, |text| u64::from_str_radix(text, 16).unwrap_or(0));
    let Some(limit) = limit else { return Ok(()) };
    let pinned = kib(status, "VmPin:").max(kib(status, "VmLck:"));
    if capabilities >> CAP_IPC_LOCK & 1 == 1 || pinned.saturating_add(needed) <= limit {
        return Ok(());
    }
    Err(MemoryError::MemlockLimit {
        needed,
        pinned,
        limit,
    })
}

/// The soft limit in bytes, `None` where there is none.
fn limit() -> Option<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the call writes one rlimit, to which the pointer points for its whole length.
    let result = unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &mut limit) };
    (result == 0 && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()
}

fn kib(status: &str, name: &str) -> u64 {
    field(status, name)
        .and_then(|text| text.parse::<u64>().ok())
        .map_or(0, |number| number << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER: &str = "VmLck:\t       0 kB\nVmPin:\t    1024 kB\nCapEff:\t0000000000000000\n";
    const ROOT: &str = "VmLck:\t       0 kB\nVmPin:\t    1024 kB\nCapEff:\t000001ffffffffff\n";

    #[test]
    fn what_is_pinned_already_counts() {
        let limit = Some(8 << 20);
        check(limit, USER, 7 << 20).unwrap();
        let error = check(limit, USER, (7 << 20) + 1).unwrap_err();
        assert!(matches!(
            error,
            MemoryError::MemlockLimit {
                needed: 7_340_033,
                pinned: 1_048_576,
                limit: 8_388_608
            }
        ));
        assert!(error.to_string().contains("ulimit -l unlimited"), "{error}");
    }

    #[test]
    fn the_capability_and_an_infinite_limit_lift_it() {
        check(Some(0), ROOT, 1 << 40).unwrap();
        check(None, USER, 1 << 40).unwrap();
    }
}
