//! What the library knows: the model that the environment describes, and which descriptors and
//! pages of the program are the model's. Reached with the gate held; whether a number is ours at
//! all can be asked without it, so that foreign descriptors cost a load.

use std::ffi::{CStr, c_int};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use mana_model::sysfs::Sysfs;
use mana_model::{DoorbellMode, LinkConfig, Model, ModelConfig, Node, Runner};

use crate::control::{self, Control};
use crate::gate::Held;
use crate::report::{self, Report};
use crate::{gate, sys, trap};

/// The devices, as the texts behind `--vdev=`, a line each. Without it this library does nothing.
const DEVICES: &str = "MANA_MODEL_DEVICES";
const NAME: &CStr = c"MANA_MODEL_DEVICES";
/// `trap`, `step` or `trap-until-step`.
const DOORBELL: &str = "MANA_MODEL_DOORBELL";
/// The sysfs that programs read.
const SYSFS: &str = "SYSFS_PATH";
/// Path of the socket by which the model is steered.
const CONTROL: &str = "MANA_MODEL_CONTROL";

/// The model of this process.
pub(crate) struct State {
    process: c_int,
    pub(crate) model: Model,
    /// Whether every store to a doorbell page is trapped.
    trap: AtomicBool,
    /// Whether that ends with the first step.
    until_step: bool,
    /// Where what is found is written down, if anywhere.
    pub(crate) report: Option<Arc<Report>>,
    /// The socket, if one was asked for and this is no forked child: it stays its parent's.
    pub(crate) control: Option<Control>,
    /// Links whose time goes on without doorbells need a thread.
    _runner: Option<Runner>,
    /// The machine's sysfs, which `mana model exec` wrote.
    sysfs: Option<Mutex<Sysfs>>,
}

impl State {
    /// Whether doorbell pages are trapped when they are mapped.
    pub(crate) fn trapped(&self) -> bool {
        self.trap.load(Ordering::Relaxed)
    }

    /// Before a step: with `trap-until-step`, doorbells are plain memory from now on.
    pub(crate) fn before_step(&self, held: &Held) {
        if !self.until_step || !self.trap.swap(false, Ordering::Relaxed) {
            return;
        }
        for page in pages() {
            let base = page.base.load(Ordering::Acquire);
            let Some(node) = node_of_page(held, base) else {
                continue;
            };
            let address = ptr::with_exposed_provenance_mut::<libc::c_void>(base);
            // SAFETY: the page is one that `mmap` of this library has mapped, and is still noted.
            let opened =
                unsafe { libc::mprotect(address, PAGE, libc::PROT_READ | libc::PROT_WRITE) };
            if opened != 0 {
                sys::fatal(format_args!("a doorbell page can't be made writable"));
            }
            // SAFETY: as where it was mapped: the program stores whole doorbells to it, and `munmap`
            // takes the node's pages away only together with the node.
            unsafe { node.watch_page(address.cast()) };
        }
    }

    /// Lets sysfs show what the machine is by now.
    pub(crate) fn follow(&self) {
        let Some(sysfs) = &self.sysfs else { return };
        let mut sysfs = sysfs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = sysfs.follow(&self.model) {
            sys::say(format_args!(
                "mana model: the model's sysfs is not up to date: {error}\n"
            ));
        }
    }
}

static STATE: AtomicPtr<State> = AtomicPtr::new(ptr::null_mut());

/// Whether the environment asks for a model. Asked anew each time until there is one, because the
/// first calls come from constructors of other libraries.
pub(crate) fn wanted() -> bool {
    // SAFETY: the name is a string that ends with a zero. `getenv` allocates nothing, which matters
    // because the gate is not held here.
    !STATE.load(Ordering::Relaxed).is_null() || !unsafe { libc::getenv(NAME.as_ptr()) }.is_null()
}

/// The model of this process; built at its first use, and anew in a forked child.
pub(crate) fn state(_held: &Held) -> &'static State {
    let process = sys::process();
    let known = STATE.load(Ordering::Acquire);
    if !known.is_null() {
        // SAFETY: the pointer comes from `Box::into_raw` below and is never freed.
        let known = unsafe { &*known };
        if known.process == process {
            return known;
        }
    }
    let state = Box::leak(Box::new(build(process, !known.is_null())));
    STATE.store(state, Ordering::Release);
    if known.is_null() {
        report::at_exit();
        // SAFETY: the three functions are this library's, which stays loaded as long as the process.
        unsafe {
            libc::pthread_atfork(
                Some(gate::before_fork),
                Some(gate::after_fork),
                Some(in_child),
            )
        };
    }
    state
}

