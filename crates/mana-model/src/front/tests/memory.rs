//! PD, MR, channel, CQ.

use std::os::fd::AsRawFd;

use uverbs_abi::ids::object;
use uverbs_abi::{Errno, wire};
use zerocopy::IntoBytes;

use super::program::{Program, UNANSWERED};
use super::{in_each_kernel, model};
use crate::config::Kernel;

#[test]
fn a_memory_region_has_a_key_and_belongs_to_its_pd() {
    in_each_kernel("", |_, model| {
        let program = Program::start(model);
        let pd = program.alloc_pd().unwrap();
        let start = program.memory(8192).address();
        let mr = program.reg_mr(pd, start, 8192, 1).unwrap();
        let other = program.reg_mr(pd, start, 4096, 0).unwrap();
        assert_ne!(mr.lkey, other.lkey);
        assert_eq!(program.destroy(object::PD, pd), Err(Errno::EBUSY));
        for handle in [mr.mr_handle, other.mr_handle] {
            assert_eq!(program.destroy(object::MR, handle), Ok(vec![]));
        }
        assert_eq!(program.destroy(object::PD, pd), Ok(vec![]));
    });
}

#[test]
fn access_bits_are_those_of_the_kernel() {
    // Local write; with remote read; remote write without local write; atomic; optional bit 20.
    for (access, in_6_12, in_7_3) in [
        (0, Ok(()), Ok(())),
        (1, Ok(()), Ok(())),
        (7, Ok(()), Ok(())),
        (2, Err(Errno::EINVAL), Err(Errno::EINVAL)),
        (1 | 8, Err(Errno::EINVAL), Ok(())),
        (1 | 32, Err(Errno::EINVAL), Ok(())),
        (1 | 1 << 20, Ok(()), Ok(())),
        (1 | 64, Err(Errno::EOPNOTSUPP), Err(Errno::EOPNOTSUPP)),
    ] {
        in_each_kernel("", |kernel, model| {
            let program = Program::start(model);
            let pd = program.alloc_pd().unwrap();
            let start = program.memory(4096).address();
            let expected = match kernel {
                Kernel::V6_12 | Kernel::V5_15Azure => in_6_12,
                Kernel::V7_3 => in_7_3,
            };
            let got = program.reg_mr(pd, start, 4096, access).map(|_| ());
            assert_eq!(got, expected, "{access:#x} on {kernel:?}");
        });
    }
}

#[test]
fn reg_mr_checks_range_offset_and_pd() {
    in_each_kernel("", |_, model| {
        let program = Program::start(model);
        let pd = program.alloc_pd().unwrap();
        let start = program.memory(4096).address();
        let reg = |start, length, hca_va, pd_handle| {
            let request = wire::RegMr {
                response: 0,
                start,
                length,
                hca_va,
                pd_handle,
                access_flags: 1,
            };
            let answer = program.write::<wire::RegMrResp>(9, request.as_bytes());
            answer.map(|_| ())
        };
        assert_eq!(reg(start, 4096, start, pd), Ok(()));
        assert_eq!(reg(start + 8, 8, start + 8, pd), Ok(()));
        assert_eq!(reg(start, 0, start, pd), Err(Errno::EINVAL));
        assert_eq!(
            reg(u64::MAX - 4095, 8192, u64::MAX - 4095, pd),
            Err(Errno::EINVAL)
        );
        assert_eq!(reg(start, 8, start + 8, pd), Err(Errno::EINVAL));
        assert_eq!(reg(start, 8, start, 99), Err(Errno::ENOENT));
    });
}

#[test]
fn a_cq_has_no_number_before_a_queue_uses_it() {
    in_each_kernel("", |kernel, model| {
        let program = Program::start(model);
        let (handle, cqid) = program.create_cq(program.cq_spec(128)).unwrap();
        // The first mana_ib answered no driver data, so the caller's memory stays as it was.
        let expected = match kernel {
            Kernel::V6_12 | Kernel::V7_3 => u32::MAX,
            Kernel::V5_15Azure => UNANSWERED,
        };
        assert_eq!(cqid, expected);
        assert_eq!(program.destroy(object::CQ, handle), Ok(vec![0; 8]));
    });
}

