//! Libraries for tests: a libibverbs with one device and a libmana that can be told to misbehave.
//! Objects are addresses of nothing: this provider looks into none but those made here.

use std::cell::RefCell;
use std::ffi::{c_char, c_int, c_void};
use std::mem::zeroed;
use std::ptr;

use super::ffi::{self, Allocators, VerbsContext};
use super::library::{Library, object_of};

/// What the libraries of this thread do, and what they have.
pub(super) struct Script {
    /// Name of the only device.
    pub(super) listed: &'static [u8],
    /// Bytes that libmana asks for, where they are to be others than right.
    pub(super) ask: Option<usize>,
    /// Whether libmana allocates its rings itself.
    pub(super) own_ring: bool,
    /// Whether libmana keeps a ring when its object is destroyed.
    pub(super) keep_ring: bool,
    /// The n-th ring from now on, from 1, is refused by the kernel after it was allocated.
    pub(super) refuse: Option<(usize, i32)>,
    /// Objects that were made and not destroyed.
    pub(super) live: Vec<(usize, usize)>,
    pub(super) parents: Vec<usize>,
    pub(super) closed: usize,
    allocators: Option<Allocators>,
    rings: usize,
    next: usize,
}

thread_local! {
    static SCRIPT: RefCell<Script> = const { RefCell::new(Script {
        listed: b"mana_0\0",
        ask: None,
        own_ring: false,
        keep_ring: false,
        refuse: None,
        live: Vec::new(),
        parents: Vec::new(),
        closed: 0,
        allocators: None,
        rings: 0,
        next: 0x1000,
    }) };
}

pub(super) fn script<T>(then: impl FnOnce(&mut Script) -> T) -> T {
    SCRIPT.with_borrow_mut(then)
}

fn fail(errno: i32) {
    // SAFETY: the thread's own error number.
    unsafe { *libc::__errno_location() = errno };
}

/// An object over a ring of `size` bytes, or null.
fn over_ring<T>(size: usize) -> *mut T {
    let (size, own, calls, refuse) = script(|script| {
        let calls = script
            .allocators
            .as_ref()
            .map(|a| (a.alloc, a.free, a.data));
        script.rings += 1;
        let refuse = script.refuse.filter(|(nth, _)| *nth == script.rings);
        (script.ask.unwrap_or(size), script.own_ring, calls, refuse)
    });
    let (alloc, free, data) = calls.expect("the allocators were set");
    let ring = if own {
        ptr::without_provenance_mut(0x7000)
    } else {
        // SAFETY: the provider promised that its functions may be called with its data.
        unsafe { alloc(size, data) }
    };
    if ring.is_null() {
        fail(libc::ENOMEM);
        return ptr::null_mut();
    }
    if let Some((_, errno)) = refuse {
        // SAFETY: as above.
        unsafe { free(ring, data) };
        fail(errno);
        return ptr::null_mut();
    }
    script(|script| {
        script.next += 0x1000;
        script.live.push((script.next, ring.addr()));
        ptr::without_provenance_mut(script.next)
    })
}

fn ring_of(object: usize) -> usize {
    let find = |script: &mut Script| script.live.iter().find(|(of, _)| *of == object).copied();
    script(find).expect("a live object").1
}

fn destroy(object: usize) -> c_int {
    let ring = ring_of(object);
    let (keep, calls) = script(|script| {
        script.live.retain(|(of, _)| *of != object);
        (
            script.keep_ring,
            script.allocators.as_ref().map(|a| (a.free, a.data)),
        )
    });
    if let (false, Some((free, data))) = (keep, calls) {
        // SAFETY: as for `alloc`.
        unsafe { free(ptr::without_provenance_mut(ring), data) };
    }
    0
}

unsafe extern "C" fn get_device_list(count: *mut c_int) -> *mut *mut ffi::Device {
    // SAFETY: the caller's variable.
    unsafe { *count = 1 };
    Box::into_raw(Box::new(ptr::without_provenance_mut(0x10)))
}

unsafe extern "C" fn free_device_list(list: *mut *mut ffi::Device) {
    // SAFETY: made by `get_device_list`.
    drop(unsafe { Box::from_raw(list) });
}

unsafe extern "C" fn get_device_name(_: *mut ffi::Device) -> *const c_char {
    script(|script| script.listed.as_ptr().cast())
}

unsafe extern "C" fn open_device(_: *mut ffi::Device) -> *mut ffi::Context {
    // SAFETY: all-zero is a value: null pointers, no functions and numbers.
    let mut context: Box<VerbsContext> = Box::new(unsafe { zeroed() });
    context.sz = size_of::<VerbsContext>();
    context.alloc_parent_domain = Some(alloc_parent_domain);
    context.context.ops.poll_cq = open_device as *const c_void;
    context.context.abi_compat = ptr::without_provenance_mut(ffi::ABI_IS_EXTENDED);
    // SAFETY: standard output stays open.
    context.context.async_fd = unsafe { libc::dup(1) };
    let whole = Box::into_raw(context);
    // SAFETY: a field of what was just made.
    unsafe { &raw mut (*whole).context }
}

