//! The order of messages that real kernels were seen to send (reference/kernel-in-a-vm.md §6), turned
//! into requests again: each must be done, with an answer as long as the recorded one.

use std::collections::BTreeMap;

use mana_model::LinkConfig;

use super::guest::{Guest, Message, Reply};

const V6_12_VERBS: &str = include_str!("recorded/6.12-verbs.txt");
const V6_12_NETDEV: &str = include_str!("recorded/6.12-netdev.txt");
const V7_3_VERBS: &str = include_str!("recorded/7.3-verbs.txt");
const V7_3_ETHERNET: &str = include_str!("recorded/7.3-ethernet.txt");

/// Recordings from probe to removal.
pub(super) const LIVES: [&str; 3] = [V6_12_VERBS, V7_3_VERBS, V7_3_ETHERNET];

/// The requests of a recording, as this device's driver would send them.
pub(super) fn messages(recording: &str) -> Vec<Message> {
    let mut player = Player::new();
    player.play(recording);
    player.sent
}

/// A recorded line: `HWC 0xc CREATE_QUEUE v1/r1 req 96 resp 36 dev 0x2 type 4 … -> eq 10`.
struct Line<'t> {
    text: &'t str,
    words: Vec<&'t str>,
}

impl<'t> Line<'t> {
    fn new(text: &'t str) -> Self {
        let words = text.split_whitespace().collect();
        Self { text, words }
    }

    fn kind(&self) -> u32 {
        number(self.words[1]) as u32
    }

    /// The word behind the last word `name`.
    fn after(&self, name: &str) -> Option<&'t str> {
        let position = self.words.iter().rposition(|word| *word == name)?;
        self.words.get(position + 1).copied()
    }

    /// The number behind the word `name`.
    fn get(&self, name: &str) -> u64 {
        let word = self.after(name);
        number(word.unwrap_or_else(|| panic!("no {name} in {}", self.text)))
    }

    /// The number in parentheses behind the number behind `name`.
    fn size(&self, name: &str) -> u64 {
        let position = self.words.iter().position(|word| *word == name).unwrap();
        number(self.words[position + 2].trim_matches(['(', ')']))
    }
}

fn number(word: &str) -> u64 {
    match word.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).unwrap(),
        None => word.parse().unwrap(),
    }
}

/// What of the recording's numbers are numbers of this device, and what exists, oldest first.
struct Player {
    guest: Guest,
    known: BTreeMap<(&'static str, u64), u64>,
    /// Handles and numbers of domains.
    pds: Vec<(u64, u64)>,
    mrs: Vec<u64>,
    queues: Vec<(u64, u32)>,
    pages: Vec<u64>,
    adapter: u64,
    rnic_cq: u64,
    rnic_qp: u64,
    /// Rings that CREATE_DMA_REGION made and nobody has taken over, as this device's handles.
    regions: Vec<u64>,
    /// All requests.
    sent: Vec<Message>,
}

/// Recorded names of what is unique by its number.
const DOMAIN: &str = "pdid";
const DOMAIN_HANDLE: &str = "pd";
const PAGE: &str = "db";
const REGION: &str = "region";
const EVENTS: &str = "eq";
const OBJECT: &str = "obj";

impl Player {
    fn new() -> Self {
        let guest = Guest::new(&[LinkConfig::Sink { capture: false }], |_| ());
        Self {
            guest,
            known: BTreeMap::new(),
            pds: Vec::new(),
            mrs: Vec::new(),
            queues: Vec::new(),
            pages: Vec::new(),
            adapter: 0,
            rnic_cq: 0,
            rnic_qp: 0,
            regions: Vec::new(),
            sent: Vec::new(),
        }
    }

    /// This device's number for a recorded one. Domains without a recorded number are the youngest.
    fn ours(&self, what: &'static str, recorded: u64) -> u64 {
        match (what, self.pds.last()) {
            (DOMAIN_HANDLE, Some((handle, _))) => return *handle,
            (DOMAIN, Some((_, id))) if recorded != 1 => return *id,
            _ => {}
        }
        *self
            .known
            .get(&(what, recorded))
            .unwrap_or_else(|| panic!("{what} {recorded:#x} was never made"))
    }

    /// This device's number for the recorded one behind `name`.
    fn id(&self, line: &Line<'_>, name: &str, what: &'static str) -> u64 {
        self.ours(what, line.get(name))
    }

    fn play(&mut self, recording: &str) {
        for line in recording.lines().map(Line::new) {
            self.replay(&line);
        }
    }

