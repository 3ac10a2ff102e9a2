//! Taps of a real kernel, each test in a network namespace of its own.

use std::net::UdpSocket;

use super::host::{self, Raw, frame, in_own_namespace, is_ours, until};
use super::sys::Interfaces;
use super::*;
use std::os::fd::AsFd;

fn open(config: &TapConfig) -> Tap {
    Tap::open(config).unwrap_or_else(|error| panic!("{}: {error}", config.name))
}

fn refusal(config: &TapConfig) -> String {
    Tap::open(config).err().expect("no tap").to_string()
}

/// Both kinds: without and with a virtio-net header.
fn kinds(name: &str) -> [TapConfig; 2] {
    [false, true].map(|csum| TapConfig {
        csum,
        ..TapConfig::new(name)
    })
}

fn multi(name: &str, queues: u16) -> TapConfig {
    TapConfig {
        queues,
        ..TapConfig::new(name)
    }
}

/// The next frame of a test, passing over the kernel's own.
fn read(tap: &mut Tap) -> Option<Vec<u8>> {
    let mut frame = Vec::new();
    while tap.read(&mut frame) {
        if is_ours(&frame) {
            return Some(frame);
        }
    }
    None
}

/// All frames of a test that are there.
fn read_all(tap: &mut Tap) -> Vec<Vec<u8>> {
    tap.listen(1 << 20, true);
    std::iter::from_fn(|| read(tap)).collect()
}

fn flags(name: &str) -> libc::c_int {
    Interfaces::here().unwrap().flags(name).unwrap()
}

#[test]
fn frames_cross_both_ways_as_they_are() {
    in_own_namespace("frames_cross_both_ways_as_they_are", || {
        for config in kinds("t0") {
            let mut tap = open(&config);
            let host = Raw::on("t0");
            let frames: Vec<_> = (60..64).chain([1513, 1514]).collect();
            let frames = frames.into_iter().zip(0..).map(|(len, n)| frame(n, len));
            let frames: Vec<_> = frames.collect();
            for frame in &frames {
                host.send(frame);
            }
            assert_eq!(read_all(&mut tap), frames);
            for frame in &frames {
                tap.write(0, frame);
            }
            let received: Vec<_> = std::iter::from_fn(|| host.receive()).collect();
            assert_eq!(received, frames);
            assert_eq!(tap.dropped(), 0);
        }
    });
}

#[test]
fn a_new_tap_is_up_with_its_mtu_and_gone_afterwards() {
    in_own_namespace("a_new_tap_is_up_with_its_mtu_and_gone_afterwards", || {
        let config = TapConfig {
            mtu: Some(9000),
            ..TapConfig::new("t0")
        };
        let tap = open(&config);
        assert_ne!(flags("t0") & libc::IFF_UP, 0);
        assert_eq!(Interfaces::here().unwrap().mtu("t0").unwrap(), 9000);
        drop(tap);
        assert_eq!(host::index("t0"), 0);
    });
}

#[test]
fn an_existing_tap_is_attached_to_and_left_as_it_is() {
    in_own_namespace("an_existing_tap_is_attached_to_and_left_as_it_is", || {
        host::make_persistent("t0", libc::IFF_TAP);
        let tap = open(&TapConfig::new("t0"));
        assert_eq!(flags("t0") & libc::IFF_UP, 0);
        let error = refusal(&TapConfig::new("t0"));
        assert!(error.contains("in use by another process"), "{error}");
        drop(tap);
        // Its last user wanted another header: ours is set again.
        let [_, with_header] = kinds("t0");
        let last = open(&with_header);
        sys::set_header(&last.shared.queues[0], 12).unwrap();
        drop(last);
        for config in kinds("t0") {
            let mut tap = open(&config);
            host::set_up("t0", true);
            Raw::on("t0").send(&frame(7, 60));
            assert_eq!(read_all(&mut tap), [frame(7, 60)]);
        }
        assert_ne!(host::index("t0"), 0);
    });
}