#[test]
fn the_first_form_of_create_cq_had_8_bytes_and_no_answer() {
    use uverbs_abi::{Attribute, Value};
    in_each_kernel("", |_, model| {
        let program = Program::start(model);
        let address = program.memory(4096).address().to_ne_bytes();
        let create = |driver: &[u8]| {
            let mut granted = [0; 4];
            program.call(
                object::CQ,
                0,
                &mut [
                    Attribute::new(0, Value::NewHandle(0)),
                    Attribute::new(6, Value::Out(&mut granted)),
                    Attribute::new(1, Value::In(&[64, 0, 0, 0])),
                    Attribute::new(2, Value::In(&[0; 8])),
                    Attribute::new(4, Value::In(&[0; 4])),
                    Attribute::new(0x1000, Value::In(driver)),
                ],
            )
        };
        assert_eq!(create(&address), Ok(()));
        assert_eq!(create(&address[..7]), Err(Errno::EINVAL));
    });
}

#[test]
fn only_7_3_refuses_driver_data_that_it_does_not_know() {
    use uverbs_abi::{Attribute, Value};
    in_each_kernel("", |kernel, model| {
        let program = Program::start(model);
        let mut driver = [0; 24];
        driver[..8].copy_from_slice(&program.memory(4096).address().to_ne_bytes());
        driver[23] = 1;
        let mut granted = [0; 4];
        let call = program.call(
            object::CQ,
            0,
            &mut [
                Attribute::new(0, Value::NewHandle(0)),
                Attribute::new(6, Value::Out(&mut granted)),
                Attribute::new(1, Value::In(&[64, 0, 0, 0])),
                Attribute::new(2, Value::In(&[0; 8])),
                Attribute::new(4, Value::In(&[0; 4])),
                Attribute::new(0x1000, Value::In(&driver)),
            ],
        );
        let expected = match kernel {
            Kernel::V6_12 | Kernel::V5_15Azure => Ok(()),
            Kernel::V7_3 => Err(Errno::EOPNOTSUPP),
        };
        assert_eq!(call, expected);
    });
}

#[test]
fn create_cq_checks_entries_vector_address_and_files() {
    in_each_kernel("", |kernel, model| {
        let program = Program::start(model);
        let spec = program.cq_spec(64);
        let vectors = match kernel {
            Kernel::V6_12 | Kernel::V7_3 => 16,
            Kernel::V5_15Azure => 1,
        };
        let with = |change: &dyn Fn(&mut super::program::CqSpec)| {
            let mut spec = spec;
            change(&mut spec);
            program.create_cq(spec).map(|_| ())
        };
        assert_eq!(with(&|_| {}), Ok(()));
        assert_eq!(with(&|spec| spec.entries = 0), Err(Errno::EINVAL));
        assert_eq!(with(&|spec| spec.entries = 8193), Err(Errno::EINVAL));
        assert_eq!(with(&|spec| spec.vector = vectors), Err(Errno::EINVAL));
        assert_eq!(with(&|spec| spec.vector = vectors - 1), Ok(()));
        assert_eq!(with(&|spec| spec.address += 64), Err(Errno::EINVAL));
        let (channel, events) = (program.channel().unwrap(), program.async_file().unwrap());
        assert_eq!(
            with(&|spec| spec.channel = Some(channel.as_raw_fd())),
            Ok(())
        );
        assert_eq!(
            with(&|spec| spec.event_fd = Some(events.as_raw_fd())),
            Ok(())
        );
        assert_eq!(
            with(&|spec| spec.channel = Some(events.as_raw_fd())),
            Err(Errno::EBADF)
        );
        assert_eq!(
            with(&|spec| spec.event_fd = Some(channel.as_raw_fd())),
            Err(Errno::EBADF)
        );
        assert_eq!(with(&|spec| spec.channel = Some(-1)), Err(Errno::EBADF));
    });
}

#[test]
fn event_files_are_closed_in_children() {
    let model = model(Kernel::V7_3, "");
    let program = Program::start(&model);
    for fd in [program.channel().unwrap(), program.async_file().unwrap()] {
        let flags = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd()));
        let flags = flags.unwrap();
        // O_CLOEXEC is 02000000.
        assert!(
            flags.lines().any(|line| line.ends_with("02000000")),
            "{flags}"
        );
    }
}