/// The model, if this process has built one.
pub(crate) fn existing(_held: &Held) -> Option<&'static State> {
    let known = STATE.load(Ordering::Acquire);
    // SAFETY: as in `state`.
    let known = unsafe { known.as_ref() }?;
    (known.process == sys::process()).then_some(known)
}

/// After a fork, in the child.
extern "C" fn in_child() {
    let known = STATE.load(Ordering::Acquire);
    // SAFETY: as in `state`.
    if let Some(control) = unsafe { known.as_ref() }.and_then(|state| state.control.as_ref()) {
        control.forget();
    }
    trap::after_fork();
    gate::after_fork();
}

fn build(process: c_int, forked: bool) -> State {
    match try_build(process, forked) {
        Ok(state) => state,
        Err(why) => {
            sys::say(format_args!("mana model: error: {why}\n"));
            // SAFETY: _exit does not return.
            unsafe { libc::_exit(1) }
        }
    }
}

fn try_build(process: c_int, forked: bool) -> Result<State, String> {
    let texts = std::env::var(DEVICES).map_err(|error| format!("{DEVICES}: {error}"))?;
    let devices = texts
        .lines()
        .map(mana_model::parse_device)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| error.to_string())?;
    let timed = devices
        .iter()
        .flat_map(|device| &device.ports)
        .any(|port| is_timed(&port.link));
    let (trap, until_step) = match std::env::var(DOORBELL).as_deref() {
        Ok("step") => (false, false),
        Ok("trap") | Err(_) => (true, false),
        Ok("trap-until-step") => (true, true),
        Ok(other) => {
            return Err(format!(
                "{DOORBELL}={other}: expected trap, step or trap-until-step"
            ));
        }
    };
    let model = Model::new(ModelConfig {
        devices,
        doorbells: if trap {
            DoorbellMode::Trapped
        } else {
            DoorbellMode::Stepped
        },
    })
    .map_err(|error| error.to_string())?;
    let report = Report::wanted().map(Arc::new);
    if let Some(report) = report.clone() {
        model.watch_findings(move |finding| report.add(finding));
    }
    let path = std::env::var_os(CONTROL).filter(|_| !forked);
    let control = match path {
        Some(path) => Some(control::serve(Path::new(&path))?),
        None => None,
    };
    let root = std::env::var_os(SYSFS);
    let sysfs = root.map(|root| Sysfs::written(Path::new(&root), &model));
    let sysfs = sysfs.transpose().map_err(|error| error.to_string())?;
    let runner = (timed && trap).then(|| model.run());
    Ok(State {
        process,
        model,
        trap: trap.into(),
        until_step,
        report,
        control,
        _runner: runner,
        sysfs: sysfs.map(Mutex::new),
    })
}

/// Whether packets come with time and not with the driver's doorbells only.
fn is_timed(link: &LinkConfig) -> bool {
    match link {
        LinkConfig::Tap(_) => true,
        LinkConfig::Gen(generator) => generator.pps.is_some(),
        LinkConfig::Pcap { pps, .. } => pps.is_some(),
        LinkConfig::Loop | LinkConfig::Pair | LinkConfig::Sink { .. } => false,
    }
}

/// A descriptor of the program behind which the model stands.
pub(crate) enum Open {
    /// A uverbs node.
    Node(Arc<Node>),
    /// A NETLINK_RDMA socket; the other end, into which answers are written.
    Netlink(OwnedFd),
}

struct Entry {
    process: c_int,
    open: Open,
}

/// Descriptors that can be told apart; systems allow a process fewer by default.
const DESCRIPTORS: usize = 65536;

static TABLE: [AtomicPtr<Entry>; DESCRIPTORS] =
    [const { AtomicPtr::new(ptr::null_mut()) }; DESCRIPTORS];

/// Whether the descriptor may be the model's.
pub(crate) fn is_ours(fd: c_int) -> bool {
    let slot = usize::try_from(fd).ok().and_then(|fd| TABLE.get(fd));
    slot.is_some_and(|slot| !slot.load(Ordering::Relaxed).is_null())
}

/// What stands behind the descriptor. Nothing in a child, which has the numbers but not the model.
pub(crate) fn find(_held: &Held, fd: c_int) -> Option<&'static Open> {
    let slot = TABLE.get(usize::try_from(fd).ok()?)?;
    // SAFETY: the pointer comes from `Box::into_raw` in `enter` and is freed in `leave` only, with
    // the gate held, which the caller holds, too. Nobody keeps the reference beyond the gate.
    let entry = unsafe { slot.load(Ordering::Acquire).as_ref() }?;
    (entry.process == sys::process()).then_some(&entry.open)
}

