//! The handler itself, for x86-64.

use std::ffi::{c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::program;
use crate::decode::{LONGEST, Source, Store, decode};
use crate::state::PAGE;
use crate::{gate, state, sys};

/// Bit of a page fault's error code: a write.
const WRITE: i64 = 2;

/// Takes a fault.
///
/// It allocates nothing from the program's heap (`heap` is this library's own) and waits for no
/// lock that the interrupted code may hold: the gate is the only one, its holder never stores to a
/// doorbell page, and a fault of the holder is told apart before anything else.
pub(crate) extern "C" fn on_fault(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let errno = sys::errno();
    let context = context.cast::<libc::ucontext_t>();
    // SAFETY: the kernel hands a handler with SA_SIGINFO its own siginfo and ucontext.
    let (address, code) = unsafe { ((*info).si_addr().addr(), (*info).si_code) };
    if gate::held_here() {
        sys::fatal(format_args!(
            "memory at {address:#x} can't be reached: the program gave it to the device or to an \
             ioctl, and it is not mapped (any more)"
        ));
    }
    // Codes up to 0 are signals that a program sent; their address means nothing.
    let page = if code > 0 && signal == libc::SIGSEGV {
        state::page_around(address)
    } else {
        None
    };
    // SAFETY: as above.
    let registers = unsafe { &mut (*context).uc_mcontext.gregs };
    match page {
        Some(base) if registers[libc::REG_ERR as usize] & WRITE != 0 => {
            // SAFETY: the context is the kernel's, of the instruction that has just stored.
            let length = unsafe { take(context, base, address - base) };
            registers[libc::REG_RIP as usize] += i64::from(length);
        }
        // SAFETY: the arguments are the kernel's, passed on.
        _ => unsafe { program::deliver(signal, info, context) },
    }
    sys::set_errno(errno);
}

/// Hands a store to the device; returns the length of the instruction.
///
/// # Safety
///
/// `context` is the kernel's context of a thread whose instruction stored to the doorbell page at
/// `base`, `offset` bytes behind its beginning.
unsafe fn take(context: *mut libc::ucontext_t, base: usize, offset: usize) -> u8 {
    // SAFETY: the caller's promise.
    let machine = unsafe { &mut (*context).uc_mcontext };
    let code: *const u8 =
        std::ptr::with_exposed_provenance(machine.gregs[libc::REG_RIP as usize] as usize);
    // SAFETY: `decode` reads no byte behind the instruction that the processor has just read.
    let store = decode(|at| unsafe { code.add(at).read() });
    let Some(Store { source, length }) = store else {
        // SAFETY: as far as the page of the first byte goes, the code is mapped.
        unsafe { unknown(code, offset) }
    };
    let general = |number: u8| machine.gregs[GENERAL[usize::from(number & 15)]] as u64;
    let halves = |number: u8| {
        // SAFETY: the kernel saves the SSE registers with every signal frame on x86-64.
        let words = unsafe { (*machine.fpregs)._xmm[usize::from(number & 15)].element };
        let half = |at: usize| u64::from(words[at]) | u64::from(words[at + 1]) << 32;
        (half(0), half(2))
    };
    let (first, second) = match source {
        Source::General(number) | Source::Exchange(number) => (general(number), None),
        Source::Immediate(value) => (value, None),
        Source::Low(number) => (halves(number).0, None),
        Source::High(number) => (halves(number).1, None),
        Source::Whole(number) => {
            let (low, high) = halves(number);
            (low, Some(high))
        }
    };
    if offset + if second.is_some() { 16 } else { 8 } > PAGE {
        // SAFETY: as above.
        unsafe { unknown(code, offset) }
    }
    let ring = || {
        let held = gate::enter_in_handler();
        if let Some(node) = state::node_of_page(&held, base) {
            node.store(offset, first);
            if let Some(second) = second {
                node.store(offset + 8, second);
            }
        }
    };
    if catch_unwind(AssertUnwindSafe(ring)).is_err() {
        sys::fatal(format_args!(
            "the device model panicked; its message is above"
        ));
    }
    if let Source::Exchange(number) = source {
        // What a load of the page gives: it is for writing.
        machine.gregs[GENERAL[usize::from(number & 15)]] = 0;
    }
    length
}

/// The general registers by their numbers in the encoding.
const GENERAL: [usize; 16] = [
    libc::REG_RAX as usize,
    libc::REG_RCX as usize,
    libc::REG_RDX as usize,
    libc::REG_RBX as usize,
    libc::REG_RSP as usize,
    libc::REG_RBP as usize,
    libc::REG_RSI as usize,
    libc::REG_RDI as usize,
    libc::REG_R8 as usize,
    libc::REG_R9 as usize,
    libc::REG_R10 as usize,
    libc::REG_R11 as usize,
    libc::REG_R12 as usize,
    libc::REG_R13 as usize,
    libc::REG_R14 as usize,
    libc::REG_R15 as usize,
];

/// Names an instruction that is no doorbell, and ends the process.
///
/// # Safety
///
/// The page of `code` is mapped.
unsafe fn unknown(code: *const u8, offset: usize) -> ! {
    let here = (PAGE - (code.addr() & (PAGE - 1))).min(LONGEST);
    let mut bytes = [0_u8; LONGEST];
    // SAFETY: the bytes are of the page of `code`.
    unsafe { code.copy_to_nonoverlapping(bytes.as_mut_ptr(), here) };
    sys::fatal(format_args!(
        "the instruction at {code:p} stores to offset {offset:#x} of the doorbell page and is no \
         store of 8 bytes that is known here: {:02x?}",
        &bytes[..here]
    ))
}