#[test]
fn an_interface_that_does_not_fit_is_refused_with_what_it_is() {
    in_own_namespace(
        "an_interface_that_does_not_fit_is_refused_with_what_it_is",
        || {
            host::make_persistent("tun0", libc::IFF_TUN);
            host::make_persistent("one", libc::IFF_TAP);
            host::make_persistent("many", libc::IFF_TAP | libc::IFF_MULTI_QUEUE);
            for (config, parts) in [
                (TapConfig::new("lo"), ["not a tap", "ip link del"]),
                (TapConfig::new("tun0"), ["is a tun", "not a tap"]),
                (
                    multi("one", 2),
                    ["without multi_queue", "leave queues= out"],
                ),
                (multi("many", 1), ["with multi_queue", "queues=2"]),
            ] {
                let error = refusal(&config);
                for part in parts {
                    assert!(error.contains(part), "{}: {error}", config.name);
                }
            }
            open(&multi("many", 3));
        },
    );
}

#[test]
fn namespaces_that_can_not_be_entered_are_named() {
    let at = |path: &str| TapConfig {
        netns: Some(path.into()),
        ..TapConfig::new("t0")
    };
    let error = refusal(&at("/run/netns/there-is-none"));
    assert!(error.contains("/run/netns/there-is-none"), "{error}");
    assert!(error.contains("ip netns add"), "{error}");
    in_own_namespace("namespaces_that_can_not_be_entered_are_named", || {
        let error = refusal(&at("/etc/passwd"));
        assert!(error.contains("no file of a network namespace"), "{error}");
    });
}

#[test]
fn a_tap_is_made_in_the_namespace_that_is_named() {
    in_own_namespace("a_tap_is_made_in_the_namespace_that_is_named", || {
        let other = host::other_namespace();
        let config = TapConfig {
            netns: Some(host::path_of(&other)),
            mtu: Some(1400),
            ..TapConfig::new("t0")
        };
        let mut tap = open(&config);
        assert_eq!(host::index("t0"), 0);
        let there = device::inside(other.as_fd(), || {
            Raw::on("t0").send(&frame(1, 60));
            Interfaces::here().unwrap().mtu("t0").unwrap()
        });
        assert_eq!(there.unwrap(), 1400);
        assert_eq!(read_all(&mut tap), [frame(1, 60)]);
        let watcher = Watcher::start(vec![(0, Arc::clone(tap.shared()))]);
        let (name, mtu, carrier) = ("t0".to_owned(), 1400, true);
        let look = Look { name, mtu, carrier };
        assert_eq!(watcher.news().unwrap(), [(0, look)]);
    });
}

#[test]
fn a_turn_brings_so_many_frames_and_the_others_wait() {
    in_own_namespace("a_turn_brings_so_many_frames_and_the_others_wait", || {
        let mut tap = open(&TapConfig::new("t0"));
        let host = Raw::on("t0");
        read_all(&mut tap);
        for number in 0..100 {
            host.send(&frame(number, 60));
        }
        let mut turns = Vec::new();
        let mut raw = Vec::new();
        while turns.iter().sum::<usize>() < 100 {
            tap.listen(64, true);
            let mut count = 0;
            while tap.read(&mut raw) {
                count += usize::from(is_ours(&raw));
            }
            assert!(count <= 64 && (count > 0 || turns.is_empty()));
            turns.push(count);
        }
        assert!(turns.len() >= 2, "{turns:?}");
    });
}

#[test]
fn a_silent_tap_is_passed_over_now_and_then_but_never_for_long() {
    in_own_namespace(
        "a_silent_tap_is_passed_over_now_and_then_but_never_for_long",
        || {
            let mut tap = open(&TapConfig::new("t0"));
            let host = Raw::on("t0");
            // The kernel's own frames of the first second would count as noise.
            let silence = |tap: &mut Tap| {
                for _ in 0..50 {
                    tap.listen(64, false);
                    assert_eq!(read(tap), None);
                }
            };
            silence(&mut tap);
            for number in 0..20 {
                host.send(&frame(number, 60));
                let turn = (0..=QUIET).find(|_| {
                    tap.listen(64, false);
                    read(&mut tap).is_some()
                });
                assert!(turn.is_some(), "frame {number} was not asked for");
                silence(&mut tap);
            }
            host.send(&frame(99, 60));
            tap.listen(64, true);
            assert_eq!(read(&mut tap), Some(frame(99, 60)));
        },
    );
}

