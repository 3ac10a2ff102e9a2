//! The processor's time-stamp counter: what a burst costs is counted with it.
//!
//! It counts at a constant rate of its own, not the core's clock, and on the processors MANA is found
//! with all cores agree on it. How many counts are a second is for the caller to measure.

/// The counter, read in its place in the program: after everything before it has been carried out
/// (loads have their values; stores may still wait in the store buffer), and before anything behind it
/// begins. Costs some tens of cycles; a difference of two readings contains one.
///
/// x86-64: `lfence`, `rdtsc`, `lfence`. Without the first the counter may be read while
/// instructions before it still wait for memory, without the second those behind it may start
/// early (Intel's Software Developer's Manual, RDTSC; on AMD's processors Linux makes `lfence`
/// dispatch-serialising, which is needed for the same).
///
/// aarch64: `isb`, `mrs cntvct_el0`, `isb`. The first keeps the counter from being read
/// speculatively, the second what is behind it from running ahead (Arm Architecture Reference
/// Manual, generic timer).
///
/// A process that was forbidden to read it (`prctl(PR_SET_TSC)`) dies of SIGSEGV here.
#[inline]
#[must_use]
pub fn now() -> u64 {
    read()
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn read() -> u64 {
    use core::arch::x86_64::{_mm_lfence, _rdtsc};
    // SAFETY: both instructions are part of x86-64 (SSE2 and TSC); they touch no memory and order
    // execution only.
    #[allow(unused_unsafe, reason = "safe in newer toolchains")]
    unsafe {
        _mm_lfence();
        let counter = _rdtsc();
        _mm_lfence();
        counter
    }
}

#[cfg(target_arch = "aarch64")]
#[inline]
fn read() -> u64 {
    let counter: u64;
    // SAFETY: reads a register that Linux lets every process read, between two barriers of the
    // instruction stream. Not marked `nomem`, so that the compiler keeps the accesses around it
    // in place, too.
    unsafe {
        core::arch::asm!(
            "isb",
            "mrs {counter}, cntvct_el0",
            "isb",
            counter = out(reg) counter,
            options(nostack, preserves_flags),
        );
    }
    counter
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    /// Rates of counters in use: 25 MHz on the slowest Arm boards, below 6 GHz everywhere.
    #[test]
    fn the_counter_advances_at_a_plausible_and_steady_rate() {
        let rate = || {
            let (start, first) = (Instant::now(), now());
            while start.elapsed() < Duration::from_millis(5) {}
            (now() - first) as f64 / start.elapsed().as_secs_f64()
        };
        // A thread that loses its CPU between the two clocks measures nonsense once in a while.
        let rates: Vec<(f64, f64)> = (0..10).map(|_| (rate(), rate())).collect();
        let steady = rates
            .iter()
            .any(|(one, other)| (20e6..6e9).contains(one) && (one / other - 1.0).abs() < 0.01);
        assert!(steady, "{rates:?}");
    }

    #[test]
    fn readings_in_a_row_never_go_back() {
        let mut last = now();
        for _ in 0..100_000 {
            let next = now();
            assert!(next >= last, "{next} after {last}");
            last = next;
        }
    }
}
