//! Links as the device uses them.

use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::config::{GenConfig, PortConfig};

fn try_links(links: &[LinkConfig], pairs: &[(usize, usize)]) -> Result<Links, ModelError> {
    try_captured(links, &[], pairs)
}

/// Links with a capture each, as far as there are some.
fn try_captured(
    links: &[LinkConfig],
    captures: &[&Path],
    pairs: &[(usize, usize)],
) -> Result<Links, ModelError> {
    let port = |(index, link): (usize, &LinkConfig)| PortConfig {
        link: link.clone(),
        capture: captures.get(index).map(|path| path.to_path_buf()),
        ..PortConfig::default()
    };
    let device = DeviceConfig {
        ports: links.iter().enumerate().map(port).collect(),
        ..DeviceConfig::default()
    };
    Links::new(&[device], pairs)
}

fn links(configs: &[LinkConfig], pairs: &[(usize, usize)]) -> Links {
    try_links(configs, pairs).unwrap()
}

fn replay(rx: &Path, tx: Option<&Path>, pps: Option<u64>) -> LinkConfig {
    LinkConfig::Pcap {
        rx: Some(rx.to_owned()),
        tx: tx.map(Path::to_owned),
        pps,
    }
}

fn receive(links: &mut Links, port: usize) -> Option<Vec<u8>> {
    let mut frame = Vec::new();
    links.receive(port, &mut frame).then_some(frame)
}

/// A capture of ten frames.
fn capture(folder: &TempDir) -> std::path::PathBuf {
    let path = folder.path().join("rx.pcap");
    let mut writer = crate::pcap::Writer::create(&path).unwrap();
    for byte in 0..10u8 {
        let frame = vec![byte; 60 + usize::from(byte)];
        writer
            .write(Duration::from_secs(byte.into()), &frame)
            .unwrap();
    }
    path
}

#[test]
fn a_loop_gives_frames_back_in_order_and_holds_back_when_full() {
    let mut links = links(&[LinkConfig::Loop], &[]);
    let mut sent = 0u32;
    while links.can_send(0) {
        links.send(0, 0, &sent.to_be_bytes());
        sent += 1;
    }
    assert!(sent > 0 && !links.drained() && links.patience(0) == Patience::None);
    for expected in 0..sent {
        assert_eq!(
            receive(&mut links, 0),
            Some(expected.to_be_bytes().to_vec())
        );
        assert!(links.can_send(0));
    }
    assert_eq!(receive(&mut links, 0), None);
    assert!(links.drained());
}

#[test]
fn pairs_cross_and_leave_other_ports_alone() {
    let configs = [LinkConfig::Pair, LinkConfig::Loop, LinkConfig::Pair];
    let mut links = links(&configs, &[(0, 2)]);
    for port in 0..3u8 {
        links.send(port.into(), 0, &[port]);
    }
    for (port, sender) in [(0, 2), (1, 1), (2, 0)] {
        assert_eq!(receive(&mut links, port), Some(vec![sender]));
        assert_eq!(receive(&mut links, port), None);
    }
}

#[test]
fn a_full_peer_holds_back_only_its_own_sender() {
    let mut links = links(&[LinkConfig::Pair, LinkConfig::Pair], &[(0, 1)]);
    while links.can_send(0) {
        links.send(0, 0, &[0]);
    }
    assert!(links.can_send(1));
}

#[test]
fn a_replayed_capture_comes_once_and_is_written_as_it_is_forwarded() {
    let folder = tempfile::tempdir().unwrap();
    let (rx, tx) = (capture(&folder), folder.path().join("tx.pcap"));
    let mut links = links(&[replay(&rx, Some(&tx), None)], &[]);
    assert!(links.patience(0) == Patience::Endless && !links.drained());
    while let Some(frame) = receive(&mut links, 0) {
        links.send(0, 0, &frame);
    }
    assert!(
        !links.drained(),
        "frames are still on their way to the file"
    );
    links.tick();
    links.tick();
    // Readable while the machine still runs, because it is drained.
    assert!(links.drained());
    let frames = crate::pcap::read(&tx).unwrap();
    assert_eq!(frames.len(), 10);
    assert_eq!(frames, crate::pcap::read(&rx).unwrap());
}