#[test]
fn a_tap_that_is_down_drops_and_counts_until_it_is_up_again() {
    in_own_namespace(
        "a_tap_that_is_down_drops_and_counts_until_it_is_up_again",
        || {
            for config in kinds("t0") {
                let mut tap = open(&config);
                let host = Raw::on("t0");
                host::set_up("t0", false);
                tap.write(0, &frame(1, 60));
                tap.write(0, &frame(2, 60));
                assert_eq!(tap.dropped(), 2);
                assert_eq!(read_all(&mut tap), Vec::<Vec<u8>>::new());
                host::set_up("t0", true);
                tap.write(0, &frame(3, 60));
                until(|| host.receive() == Some(frame(3, 60)));
                assert_eq!(tap.dropped(), 2);
            }
        },
    );
}

#[test]
fn a_deleted_tap_drops_and_counts_and_costs_nothing_more() {
    in_own_namespace(
        "a_deleted_tap_drops_and_counts_and_costs_nothing_more",
        || {
            for config in [TapConfig::new("t0"), multi("t0", 4)] {
                let mut tap = open(&config);
                let watcher = Watcher::start(vec![(5, Arc::clone(tap.shared()))]);
                assert!(watcher.news().unwrap()[0].1.carrier);
                let mut ears = Ears::new(vec![Arc::clone(tap.shared())]).unwrap();
                host::delete("t0");
                assert_eq!(read_all(&mut tap), Vec::<Vec<u8>>::new());
                tap.write(3, &frame(1, 60));
                tap.write(0, &frame(2, 60));
                assert_eq!((tap.dropped(), tap.shared.is_gone()), (2, true));
                // A dead descriptor is always ready: waiting must not return at once for ever.
                let start = std::time::Instant::now();
                for _ in 0..20 {
                    assert!(!ears.wait(Duration::from_millis(2)));
                }
                assert!(start.elapsed() >= Duration::from_millis(38));
                let mut looks = Vec::new();
                until(|| {
                    looks = watcher.news().unwrap_or_default();
                    !looks.is_empty()
                });
                let (name, mtu, carrier) = ("t0".to_owned(), 1500, false);
                assert_eq!(looks, [(5, Look { name, mtu, carrier })]);
            }
        },
    );
}

#[test]
fn a_look_follows_name_mtu_state_and_namespace() {
    in_own_namespace("a_look_follows_name_mtu_state_and_namespace", || {
        let mut tap = open(&TapConfig::new("t0"));
        let watcher = Watcher::start(vec![(0, Arc::clone(tap.shared()))]);
        let expect = |name: &str, mtu, carrier| {
            let mut last = Vec::new();
            let name = name.to_owned();
            let look = [(0, Look { name, mtu, carrier })];
            until(|| {
                last = watcher.news().unwrap_or(std::mem::take(&mut last));
                last == look
            });
        };
        expect("t0", 1500, true);
        host::set_mtu("t0", 4000);
        expect("t0", 4000, true);
        host::set_up("t0", false);
        expect("t0", 4000, false);
        host::rename("t0", "blue");
        expect("blue", 4000, false);
        let other = host::other_namespace();
        host::shift("blue", &other);
        assert_eq!(host::index("blue"), 0);
        let there = |act: fn()| device::inside(other.as_fd(), act).unwrap();
        there(|| {
            host::set_up("blue", true);
            host::set_mtu("blue", 1280);
        });
        expect("blue", 1280, true);
        there(|| Raw::on("blue").send(&frame(4, 60)));
        assert_eq!(read_all(&mut tap), [frame(4, 60)]);
        // Looking keeps nothing of the namespace: when its last user goes, it ends, and the tap
        // with it.
        drop(other);
        expect("blue", 1280, false);
        until(|| tap.shared.is_gone());
        tap.write(0, &frame(1, 60));
        assert_eq!(tap.dropped(), 1);
    });
}

#[test]
fn a_watcher_that_was_dropped_holds_no_tap() {
    in_own_namespace("a_watcher_that_was_dropped_holds_no_tap", || {
        for _ in 0..20 {
            let tap = open(&TapConfig::new("t0"));
            let watcher = Watcher::start(vec![(0, Arc::clone(tap.shared()))]);
            drop(tap);
            drop(watcher);
            assert_eq!(host::index("t0"), 0);
        }
    });
}