unsafe extern "C" fn close_device(context: *mut ffi::Context) -> c_int {
    let offset = std::mem::offset_of!(VerbsContext, context);
    // SAFETY: made by `open_device`.
    let context = unsafe { Box::from_raw(context.byte_sub(offset).cast::<VerbsContext>()) };
    // SAFETY: duplicated there.
    unsafe { libc::close(context.context.async_fd) };
    script(|script| script.closed += 1);
    0
}

unsafe extern "C" fn alloc_parent_domain(
    _: *mut ffi::Context,
    attributes: *mut ffi::ParentDomainInitAttr,
) -> *mut ffi::Pd {
    // SAFETY: the caller's structure.
    let attributes = unsafe { &*attributes };
    assert!(attributes.td.is_null() && attributes.comp_mask == 2);
    script(|script| script.parents.push(attributes.pd_context.addr()));
    ptr::without_provenance_mut(0x30 + attributes.pd_context.addr())
}

unsafe extern "C" fn alloc_pd(_: *mut ffi::Context) -> *mut ffi::Pd {
    ptr::without_provenance_mut(0x20)
}

unsafe extern "C" fn dealloc_pd(_: *mut ffi::Pd) -> c_int {
    0
}

unsafe extern "C" fn create_cq(
    _: *mut ffi::Context,
    entries: c_int,
    _: *mut c_void,
    _: *mut ffi::CompChannel,
    _: c_int,
) -> *mut ffi::Cq {
    over_ring((entries as usize * 64).next_power_of_two().max(4096))
}

unsafe extern "C" fn destroy_cq(cq: *mut ffi::Cq) -> c_int {
    destroy(cq.addr())
}

unsafe extern "C" fn create_qp(_: *mut ffi::Pd, attributes: *mut ffi::QpInitAttr) -> *mut ffi::Qp {
    // SAFETY: the caller's structure.
    let cap = unsafe { &(*attributes).cap };
    let request = (16 + 16 * cap.max_send_sge as usize).next_multiple_of(32);
    over_ring(
        (cap.max_send_wr as usize * request)
            .next_power_of_two()
            .max(4096),
    )
}

unsafe extern "C" fn destroy_qp(qp: *mut ffi::Qp) -> c_int {
    destroy(qp.addr())
}

unsafe extern "C" fn set_context_attr(
    _: *mut ffi::Context,
    kind: c_int,
    allocators: *mut Allocators,
) -> c_int {
    assert_eq!(kind, 0);
    // SAFETY: the caller's structure, which libmana copies.
    script(|script| script.allocators = Some(unsafe { allocators.read() }));
    0
}

/// The page that the fake device's doorbells are in.
static PAGE: [u64; 512] = [0; 512];

unsafe extern "C" fn init_obj(object: *mut ffi::Obj, kinds: u64) -> c_int {
    assert_eq!(kinds, 3, "a queue pair and its completion queue");
    // SAFETY: the caller's structure with room for both answers.
    unsafe {
        let qp = &mut *(*object).qp.output;
        qp.sq_buf = ptr::without_provenance_mut(ring_of((*object).qp.input.addr()));
        qp.sq_size = 8192;
        (qp.sq_id, qp.tx_vp_offset) = (7, 9);
        qp.db_page = PAGE.as_ptr().cast_mut().cast();
        (*(*object).cq.output).cq_id = 8;
    }
    0
}

/// What no test here reaches.
macro_rules! never {
    ($($name:ident($($argument:ty),*) $(-> $result:ty)?;)*) => {$(
        unsafe extern "C" fn $name($(_: $argument),*) $(-> $result)? {
            unreachable!("not a part of these libraries")
        }
    )*};
}

never! {
    get_async_event(*mut ffi::Context, *mut ffi::AsyncEvent) -> c_int;
    ack_async_event(*mut ffi::AsyncEvent);
    create_comp_channel(*mut ffi::Context) -> *mut ffi::CompChannel;
    destroy_comp_channel(*mut ffi::CompChannel) -> c_int;
    get_cq_event(*mut ffi::CompChannel, *mut *mut ffi::Cq, *mut *mut c_void) -> c_int;
    ack_cq_events(*mut ffi::Cq, u32);
    reg_mr(*mut ffi::Pd, *mut c_void, usize, c_int) -> *mut ffi::Mr;
    dereg_mr(*mut ffi::Mr) -> c_int;
}

/// Both libraries; `in_mana` is an address inside libmana.
pub(super) fn library(in_mana: *const c_void) -> &'static Library {
    let library = Library {
        get_device_list,
        free_device_list,
        get_device_name,
        open_device,
        close_device,
        get_async_event,
        ack_async_event,
        create_comp_channel,
        destroy_comp_channel,
        get_cq_event,
        ack_cq_events,
        alloc_pd,
        dealloc_pd,
        reg_mr,
        dereg_mr,
        create_cq,
        destroy_cq,
        create_qp,
        destroy_qp,
        set_context_attr,
        init_obj,
        ibverbs: object_of(inside()).expect("this program"),
        mana: object_of(in_mana).expect("a loaded object"),
    };
    Box::leak(Box::new(library))
}

/// An address inside the libraries above: this program.
pub(super) fn inside() -> *const c_void {
    open_device as *const c_void
}