    fn replay(&mut self, line: &Line<'_>) {
        let (version, answer) = line.words[3].split_once('/').unwrap();
        let [version, answer] =
            [version, answer].map(|word| word.trim_matches(char::is_alphabetic).parse().unwrap());
        let device = number(line.words[9]) as u32;
        let room = line.get("resp") as u32;
        let message = Message::new(line.kind(), device, line.get("req") as usize, room);
        let message = self.fill(line, message.versions(version, answer));
        // The hardware channel's own queue is the front's.
        if line.kind() == 0xA && device == 1 {
            return;
        }
        self.sent.push(message.clone());
        let reply = self.guest.ask(&message);
        assert_eq!(reply.0.len(), room as usize, "{}", line.text);
        let status = line.after("status").map_or(0, number);
        assert_eq!(u64::from(reply.status()), status, "{}", line.text);
        self.note(line, &reply);
    }

    /// Fills a request in as the line says.
    fn fill(&mut self, line: &Line<'_>, message: Message) -> Message {
        let first = line.after("first").map_or(0, number);
        match line.kind() {
            0x1 => message
                .u64(40, 1)
                .u64(48, 1)
                .u64(56, line.get("drv_caps"))
                .u32(96, 0x10),
            0x2 | 0x3 | 0x4 | 0x5 | 0x1D | 0x2_0001 | 0x3_0001 => message,
            0xA if line.words[9] == "0x1" => message,
            0xA => message.u32(40, self.id(line, "eq", EVENTS) as u32),
            0xC => message
                .u32(40, line.get("type") as u32)
                .u32(48, self.id(line, "pdid", DOMAIN) as u32)
                .u32(52, self.id(line, "db", PAGE) as u32)
                .u64(56, self.id(line, "region", REGION))
                .u32(68, line.get("size") as u32)
                .u32(76, line.get("msix") as u32),
            0xD => message
                .u32(40, 4)
                .u32(44, self.id(line, "eq", EVENTS) as u32)
                .u32(48, 1),
            0x16 => message.u32(40, 27).u32(44, 1).u32(48, 1),
            0x18 => message
                .u32(40, 27)
                .u32(44, 1)
                .u32(48, self.pages.pop().unwrap() as u32),
            0x19 => addresses(message, 64, line.get("list"), first)
                .u64(40, line.get("len"))
                .u32(48, line.get("off") as u32)
                .u32(52, line.get("page_type") as u32)
                .u32(56, line.get("count") as u32)
                .u32(60, line.get("list") as u32),
            0x1A => {
                let count = line.words.iter().find_map(|word| word.strip_prefix('+'));
                let count: u64 = count.unwrap().parse().unwrap();
                addresses(message, 56, count, 0x1_0000_0000)
                    .u64(40, self.id(line, "region", REGION))
                    .u32(48, count as u32)
            }
            0x1E => message.u64(40, self.pds.pop().unwrap().0),
            0x1F => {
                let region = match line.get("region") {
                    0 => 0,
                    region => self.ours(REGION, region),
                };
                message
                    .u64(40, self.id(line, "pd", DOMAIN_HANDLE))
                    .u32(48, line.get("type") as u32)
                    .u64(56, region)
                    .u64(64, line.get("va"))
                    .u32(72, line.get("acc") as u32)
            }
            0x20 => message.u64(40, self.mrs.pop().unwrap()),
            0x2_0003 => message
                .u64(40, line.get("vport"))
                .u32(48, self.id(line, "pdid", DOMAIN) as u32)
                .u32(52, self.id(line, "db", PAGE) as u32),
            0x2_0004 => message
                .u64(40, 0x77)
                .u32(48, line.get("type") as u32)
                .u64(56, self.id(line, "wq_region", REGION))
                .u64(64, self.id(line, "cq_region", REGION))
                .u32(72, line.size("wq_region") as u32)
                .u32(76, line.size("cq_region") as u32)
                .u32(84, self.recorded_eq(line)),
            0x2_0005 => {
                let (handle, kind) = self.queues.pop().unwrap();
                message.u32(40, kind).u64(48, handle)
            }
            0x2_0006 => {
                let receives = self.queues.iter().rfind(|(_, kind)| *kind == 2);
                message.u64(40, receives.unwrap().0)
            }
            0x2_0007 => self.steering(line, message),
            0x2_0008 => message.u32(40, line.get("vport_index") as u32),
            0x2_000A => message.u64(40, 0x77),
            0x3_0002 => {
                let events = self.ours(EVENTS, line.get("notify_eq"));
                message.u32(40, events as u32).u64(48, line.get("flags"))
            }
            0x3_0003 | 0x3_0004 | 0x3_0005 | 0x3_0022 => message.u64(40, self.adapter),
            0x3_0006 => {
                let receive = self.regions.pop().unwrap();
                let send = self.regions.pop().unwrap();
                let page = self.known.iter().find(|((what, _), _)| *what == PAGE);
                message
                    .u64(40, self.adapter)
                    .u64(48, self.pds.last().unwrap().0)
                    .u64(56, self.rnic_cq)
                    .u64(64, self.rnic_cq)
                    .u64(72, send)
                    .u64(80, receive)
                    .u32(92, *page.unwrap().1 as u32)
            }
            0x3_0008 => message
                .u64(40, self.adapter)
                .u64(48, self.id(line, "region", REGION))
                .u32(56, self.id(line, "eq", EVENTS) as u32)
                .u32(60, self.id(line, "db", PAGE) as u32),
            0x3_0009 => message.u64(40, self.adapter).u64(48, self.rnic_cq),
            0x3_0007 | 0x3_000D => message.u64(40, self.adapter).u64(48, self.rnic_qp),
            kind => panic!("no rule for {kind:#x}"),
        }
    }