/// A UDP datagram of flow `flow` between 10.9.0.1 and 10.9.0.2, in this direction or back.
fn datagram(flow: u16, back: bool) -> Vec<u8> {
    let mut frame = vec![0xFF; 6];
    frame.extend([2, 0, 0, 0, 0, 9, 0x08, 0x00]);
    frame.extend([0x45, 0, 0, 40, 0, 0, 0, 0, 64, 17, 0, 0]);
    let mut ends = [([10, 9, 0, 1], 1000 + flow), ([10, 9, 0, 2], 9)];
    if back {
        ends.reverse();
    }
    frame.extend(ends.map(|(host, _)| host).concat());
    let header = crate::checksum::checksum(&frame[14..34]).to_be_bytes();
    frame[24..26].copy_from_slice(&header);
    frame.extend(ends.map(|(_, port)| port.to_be_bytes()).concat());
    // No checksum: 0.
    frame.extend([0, 20, 0, 0]);
    frame.resize(14 + 40, 0x55);
    frame
}

#[test]
fn all_queues_are_read_and_an_answer_comes_by_the_queue_that_asked() {
    in_own_namespace(
        "all_queues_are_read_and_an_answer_comes_by_the_queue_that_asked",
        || {
            let mut tap = open(&multi("t0", 4));
            let host = Raw::of_type("t0", [0x08, 0x00]);
            // The kernel learns a flow's queue while there is a table entry of it: the first packet
            // makes one, the second sets it.
            for queue in [0, 1, 2, 3, 0, 1, 2, 3] {
                tap.write(queue, &datagram(queue as u16, false));
            }
            read_all(&mut tap);
            for flow in 0..4 {
                host.send(&datagram(flow, true));
            }
            let mut frame = Vec::new();
            let mut ports = Vec::new();
            let mut seen = [None; 4];
            for _ in 0..4 {
                // One queue at a time.
                let queue = tap.queue;
                tap.listen(1 << 20, true);
                tap.unasked = 1;
                while tap.read(&mut frame) {
                    if frame[12..14] == [0x08, 0x00] {
                        ports.push(frame[37]);
                        seen[usize::from(frame[37] - 0xE8)] = Some(queue);
                    }
                }
            }
            ports.sort_unstable();
            assert_eq!(ports, [0xE8, 0xE9, 0xEA, 0xEB], "each once");
            assert_eq!(seen, [Some(0), Some(1), Some(2), Some(3)]);
        },
    );
}

#[test]
fn the_kernel_leaves_checksums_to_us_only_where_that_was_asked_for() {
    in_own_namespace(
        "the_kernel_leaves_checksums_to_us_only_where_that_was_asked_for",
        || {
            for config in kinds("t0") {
                let mut tap = open(&config);
                host::set_address("t0", [10, 9, 0, 1]);
                let socket = UdpSocket::bind("10.9.0.1:7000").unwrap();
                socket.set_broadcast(true).unwrap();
                socket.send_to(&[0x55; 100], "10.9.0.255:7001").unwrap();
                tap.listen(1 << 20, true);
                let mut frame = Vec::new();
                until(|| {
                    tap.listen(1 << 20, true);
                    tap.read(&mut frame) && frame[12..14] == [0x08, 0x00] && frame[23] == 17
                });
                let l4 = &frame[34..];
                let pseudo = crate::checksum::pseudo_header(&frame[26..34], 17, l4.len() as u32);
                let whole = crate::checksum::fold(pseudo + crate::checksum::sum(l4)) == 0xFFFF;
                let field = u16::from_be_bytes([l4[6], l4[7]]);
                let only_pseudo = field == crate::checksum::fold(pseudo);
                assert_eq!((whole, only_pseudo), (!config.csum, config.csum));

                // What we write is verified by the kernel: a wrong sum is not received.
                let receiver = UdpSocket::bind("0.0.0.0:9").unwrap();
                receiver.set_nonblocking(true).unwrap();
                let mut wrong = datagram(0, false);
                wrong[29] = 7;
                wrong[30..34].copy_from_slice(&[10, 9, 0, 255]);
                wrong[24..26].fill(0);
                let header = crate::checksum::checksum(&wrong[14..34]).to_be_bytes();
                wrong[24..26].copy_from_slice(&header);
                let mut right = wrong.clone();
                wrong[40..42].copy_from_slice(&[1, 2]);
                right[53] = 0x56;
                tap.write(0, &wrong);
                tap.write(0, &right);
                let mut bytes = [0; 100];
                let mut len = 0;
                until(|| {
                    receiver.recv(&mut bytes).is_ok_and(|bytes| {
                        len = bytes;
                        true
                    })
                });
                assert_eq!((len, bytes[11]), (12, 0x56), "the wrong one was received");
            }
        },
    );
}
