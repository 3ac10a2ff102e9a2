//! A machine with a guest in it, as small as can be: a client of vfio-user, memory, interrupts, and
//! bytes that are written by hand after reference/mana-hardware.md.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mana_model::parse_device;
use mana_model_pci::{Served, Settings};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, memfd_create};
use tempfile::TempDir;
use vfio_user::Client;

/// Bytes of the guest's memory, and where it begins on the bus.
pub const SIZE: u64 = 1 << 20;
pub const BASE: u64 = 0x10_0000;
/// Pages of the hardware channel's queues and buffers.
pub const EQ: u64 = BASE + 0x1000;
pub const CQ: u64 = BASE + 0x2000;
pub const RQ: u64 = BASE + 0x3000;
pub const SQ: u64 = BASE + 0x4000;
pub const REQUEST: u64 = BASE + 0x5000;
pub const ANSWER: u64 = BASE + 0x6000;

/// Regions and interrupts of VFIO's PCI devices (linux/vfio.h).
pub const BAR0: u32 = 0;
pub const CONFIG: u32 = 7;
const MSIX: u32 = 2;
const GIVE_BACK: u32 = 4;
/// VFIO_IRQ_SET_DATA_EVENTFD and VFIO_IRQ_SET_ACTION_TRIGGER.
const LISTEN: u32 = 4 | 32;

/// A served device and the folder of its socket.
pub struct Device {
    pub served: Served,
    folder: TempDir,
}