    /// The event queue of CREATE_WQ_OBJ, which stands before the arrow.
    fn recorded_eq(&self, line: &Line<'_>) -> u32 {
        self.ours(EVENTS, line.get("eq")) as u32
    }

    fn steering(&self, line: &Line<'_>, message: Message) -> Message {
        let handle = |recorded| match recorded {
            0 => 0,
            recorded => self.ours(OBJECT, recorded),
        };
        let flag = |name| line.get(name) as u8;
        let default = handle(line.get("def"));
        let mut message = message
            .u64(40, line.get("vport"))
            .u16(48, line.get("n_indir") as u16)
            .u16(50, line.get("off") as u16)
            .u32(52, line.get("rx_en") as u32)
            .u32(56, line.get("rss_en") as u32)
            .u8(60, flag("upd_def"))
            .u8(61, flag("upd_key"))
            .u8(62, flag("upd_tab"))
            .u64(64, default);
        for entry in 0..line.get("n_indir") as usize {
            message = message.u64(line.get("off") as usize + 8 * entry, default);
        }
        message
    }

    /// Notes what an answer made.
    fn note(&mut self, line: &Line<'_>, reply: &Reply) {
        let mut learn = |what, recorded, ours| {
            self.known.insert((what, recorded), ours);
        };
        match line.kind() {
            0x4 => {
                learn(DOMAIN, line.get("pdid"), reply.u32(32).into());
                learn(PAGE, line.get("db"), reply.u32(40).into());
            }
            0xC => learn(EVENTS, line.get("eq"), reply.u32(32).into()),
            0x16 => {
                learn(PAGE, line.get("->"), reply.u32(32).into());
                self.pages.push(reply.u32(32).into());
            }
            0x19 => {
                learn(REGION, line.get("->"), reply.u64(32));
                self.regions.push(reply.u64(32));
            }
            0x1D => self.pds.push((reply.u64(32), reply.u32(40).into())),
            0x1F => self.mrs.push(reply.u64(32)),
            0x2_0004 => {
                learn(OBJECT, line.get("obj"), reply.u64(40));
                self.queues.push((reply.u64(40), line.get("type") as u32));
            }
            0x3_0002 => self.adapter = reply.u64(32),
            0x3_0008 => self.rnic_cq = reply.u64(32),
            0x3_0006 => self.rnic_qp = reply.u64(32),
            _ => {}
        }
    }
}

fn addresses(mut message: Message, offset: usize, count: u64, first: u64) -> Message {
    for index in 0..count {
        message = message.u64(offset + 8 * index as usize, first + 4096 * index);
    }
    message
}

/// All requests of a driver's life from probe to removal; afterwards nothing is left.
fn life(recording: &str) {
    let mut player = Player::new();
    player.play(recording);
    assert!(
        player.guest.function.is_empty(),
        "{:?}",
        player.guest.function.hardware().live()
    );
    assert_eq!(player.guest.function.hardware().findings(), []);
    // And once more, as after a reload.
    player.play(recording);
    assert!(player.guest.function.is_empty());
}

#[test]
fn linux_6_12_lives_as_it_was_seen_to() {
    life(V6_12_VERBS);
}

#[test]
fn linux_7_3_lives_as_it_was_seen_to() {
    life(V7_3_VERBS);
    life(V7_3_ETHERNET);
}

#[test]
fn the_netdev_of_linux_6_12_comes_up_as_it_was_seen_to_and_a_reset_takes_all() {
    let mut player = Player::new();
    let probe = V6_12_VERBS.find("HWC 0x16 ").unwrap();
    player.play(&V6_12_VERBS[..probe]);
    player.play(V6_12_NETDEV);
    let live = player.guest.function.hardware().live();
    assert_eq!((live.work_queues, live.event_queues), (4, 5));
    player.guest.function.reset();
    assert!(player.guest.function.is_empty());
}
