//! Machines that come and go, sockets that are in the way, and what a host does to a device.

use std::fs;
use std::io::Write;
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};

use crate::guest::{
    ANSWER, BASE, CONFIG, CQ, Device, EQ, Guest, REQUEST, RQ, SIZE, SQ, field, message,
    read_counter,
};
use mana_model::parse_device;
use mana_model_pci::{Served, Settings};

#[test]
fn a_guest_may_end_at_any_moment_and_the_next_finds_a_fresh_device() {
    let device = Device::new("model0,ports=2");
    for moment in 0..9 {
        let mut guest = Guest::start(&device.socket());
        let steps: [&dyn Fn(&mut Guest); 8] = [
            &|guest| guest.write(guest.channel, &[1; 8]),
            &|guest| guest.establish(),
            &|guest| drop(guest.request(&message(4, 2, 40, 44, &[]))),
            &|guest| drop(guest.request(&message(29, 0, 48, 48, &[]))),
            &|guest| {
                guest.put_wqe(SQ, 6, 24, REQUEST, 40);
                guest.put_wqe(RQ, 3, 8, ANSWER, 4096);
            },
            &|guest| guest.ring(0x000, 32 * 8),
            &|guest| guest.client.dma_unmap(BASE, SIZE).unwrap(),
            &|guest| guest.ring(0x400, 32 * 4),
        ];
        for step in &steps[..moment] {
            step(&mut guest);
        }
        guest.client.shutdown().unwrap();
        drop(guest);
        device.assert_released();
    }
    let mut guest = Guest::start(&device.socket());
    assert_eq!(
        guest.read::<32>(guest.channel),
        [0; 32],
        "nothing of the last guest"
    );
    guest.establish();
    assert_eq!(field(&guest.request(&message(2, 0, 40, 72, &[])), 24), 0);
}

/// Headers of vfio-user: id, command, size, flags, error, in 2, 2, 4, 4 and 4 bytes.
#[test]
fn a_client_that_talks_nonsense_is_left_and_the_next_is_served() {
    let device = Device::new("model0");
    let header = |command: u16, size: u32| {
        let mut bytes = vec![0; 16];
        bytes[2..4].copy_from_slice(&command.to_le_bytes());
        bytes[4..8].copy_from_slice(&size.to_le_bytes());
        bytes
    };
    let version = |size: u32, data: &[u8]| [&header(1, size)[..], &[0, 0, 1, 0], data].concat();
    for nonsense in [
        vec![],
        vec![7],
        vec![0xFF; 100],
        header(1, 0),
        version(0, b""),
        version(20, b""),
        version(24, b"abcd"),
        version(0xFFFF_FFFF, b"{}\0"),
        version(23, b"{}\0"),
        header(200, 16),
        header(9, 32),
        [header(9, 32), vec![0xFF; 16]].concat(),
        [header(10, 32), vec![0xFF; 16]].concat(),
        [header(2, 48), vec![0xFF; 32]].concat(),
        [header(8, 36), vec![0xFF; 20]].concat(),
    ] {
        let mut stream = UnixStream::connect(device.socket()).unwrap();
        // It may have been left before all was said.
        let _said = stream.write_all(&nonsense);
        let _said = stream.shutdown(Shutdown::Both);
        drop(stream);
        let mut guest = Guest::start(&device.socket());
        guest.establish();
    }
    device.assert_released();
}

#[test]
fn resets_take_everything_down_and_leave_memory_and_vectors_to_the_machine() {
    let device = Device::new("model0");
    let mut guest = Guest::start(&device.socket());
    let resets: [fn(&mut Guest); 3] = [
        |guest| guest.client.reset().unwrap(),
        // PCI Express: initiate function level reset, bit 15 of device control at 8.
        |guest| guest.client.region_write(CONFIG, 0x48, &[0, 0x80]).unwrap(),
        // §6.2: reset_vf, bit 24 of the header.
        |guest| guest.write(guest.channel + 28, &[2, 0, 0, 1]),
    ];
    for reset in resets {
        guest.client.region_write(CONFIG, 4, &[6, 0]).unwrap();
        guest.establish();
        guest.request(&message(29, 0, 48, 48, &[]));
        reset(&mut guest);
        assert_eq!(
            (device.state("established"), device.state("empty")),
            ("no".into(), "yes".into())
        );
        assert_eq!(device.state("maps"), "1");
    }
    guest.client.region_write(CONFIG, 4, &[6, 0]).unwrap();
    guest.establish();
    device.served.run("reset-request").unwrap();
    assert_eq!(guest.fired(0), 1, "it still listens");
}

#[test]
fn a_host_asks_for_the_device_and_takes_it() {
    let device = Device::new("model0");
    let mut guest = Guest::start(&device.socket());
    guest.establish();
    let unheard = device.served.run("remove").unwrap_err().to_string();
    assert!(unheard.contains("does not listen"), "{unheard}");
    let wish = guest.listen_to_wish();
    device.served.run("remove").unwrap();
    assert_eq!(read_counter(&wish), 1);
    assert_eq!(
        field(&guest.request(&message(2, 0, 40, 72, &[])), 24),
        0,
        "until it is given back"
    );
    device.served.run("fall-off").unwrap();
    assert_eq!(guest.read::<8>(0), [0xFF; 8]);
    let mut id = [0; 4];
    guest.client.region_read(CONFIG, 0, &mut id).unwrap();
    assert_eq!(id, [0xFF; 4]);
    guest.write(guest.channel + 28, &[2, 0, 0, 0]);
    guest.ring(0x000, 32);
    assert_eq!(guest.read::<4>(guest.channel + 28), [0xFF; 4]);
    drop(guest);
    device.assert_released();
    Guest::start(&device.socket()).establish();
}