#[test]
fn a_capture_is_in_its_file_when_nothing_follows_and_after_a_second_and_after_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let tx = folder.path().join("tx.pcap");
    let config = LinkConfig::Pcap {
        rx: None,
        tx: Some(tx.clone()),
        pps: None,
    };
    let mut links = links(&[config], &[]);
    let written = || crate::pcap::read(&tx).unwrap().len();
    assert_eq!(written(), 0);
    for (millisecond, expected) in [(10, 0), (999, 0), (1000, 3), (1500, 3)] {
        links.send(0, 0, &[1; 60]);
        links.tick_at(Duration::from_millis(millisecond));
        assert_eq!(written(), expected, "{millisecond}");
    }
    links.tick_at(Duration::from_millis(1501));
    assert_eq!(written(), 4);
    links.send(0, 0, &[2; 60]);
    drop(links);
    assert_eq!(written(), 5);
}

#[test]
fn a_rate_paces_and_frames_that_find_no_buffer_do_not_wait() {
    let folder = tempfile::tempdir().unwrap();
    let generator = GenConfig {
        pps: Some(1000),
        ..GenConfig::default()
    };
    let configs = [
        replay(&capture(&folder), None, Some(2000)),
        LinkConfig::Gen(generator),
    ];
    let mut links = links(&configs, &[]);
    assert_eq!([0, 1].map(|port| links.patience(port)), [Patience::None; 2]);
    let count = |links: &mut Links, port| {
        std::iter::repeat_with(|| receive(links, port))
            .map_while(|frame| frame)
            .count()
    };
    assert_eq!((count(&mut links, 0), count(&mut links, 1)), (0, 0));
    links.tick_at(Duration::from_millis(3));
    assert_eq!((count(&mut links, 0), count(&mut links, 1)), (6, 3));
    links.tick_at(Duration::from_millis(6));
    assert_eq!((count(&mut links, 0), count(&mut links, 1)), (4, 3));
    assert!(links.drained(), "an endless generator has nothing to drain");
}

#[test]
fn a_generator_ends_after_its_count_and_a_sink_keeps_what_it_gets() {
    let generator = GenConfig {
        count: Some(3),
        ..GenConfig::default()
    };
    let sink = LinkConfig::Sink { capture: true };
    let mut links = links(&[LinkConfig::Gen(generator), sink], &[]);
    assert!(!links.drained());
    while let Some(frame) = receive(&mut links, 0) {
        assert_eq!((frame.len(), &frame[..6]), (60, &default_mac(0, 0).0[..]));
        links.send(0, 0, &frame);
        links.send(1, 0, &frame);
    }
    assert!(links.drained());
    assert_eq!(links.take_frames(0).len(), 0);
    assert_eq!(links.take_frames(1).len(), 3);
    assert_eq!(links.take_frames(1).len(), 0);
    assert_eq!(receive(&mut links, 1), None);
}

#[test]
fn delivered_frames_arrive_whatever_the_link_is() {
    let generator = LinkConfig::Gen(GenConfig::default());
    let mut links = links(&[generator, LinkConfig::Sink { capture: false }], &[]);
    for port in 0..2 {
        links.deliver(port, &[9]);
        assert!(!links.drained());
        assert_eq!(receive(&mut links, port), Some(vec![9]));
    }
    assert!(links.drained());
}