/// Notes a descriptor; gives it back where its number is beyond the table.
pub(crate) fn enter(_held: &Held, fd: c_int, open: Open) -> Result<(), Open> {
    let slot = usize::try_from(fd).ok().and_then(|fd| TABLE.get(fd));
    let Some(slot) = slot else {
        return Err(open);
    };
    let entry = Box::into_raw(Box::new(Entry {
        process: sys::process(),
        open,
    }));
    // An entry that is still there is of a descriptor that was closed behind our back, or of a
    // parent process: its content is not ours to take apart.
    slot.store(entry, Ordering::Release);
    Ok(())
}

/// Forgets a descriptor, if it is of this process.
pub(crate) fn leave(held: &Held, fd: c_int) -> Option<Open> {
    find(held, fd)?;
    let slot = TABLE.get(usize::try_from(fd).ok()?)?;
    let entry = slot.swap(ptr::null_mut(), Ordering::AcqRel);
    // SAFETY: `find` saw an entry, nobody else takes one out while the gate is held, and it was made
    // by `Box::into_raw`.
    Some(unsafe { Box::from_raw(entry) }.open)
}

/// A doorbell page in the program's memory.
struct Page {
    base: AtomicUsize,
    node: AtomicPtr<Node>,
}

/// Doorbell pages of a process: one an open context.
const PAGES: usize = 256;

static PAGE_TABLE: [Page; PAGES] = [const {
    Page {
        base: AtomicUsize::new(0),
        node: AtomicPtr::new(ptr::null_mut()),
    }
}; PAGES];

/// Slots in use: none is beyond.
static PAGES_USED: AtomicUsize = AtomicUsize::new(0);

/// Bytes of a page.
pub(crate) const PAGE: usize = 4096;

fn pages() -> &'static [Page] {
    &PAGE_TABLE[..PAGES_USED.load(Ordering::Acquire)]
}

/// The first byte of the doorbell page around `address`.
pub(crate) fn page_around(address: usize) -> Option<usize> {
    let base = address & !(PAGE - 1);
    let is = |page: &Page| page.base.load(Ordering::Acquire) == base;
    (base != 0 && pages().iter().any(is)).then_some(base)
}

/// Any doorbell page inside a range of addresses.
pub(crate) fn page_inside(start: usize, length: usize) -> Option<usize> {
    let range = start..start.saturating_add(length);
    pages()
        .iter()
        .map(|page| page.base.load(Ordering::Acquire))
        .find(|base| *base != 0 && range.contains(base))
}

/// The node whose doorbell page begins at `base`.
pub(crate) fn node_of_page(_held: &Held, base: usize) -> Option<&'static Node> {
    let page = pages()
        .iter()
        .find(|page| page.base.load(Ordering::Acquire) == base)?;
    // SAFETY: the pointer holds a strong count since `map_page`, given up in `unmap_page` with the
    // gate held, which the caller holds, too. Nobody keeps the reference beyond the gate.
    unsafe { page.node.load(Ordering::Acquire).as_ref() }
}

/// Notes a doorbell page; `false` where the table is full. The node stays open until it is unmapped.
pub(crate) fn map_page(_held: &Held, base: usize, node: Arc<Node>) -> bool {
    let used = PAGES_USED.load(Ordering::Acquire);
    let free = (PAGE_TABLE.iter()).position(|page| page.base.load(Ordering::Acquire) == 0);
    let Some(free) = free else {
        return false;
    };
    PAGE_TABLE[free]
        .node
        .store(Arc::into_raw(node).cast_mut(), Ordering::Release);
    PAGE_TABLE[free].base.store(base, Ordering::Release);
    PAGES_USED.store(used.max(free + 1), Ordering::Release);
    true
}

/// Forgets a doorbell page.
pub(crate) fn unmap_page(_held: &Held, base: usize) -> Option<Arc<Node>> {
    let page = pages()
        .iter()
        .find(|page| page.base.load(Ordering::Acquire) == base)?;
    page.base.store(0, Ordering::Release);
    let node = page.node.swap(ptr::null_mut(), Ordering::AcqRel);
    // SAFETY: the pointer is that of `Arc::into_raw` in `map_page`, and its count is given up here.
    (!node.is_null()).then(|| unsafe { Arc::from_raw(node) })
}
