//! The server of vfio-user: what the client asks of the [`Device`], and the threads.
//!
//! One thread serves the socket, one client after the other; it carries stores to registers and
//! doorbells out itself, each within a moment. Another moves what nobody's store has set in motion:
//! frames of taps, links with a rate. It sleeps while there is nothing to move.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mana_model::control::SocketFile;
use mana_model::hardware::Ears;
use vfio_bindings::bindings::vfio::{
    VFIO_IRQ_INFO_EVENTFD, VFIO_IRQ_SET_ACTION_TRIGGER, VFIO_IRQ_SET_DATA_EVENTFD,
    VFIO_IRQ_SET_DATA_NONE, VFIO_PCI_BAR0_REGION_INDEX, VFIO_PCI_BAR4_REGION_INDEX,
    VFIO_PCI_CONFIG_REGION_INDEX, VFIO_PCI_MSIX_IRQ_INDEX, VFIO_PCI_NUM_IRQS, VFIO_PCI_NUM_REGIONS,
    VFIO_PCI_REQ_IRQ_INDEX, VFIO_REGION_INFO_FLAG_READ, VFIO_REGION_INFO_FLAG_WRITE,
    vfio_region_info,
};
use vfio_user::{DmaMapFlags, DmaUnmapFlags, IrqInfo, Server, ServerBackend, ServerRegion};

use crate::config_space::{self, BAR0_SIZE, BAR4_SIZE};
use crate::device::Device;
use crate::limits::VECTORS;
use crate::memory::Access;

/// How long the device's thread sleeps while nothing has a clock.
const SLEEP: Duration = Duration::from_millis(100);
/// How long while a link has one.
const NAP: Duration = Duration::from_millis(1);
/// How long while only taps may bring something, which wake it.
const EARS: Duration = Duration::from_millis(3);
/// How long while a frame waits for a buffer or for a driver.
const HELD: Duration = Duration::from_micros(500);
/// How long the end waits for the thread of the socket, which can't be told to leave a client.
const FAREWELL: Duration = Duration::from_secs(1);

/// What the threads share.
pub(crate) struct Shared {
    device: Mutex<Device>,
    /// Threads that want the device for something else than a step: the device's thread makes room
    /// for them.
    waiting: AtomicUsize,
    /// Something was left to move.
    left: Mutex<bool>,
    wake: Condvar,
    stop: AtomicBool,
    /// A client is connected.
    connected: AtomicBool,
}

impl Shared {
    pub(crate) fn new(device: Device) -> Self {
        Self {
            device: Mutex::new(device),
            waiting: AtomicUsize::new(0),
            left: Mutex::new(false),
            wake: Condvar::new(),
            stop: AtomicBool::new(false),
            connected: AtomicBool::new(false),
        }
    }

    /// The device, ahead of its thread. A panic while another had it was told there; what it holds
    /// is checked at each use anyway.
    pub(crate) fn device(&self) -> MutexGuard<'_, Device> {
        // Relaxed: the counter only makes the other thread wait longer.
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let device = self.device.lock().unwrap_or_else(PoisonError::into_inner);
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        device
    }

    /// Tells the device's thread that there is something to move.
    pub(crate) fn wake(&self) {
        *self.left.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.wake.notify_one();
    }

    /// Sleeps until [`Shared::wake`], at most so long.
    fn sleep(&self, most: Duration) {
        let left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut left, _) = self
            .wake
            .wait_timeout_while(left, most, |left| !*left)
            .unwrap_or_else(PoisonError::into_inner);
        *left = false;
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }
}

/// The threads of a function that is served.
pub(crate) struct Threads {
    shared: Arc<Shared>,
    /// The listening socket, to end waiting for clients.
    listener: OwnedFd,
    socket: Option<JoinHandle<()>>,
    device: Option<JoinHandle<()>>,
    file: SocketFile,
}