#[test]
fn a_capture_has_the_frames_of_both_directions_in_order_on_any_link() {
    let folder = tempfile::tempdir().unwrap();
    let files = ["pair", "sink", "replay"].map(|name| folder.path().join(name));
    let configs = [
        LinkConfig::Pair,
        LinkConfig::Sink { capture: false },
        replay(&capture(&folder), None, None),
        LinkConfig::Pair,
    ];
    let paths: Vec<&Path> = files.iter().map(|file| &**file).collect();
    let mut links = try_captured(&configs, &paths, &[(0, 3)]).unwrap();
    let frame = |byte| vec![byte; 60];
    links.send(0, 0, &frame(1));
    links.send(3, 0, &frame(2));
    assert_eq!(receive(&mut links, 0), Some(frame(2)));
    links.send(0, 0, &frame(3));
    links.send(1, 0, &frame(4));
    links.deliver(1, &frame(5));
    assert_eq!(receive(&mut links, 1), Some(frame(5)));
    let replayed = receive(&mut links, 2).unwrap();
    links.send(2, 0, &frame(6));
    assert!(!links.drained());
    for port in 2..4 {
        while receive(&mut links, port).is_some() {}
    }
    links.tick();
    links.tick();
    assert!(links.drained());
    let frames = |index: usize| crate::pcap::read(&files[index]).unwrap();
    assert_eq!(frames(0), [frame(1), frame(2), frame(3)]);
    assert_eq!(frames(1), [frame(4), frame(5)]);
    assert_eq!(frames(2)[..2], [replayed, frame(6)]);
    assert_eq!(frames(2).len(), 11);
    // The format's first bytes: nanoseconds, version 2.4, no frame cut, Ethernet.
    let head = [
        0x4D, 0x3C, 0xB2, 0xA1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0,
    ];
    assert_eq!(std::fs::read(&files[0]).unwrap()[..24], head);
}

#[test]
fn a_file_is_written_by_one_capture_whatever_it_is_called() {
    let folder = tempfile::tempdir().unwrap();
    let (rx, file) = (capture(&folder), folder.path().join("f"));
    let alias = folder.path().join("alias");
    std::os::unix::fs::symlink(&file, &alias).unwrap();
    let sink = || LinkConfig::Sink { capture: false };
    let error = try_captured(&[sink(), sink()], &[&file, &alias], &[]).err();
    let error = error.unwrap().to_string();
    assert!(error.contains("alias: would be written for two"), "{error}");
    let error = try_captured(&[replay(&rx, None, None)], &[&rx], &[]).err();
    assert!(error.unwrap().to_string().contains("is replayed"));
    assert_eq!(crate::pcap::read(&rx).unwrap().len(), 10);
}

#[test]
fn a_capture_that_is_replayed_is_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let rx = capture(&folder);
    let alias = folder.path().join("alias.pcap");
    std::os::unix::fs::symlink(&rx, &alias).unwrap();
    let before = std::fs::read(&rx).unwrap();
    let other = LinkConfig::Pcap {
        rx: None,
        tx: Some(alias),
        pps: None,
    };
    let cases = [
        vec![replay(&rx, Some(&rx), None)],
        vec![replay(&rx, None, None), other.clone()],
        vec![other, replay(&rx, None, None)],
    ];
    for configs in cases {
        let error = try_links(&configs, &[]).err().unwrap().to_string();
        assert!(error.contains("is replayed"), "{error}");
        assert_eq!(std::fs::read(&rx).unwrap(), before);
    }
}

#[test]
fn a_bad_capture_is_named_and_nothing_is_created() {
    let folder = tempfile::tempdir().unwrap();
    let rx = capture(&folder);
    let bytes = std::fs::read(&rx).unwrap();
    std::fs::write(&rx, &bytes[..bytes.len() - 1]).unwrap();
    let tx = folder.path().join("tx.pcap");
    let error = try_links(&[replay(&rx, Some(&tx), None)], &[])
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.contains("rx.pcap: is truncated") && error.contains("at byte"),
        "{error}"
    );
    assert!(!tx.exists());
    let nowhere = folder.path().join("missing/tx.pcap");
    std::fs::write(&rx, &bytes).unwrap();
    let error = try_links(&[replay(&rx, Some(&nowhere), None)], &[])
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.contains("missing/tx.pcap: can't be written: "),
        "{error}"
    );
}