#[test]
fn a_vector_that_fired_unheard_is_told_to_who_listens_later() {
    let device = Device::new("model0");
    let mut guest = Guest::start(&device.socket());
    // VFIO_IRQ_SET_DATA_NONE and TRIGGER with no vectors: nobody listens any more.
    guest.client.set_irqs(2, 1 | 32, 0, 0, &[]).unwrap();
    let smc = Guest::establish_smc([EQ, CQ, RQ, SQ], 0);
    assert_eq!(guest.send_smc(smc), 0x81);
    assert_eq!(guest.fired(0), 0);
    let file = std::fs::File::from(
        rustix::event::eventfd(0, rustix::event::EventfdFlags::NONBLOCK).unwrap(),
    );
    let listen = |guest: &mut Guest| {
        guest
            .client
            .set_irqs(2, 4 | 32, 0, 1, &[file.as_raw_fd()])
            .unwrap();
    };
    listen(&mut guest);
    assert_eq!(read_counter(&file), 1);
    listen(&mut guest);
    assert_eq!(read_counter(&file), 0, "it is told once");
}

#[test]
fn sockets_that_can_not_be_had_are_named_with_what_helps() {
    let folder = tempfile::tempdir().unwrap();
    let start = |name: &str| {
        let path = folder.path().join(name);
        Served::start(parse_device("model0").unwrap(), &path, Settings::default())
    };
    let first = start("one").unwrap();
    let mode = fs::metadata(folder.path().join("one"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let error = |name: &str| match start(name) {
        Ok(_) => panic!("{name} is served"),
        Err(error) => error.to_string(),
    };
    let text = error("one");
    assert!(
        text.contains("one") && text.contains("another model listens"),
        "{text}"
    );
    assert!(
        text.contains("name a free path, or end that program"),
        "{text}"
    );
    fs::write(folder.path().join("file"), "text").unwrap();
    assert!(error("file").contains("is no socket: name a free path, or remove it"));
    assert!(error("no/such/folder").contains("in which this user can write"));
    assert!(error(&"long".repeat(40)).contains("name a shorter path"));
    // One that a killed server has left: nobody listens any more.
    drop(UnixListener::bind(folder.path().join("stale")).unwrap());
    drop(start("stale").unwrap());
    assert!(
        !folder.path().join("stale").exists(),
        "it goes with its server"
    );
    // The first has noticed nothing.
    Guest::start(&folder.path().join("one")).establish();
    drop(first);
    assert!(!folder.path().join("one").exists());
}

#[test]
fn what_a_machine_can_not_be_given_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let config = parse_device("model0,pf=on").unwrap();
    let served = Served::start(config, &folder.path().join("mana"), Settings::default());
    let text = served.err().unwrap().to_string();
    assert!(
        text.contains("pf=on") && text.contains("leave it out"),
        "{text}"
    );
    assert!(!folder.path().join("mana").exists());
}

#[test]
fn a_server_ends_beside_a_guest_that_stays() {
    let device = Device::new("model0");
    let mut guest = Guest::start(&device.socket());
    guest.establish();
    drop(device);
    assert_eq!(guest.read::<4>(0), [0xFF; 4], "the device fell off the bus");
}

/// What the clients of a model's control socket read (`mana_model::control::Client`).
#[test]
fn commands_are_answered_as_those_of_a_model_in_process() {
    let device = Device::new("model0,mac=00:0d:3a:76:3b:d0,mac=00:0d:3a:76:3b:d1,link=sink:keep");
    let run = |line: &str| device.served.run(line).unwrap();
    assert_eq!(
        run("ports"),
        "port 0 device 0 mac 00:0d:3a:76:3b:d0 netdev - down link up\n\
         port 1 device 0 mac 00:0d:3a:76:3b:d1 netdev - down link up\n"
    );
    run("link 1 down");
    assert!(run("ports").contains("d1 netdev - down link down"));
    assert!(run("objects").starts_with("contexts 0\npds 0\nmrs 0\n"));
    assert_eq!(
        (run("undecided"), run("step")),
        (String::new(), "moved 0\n".into())
    );
    assert_eq!(run("operations"), "operations 0\n");
    assert_eq!(run("wire 0 loop"), "");
    assert_eq!(device.served.run("wire 2 loop").unwrap_err().errno.0, 19);
    assert!(device.served.run("wire 0 gen").is_err());
    let mut guest = Guest::start(&device.socket());
    guest.establish();
    guest.request(&message(29, 0, 48, 48, &[]));
    assert!(run("objects").contains("\npds 1\n"));
    assert_eq!(run("operations"), "operations 1\n");
    run("reset-request 0");
    assert!(device.served.run("reset-request 1").is_err());
    assert_eq!(guest.event(), Some((135, 0)));
}