impl Threads {
    /// Binds the socket and starts.
    pub(crate) fn start(shared: &Arc<Shared>, path: &Path) -> Result<Self, crate::Error> {
        let (listener, file) = SocketFile::bind(path)?;
        let listener = OwnedFd::from(listener);
        let twin = listener.try_clone()?;
        let (ears, timed) = {
            let device = shared.device();
            (device.function.ears(), device.function.is_timed())
        };
        let device = thread::Builder::new()
            .name("mana-device".to_owned())
            .spawn({
                let shared = Arc::clone(shared);
                move || move_packets(&shared, ears, timed)
            })?;
        let socket = thread::Builder::new().name("mana-vfio".to_owned()).spawn({
            let shared = Arc::clone(shared);
            move || serve(&shared, listener)
        })?;
        Ok(Self {
            shared: Arc::clone(shared),
            listener: twin,
            socket: Some(socket),
            device: Some(device),
            file,
        })
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.file.remove();
        self.shared.stop.store(true, Ordering::Relaxed);
        // Ends the wait for a client.
        let _ended = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
        self.shared.wake();
        if let Some(thread) = self.device.take() {
            // Its panic was printed where it happened.
            let _ended = thread.join();
        }
        let since = Instant::now();
        if let Some(thread) = self.socket.take() {
            while !thread.is_finished() && since.elapsed() < FAREWELL {
                thread::sleep(Duration::from_millis(1));
            }
            if thread.is_finished() {
                let _ended = thread.join();
            } else {
                // It waits for what its client says next: nothing of the function is left for it.
                self.shared.device().fall_off();
            }
        }
    }
}

/// The device's thread.
fn move_packets(shared: &Shared, mut ears: Option<Ears>, timed: bool) {
    while !shared.stop.load(Ordering::Relaxed) {
        if shared.waiting.load(Ordering::Relaxed) > 0 {
            thread::yield_now();
            continue;
        }
        let moved = {
            let device = shared.device.lock();
            device.unwrap_or_else(PoisonError::into_inner).step()
        };
        if moved > 0 {
            continue;
        }
        match &mut ears {
            Some(ears) => {
                if ears.wait(EARS) {
                    shared.sleep(HELD);
                }
            }
            None if timed => shared.sleep(NAP),
            None => shared.sleep(SLEEP),
        }
    }
}

/// The thread of the socket: one client after the other.
fn serve(shared: &Shared, listener: OwnedFd) {
    let server = Server::from_owned_fd(listener, true, irqs(), regions());
    while !shared.stop.load(Ordering::Relaxed) {
        let mut backend = Backend { shared };
        // The crate takes some nonsense of a client for a bug of its own.
        let ended = panic::catch_unwind(AssertUnwindSafe(|| server.run(&mut backend)));
        shared.connected.store(false, Ordering::Relaxed);
        shared.device().release();
        match ended {
            Ok(Ok(())) => tracing::info!("the client has left"),
            Ok(Err(error)) if shared.stop.load(Ordering::Relaxed) => {
                tracing::debug!("the socket is closed: {error}");
            }
            Ok(Err(error)) => {
                tracing::warn!("the client is lost: {error}");
                // Without descriptors for a client some may be freed meanwhile.
                thread::sleep(Duration::from_millis(10));
            }
            Err(_) => tracing::warn!("the client's messages make no sense"),
        }
    }
}

/// The interrupts of the function: MSI-X, and the wish that the client gives it back.
fn irqs() -> Vec<IrqInfo> {
    let info = |index| {
        let count = match index {
            VFIO_PCI_MSIX_IRQ_INDEX => u32::from(VECTORS),
            VFIO_PCI_REQ_IRQ_INDEX => 1,
            _ => 0,
        };
        IrqInfo {
            index,
            flags: if count > 0 { VFIO_IRQ_INFO_EVENTFD } else { 0 },
            count,
        }
    };
    (0..VFIO_PCI_NUM_IRQS).map(info).collect()
}

/// The regions, all trapped: a doorbell page that is mapped would lose stores
/// (reference/kernel-in-a-vm.md §8 no. 7).
fn regions() -> Vec<ServerRegion> {
    let region = |index| {
        let size = match index {
            VFIO_PCI_BAR0_REGION_INDEX => BAR0_SIZE,
            VFIO_PCI_BAR4_REGION_INDEX => BAR4_SIZE,
            VFIO_PCI_CONFIG_REGION_INDEX => config_space::SIZE as u64,
            _ => 0,
        };
        let both = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
        ServerRegion {
            region_info: vfio_region_info {
                argsz: size_of::<vfio_region_info>() as u32,
                flags: if size > 0 { both } else { 0 },
                index,
                cap_offset: 0,
                size,
                offset: 0,
            },
            sparse_areas: Vec::new(),
            mmap_fd: None,
        }
    };
    (0..VFIO_PCI_NUM_REGIONS).map(region).collect()
}