impl Device {
    pub fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = parse_device(text).unwrap();
        let socket = folder.path().join("mana");
        let served = Served::start(config, &socket, Settings::default()).unwrap();
        Self { served, folder }
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("mana")
    }

    /// The value behind a word of `state`.
    pub fn state(&self, word: &str) -> String {
        let state = self.served.run("state").unwrap();
        let mut lines = state.lines().filter_map(|line| line.split_once(' '));
        let (_, value) = lines.find(|(name, _)| *name == word).unwrap();
        value.to_owned()
    }

    /// Waits until a word of `state` has a value.
    pub fn wait_for(&self, word: &str, value: &str) {
        let until = Instant::now() + Duration::from_secs(60);
        while self.state(word) != value {
            assert!(
                Instant::now() < until,
                "{}",
                self.served.run("state").unwrap()
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// The last machine has left, and nothing of it is here any more.
    pub fn assert_released(&self) {
        self.wait_for("client", "no");
        self.wait_for("established", "no");
        assert_eq!(
            (self.state("empty"), self.state("maps")),
            ("yes".into(), "0".into())
        );
    }
}

/// The guest. Dropping it is its machine's end.
pub struct Guest {
    pub client: Client,
    pub memory: File,
    /// The first vectors' counters.
    vectors: Vec<File>,
    /// Where the shared-memory channel and the doorbells are, by the registers.
    pub channel: u64,
    pub doorbells: u64,
    /// Entries of the channel's EQ and CQ that were read, in all; WQEs that were posted.
    events: u32,
    completions: u32,
    posted: u32,
}

impl Guest {
    /// Starts a machine on the device, with memory mapped, vectors listened to, the bus mastered. Its
    /// memory can be sealed, as QEMU's.
    pub fn start(socket: &Path) -> Self {
        Self::start_with(socket, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)
    }

    /// Likewise with memory of these flags.
    pub fn start_with(socket: &Path, flags: MemfdFlags) -> Self {
        let mut client = Client::new(socket).unwrap();
        let memory = File::from(memfd_create("guest", flags).unwrap());
        memory.set_len(SIZE).unwrap();
        client.dma_map(0, BASE, SIZE, memory.as_raw_fd()).unwrap();
        let vectors: Vec<File> = (0..4).map(|_| counter()).collect();
        for (vector, file) in (0..).zip(&vectors) {
            let fds = [file.as_raw_fd()];
            client.set_irqs(MSIX, LISTEN, vector, 1, &fds).unwrap();
        }
        // Memory space and bus master (PCI command register).
        client.region_write(CONFIG, 4, &[6, 0]).unwrap();
        let mut guest = Self {
            client,
            memory,
            vectors,
            channel: 0,
            doorbells: 0,
            events: 0,
            completions: 0,
            posted: 0,
        };
        // §6.1: "0x08 | u64 | doorbell page zone", "0x18 | u64 | shared-memory (SMC) offset".
        guest.doorbells = u64::from_le_bytes(guest.read(0x08));
        guest.channel = u64::from_le_bytes(guest.read(0x18));
        guest
    }

    pub fn read<const N: usize>(&mut self, offset: u64) -> [u8; N] {
        let mut bytes = [0xEE; N];
        self.client.region_read(BAR0, offset, &mut bytes).unwrap();
        bytes
    }

    pub fn write(&mut self, offset: u64, bytes: &[u8]) {
        self.client.region_write(BAR0, offset, bytes).unwrap();
    }

    pub fn peek(&self, address: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.memory
            .read_exact_at(&mut bytes, address - BASE)
            .unwrap();
        bytes
    }

    pub fn poke(&self, address: u64, bytes: &[u8]) {
        self.memory.write_all_at(bytes, address - BASE).unwrap();
    }

    /// How often a vector fired since the last call.
    pub fn fired(&mut self, vector: usize) -> u64 {
        read_counter(&self.vectors[vector])
    }

    /// Listens to the wish that the machine gives the device back.
    pub fn listen_to_wish(&mut self) -> File {
        let file = counter();
        let fds = [file.as_raw_fd()];
        self.client.set_irqs(GIVE_BACK, LISTEN, 0, 1, &fds).unwrap();
        file
    }

    /// Writes a message to the shared-memory channel, dword by dword, and reads the last one back.
    pub fn send_smc(&mut self, dwords: [u32; 8]) -> u32 {
        for (index, dword) in (0..).zip(dwords) {
            self.write(self.channel + 4 * index, &dword.to_le_bytes());
        }
        u32::from_le_bytes(self.read(self.channel + 28))
    }

    /// §6.2: four page numbers of 48 bits, their high nibbles, the vector, the header.
    pub fn establish_smc([eq, cq, rq, sq]: [u64; 4], vector: u32) -> [u32; 8] {
        let mut bytes = [0_u8; 32];
        let mut nibbles = 0_u16;
        for (index, address) in [eq, cq, rq, sq].into_iter().enumerate() {
            let page = address >> 12;
            bytes[6 * index..6 * index + 6].copy_from_slice(&page.to_le_bytes()[..6]);
            nibbles |= ((page >> 48) as u16) << (4 * index);
        }
        bytes[24..26].copy_from_slice(&nibbles.to_le_bytes());
        bytes[26..28].copy_from_slice(&vector.to_le_bytes()[..2]);
        bytes[28] = 1;
        let mut dwords = [0; 8];
        for (dword, bytes) in dwords.iter_mut().zip(bytes.chunks_exact(4)) {
            *dword = u32::from_le_bytes(bytes.try_into().unwrap());
        }
        dwords
    }

    /// Sets the hardware channel up in zeroed pages, and takes the events that tell of it.
    pub fn establish(&mut self) {
        self.poke(EQ, &[0; 0x4000]);
        (self.events, self.completions, self.posted) = (0, 0, 0);
        let smc = Self::establish_smc([EQ, CQ, RQ, SQ], 0);
        assert_eq!(
            self.send_smc(smc),
            0x81,
            "§6.2: same type, a response, status 0"
        );
        while self.event().is_some() {}
        self.arm_events();
        self.fired(0);
    }

    /// The next event of the channel's EQ, as its type and first dword of details (§2.5).
    pub fn event(&mut self) -> Option<(u8, u32)> {
        let at = EQ + 16 * u64::from(self.events % 256);
        let entry = self.peek(at, 16);
        let lap = (self.events / 256 + 1) & 7;
        if u32::from(entry[15] >> 5) != lap {
            return None;
        }
        self.events += 1;
        let details = u32::from_le_bytes(entry[..4].try_into().unwrap());
        Some((entry[12], details))
    }

    /// §2.7: "0xFF8 | EQ | id[0:15], tail entries[32:62], arm[63]"; the tail starts at the size.
    pub fn arm_events(&mut self) {
        let tail = u64::from((256 + self.events) % 2048);
        let page = self.doorbells;
        self.write(page + 0xFF8, &(tail << 32 | 1 << 63).to_le_bytes());
    }

    /// The next entry of the channel's CQ (§2.4), 64 bytes.
    pub fn completion(&mut self) -> Option<Vec<u8>> {
        let entry = self.peek(CQ + 64 * u64::from(self.completions % 64), 64);
        let lap = (self.completions / 64 + 1) & 7;
        if u32::from(entry[63] >> 5) != lap {
            return None;
        }
        self.completions += 1;
        Some(entry)
    }

    pub fn arm_completions(&mut self) {
        let tail = u64::from((64 + self.completions) % 512);
        let page = self.doorbells;
        self.write(page + 0x800, &(tail << 32 | 1 << 63).to_le_bytes());
    }

    /// A WQE of one element in the channel's SQ (OOB of 24 bytes) or RQ (8 bytes), at unit `at`.
    pub fn put_wqe(&self, ring: u64, at: u32, oob: u8, address: u64, size: u32) {
        // §2.3: dword 1 has num_sge in bits 0-7 and the OOB's dwords in bits 8-10.
        let mut wqe = vec![0, 0, 0, 0, 1, oob / 4, 0, 0];
        wqe.resize(8 + usize::from(oob), 0);
        wqe.extend(address.to_le_bytes());
        // The key of INIT_DATA 9.
        wqe.extend(1_u32.to_le_bytes());
        wqe.extend(size.to_le_bytes());
        self.poke(ring + u64::from(32 * at % 4096), &wqe);
    }

    pub fn ring(&mut self, offset: u64, tail: u32) {
        let page = self.doorbells;
        self.write(page + offset, &(u64::from(tail) << 32).to_le_bytes());
    }

    /// Sends a request; the answer, by the length in its completion (§6.4 dword 6).
    pub fn request(&mut self, request: &[u8]) -> Vec<u8> {
        let turn = self.posted;
        self.posted += 1;
        self.poke(REQUEST, request);
        self.put_wqe(RQ, turn, 8, ANSWER, 4096);
        self.ring(0x400, 32 * (turn + 1));
        // A send WQE has 8 + 24 + 16 bytes: two units.
        self.put_wqe(SQ, 2 * turn, 24, REQUEST, request.len() as u32);
        self.ring(0x000, 64 * (turn + 1));
        let sent = self.completion().expect("the request's completion");
        assert_eq!(sent[60..63], [0, 0, 0], "the channel's SQ");
        assert_eq!(sent[63] & 1, 1, "§2.4: is_sq");
        let got = self.completion().expect("the answer's completion");
        assert_eq!(got[60..64], [0, 0, 0, got[63] & 0xE0], "the channel's RQ");
        assert_eq!(
            got[12..16],
            (32 * turn % 4096).to_le_bytes(),
            "the WQE's offset"
        );
        self.arm_completions();
        while self.event().is_some() {}
        self.arm_events();
        let length = u32::from_le_bytes(got[24..28].try_into().unwrap());
        self.peek(ANSWER, length as usize)
    }
}

/// A request of `len` bytes (§6.4), whose fields are 4 bytes at these offsets.
pub fn message(kind: u32, dev: u32, len: usize, answer: u32, fields: &[(usize, u32)]) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let header = [
        (4, kind),
        (8, 1),
        (12, len as u32),
        (20, kind),
        (24, 1),
        (28, answer),
        (32, dev),
        (36, 0x5A5A),
    ];
    for (at, value) in header.iter().chain(fields) {
        bytes[*at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
    bytes
}

/// The 4 bytes of an answer at an offset.
pub fn field(answer: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(answer[at..at + 4].try_into().unwrap())
}

fn counter() -> File {
    File::from(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap())
}

pub fn read_counter(mut file: &File) -> u64 {
    use std::io::Read;
    let mut count = [0; 8];
    match file.read_exact(&mut count) {
        Ok(()) => u64::from_ne_bytes(count),
        Err(error) => {
            assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
            0
        }
    }
}
