//! testpmd's csum mode over a capture whose checksums are spoilt: every packet leaves mended, whoever
//! computes, and what the device found wrong is told.

#![forbid(unsafe_code)]

use std::fs;
use std::process::Command;

use conformance::packets::{Kind, frame};
use conformance::{capture, rfc1071};

/// A VLAN tag without priority, which MANA does not report.
const TAG: [u8; 4] = [0x81, 0x00, 0x01, 0x23];

/// Where a frame of [`frame`] has its TCP or UDP checksum.
fn field(kind: Kind) -> usize {
    let l4 = if kind.v6() { 54 } else { 34 };
    l4 + if kind.protocol() == 6 { 16 } else { 6 }
}

/// Frames as they must leave but for their MACs, and as they arrive: of each four, one is right, one
/// has a wrong IPv4 header checksum, one a wrong TCP or UDP checksum, and one in place of that only
/// the sum of the pseudo header, as a kernel leaves it for its network card. Every fifth has a VLAN
/// tag, which the device takes out and must put back in.
fn traffic() -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut traffic = Vec::new();
    for seed in 0..800_u32 {
        let kind = Kind::TRANSPORT[seed as usize / 4 % 4];
        let right = frame(kind, seed % 64, seed, 80 + seed as usize * 37 % 1434);
        let mut wrong = right.clone();
        let at = field(kind);
        match seed % 4 {
            1 if !kind.v6() => wrong[24] ^= 0x55,
            2 => wrong[at] ^= 0x55,
            3 => {
                let l4 = if kind.v6() { 54 } else { 34 };
                let addresses = if kind.v6() { 22..54 } else { 26..34 };
                let mut pseudo = right[addresses].to_vec();
                pseudo.extend([0, kind.protocol()]);
                pseudo.extend(((right.len() - l4) as u16).to_be_bytes());
                wrong[at..at + 2].copy_from_slice(&rfc1071::sum(&pseudo).to_be_bytes());
            }
            _ => {}
        }
        let mut frames = [right, wrong];
        if seed % 5 == 0 {
            for frame in &mut frames {
                frame.splice(12..12, TAG);
            }
        }
        let [right, wrong] = frames;
        traffic.push((right, wrong));
    }
    traffic
}

#[test]
fn a_capture_with_spoilt_checksums_leaves_mended() {
    let program = std::env::var_os("MANA_BIN")
        .expect("MANA_BIN names no program; `cargo xtask test --tier model` builds and sets it");
    let traffic = traffic();
    let arriving: Vec<_> = traffic.iter().map(|(_, wrong)| wrong.clone()).collect();
    let mut expected: Vec<_> = traffic.into_iter().map(|(right, _)| right).collect();
    for frame in &mut expected {
        frame[..6].copy_from_slice(&[2, 0, 0, 0, 0, 9]);
        frame[6..12].copy_from_slice(&[0x00, 0x0d, 0x3a, 0x76, 0x3b, 0xd0]);
    }
    expected.sort();
    for choice in [
        "--csum=sw",
        "--csum=hw",
        "--tx-offloads=0x800a",
        "--csum=udp=hw",
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let (rx, tx) = (folder.path().join("rx.pcap"), folder.path().join("tx.pcap"));
        fs::write(&rx, capture::write(&arriving)).expect("a file");
        let device = format!(
            "--vdev=model0,mac=00:0d:3a:76:3b:d0,link=pcap:rx={}:tx={}",
            rx.display(),
            tx.display()
        );
        let output = Command::new(&program)
            .args(["testpmd", &device, "--", "--forward-mode=csum", choice])
            .args(["--eth-peer=0,02:00:00:00:00:09", "--rxq=2", "--json"])
            .args(["--total-num-mbufs=8192", "--no-huge"])
            .output()
            .expect("mana starts");
        let (stdout, stderr) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        assert!(output.status.success(), "{choice}\n{stdout}\n{stderr}");
        let json: serde_json::Value =
            serde_json::from_str(stdout.lines().last().expect("output")).expect("JSON");
        assert_eq!(json["findings"], 0, "{choice}: {stderr}");
        let mut came = capture::read(&fs::read(&tx).expect("the capture"));
        came.sort();
        assert_eq!(came.len(), expected.len(), "{choice}");
        for frame in &came {
            let mut untagged = frame.clone();
            if frame[12..16] == TAG {
                untagged.drain(12..16);
            }
            assert_eq!(rfc1071::verify(&untagged), Ok(()), "{choice}");
        }
        assert!(came == expected, "{choice}: bytes changed on the way");
        // Of 200 fours one in two is IPv4; of the others two checksums in four are wrong.
        let line = "\n  Bad-ipcsum: 100            Bad-l4csum: 400           Bad-outer-l4csum: 0";
        assert!(stdout.contains(line), "{choice}\n{stdout}");
    }
}