/// What a client's messages do.
struct Backend<'s> {
    shared: &'s Shared,
}

impl Backend<'_> {
    fn device(&self) -> MutexGuard<'_, Device> {
        self.shared.connected.store(true, Ordering::Relaxed);
        self.shared.device()
    }
}

/// Bytes of the largest access: more than any processor does at once, so that a client can't make the
/// server reserve gigabytes.
const LARGEST: usize = 1 << 20;

impl ServerBackend for Backend<'_> {
    fn region_read(&mut self, region: u32, offset: u64, data: &mut [u8]) -> io::Result<()> {
        if data.len() > LARGEST {
            return Err(invalid("a read that is too long"));
        }
        match region {
            VFIO_PCI_CONFIG_REGION_INDEX => self.device().read_config(offset, data),
            VFIO_PCI_BAR0_REGION_INDEX => self.device().read_bar(offset, data),
            // The MSI-X table is the client's.
            _ => data.fill(0),
        }
        Ok(())
    }

    fn region_write(&mut self, region: u32, offset: u64, data: &[u8]) -> io::Result<()> {
        match region {
            VFIO_PCI_CONFIG_REGION_INDEX => self.device().write_config(offset, data),
            VFIO_PCI_BAR0_REGION_INDEX => {
                let left = self.device().write_bar(offset, data);
                if left {
                    self.shared.wake();
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn dma_map(
        &mut self,
        flags: DmaMapFlags,
        offset: u64,
        address: u64,
        size: u64,
        fd: Option<File>,
    ) -> io::Result<()> {
        let access = Access {
            read: flags.contains(DmaMapFlags::READ),
            write: flags.contains(DmaMapFlags::WRITE),
        };
        let memory = Arc::clone(&self.device().memory);
        let mapped = memory.map(address, size, fd, offset, access);
        if let Err(error) = &mapped {
            tracing::warn!("DMA map of {size:#x} bytes at {address:#x}: {error}");
        }
        mapped
    }

    fn dma_unmap(&mut self, flags: DmaUnmapFlags, address: u64, size: u64) -> io::Result<()> {
        let memory = Arc::clone(&self.device().memory);
        match flags.contains(DmaUnmapFlags::UNMAP_ALL) {
            true => memory.unmap(0, u64::MAX),
            false => memory.unmap(address, size),
        }
    }

    fn reset(&mut self) -> io::Result<()> {
        self.device().reset();
        Ok(())
    }

    fn set_irqs(
        &mut self,
        index: u32,
        flags: u32,
        start: u32,
        count: u32,
        fds: Vec<File>,
    ) -> io::Result<()> {
        let mut device = self.device();
        let interrupts = match index {
            VFIO_PCI_MSIX_IRQ_INDEX => &mut device.interrupts,
            VFIO_PCI_REQ_IRQ_INDEX => &mut device.give_back,
            _ => return Err(invalid("no such interrupts")),
        };
        let last = start.checked_add(count);
        let last = last.filter(|last| *last <= u32::from(VECTORS));
        let last = last.ok_or_else(|| invalid("no such vectors"))?;
        if flags & VFIO_IRQ_SET_ACTION_TRIGGER == 0 {
            // The client masks vectors by not listening.
            return Err(invalid("vectors are not masked here"));
        }
        if flags & VFIO_IRQ_SET_DATA_EVENTFD != 0 {
            // Without descriptors nobody is to listen.
            let mut files = fds.into_iter();
            for vector in start..last {
                interrupts.listen(vector as u16, files.next())?;
            }
        } else if flags & VFIO_IRQ_SET_DATA_NONE != 0 {
            match count {
                0 => interrupts.silence(),
                _ => (start..last).for_each(|vector| interrupts.raise(vector as u16)),
            }
        }
        Ok(())
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}
