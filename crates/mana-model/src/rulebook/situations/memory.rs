//! PDs and memory regions (reference/mana-hardware.md §4.8).

use uverbs_abi::ids::{attr, object};
use uverbs_abi::wire;

use super::super::memory::PAGE;
use super::super::program::Program;
use super::super::request::{Answer, Refused};
use super::super::{Recorder, RulebookError};
use super::some;

pub(super) fn record(recorder: &mut Recorder<'_>) -> Result<(), RulebookError> {
    let mut pd = |situation: &str, act: &dyn Fn(&Program) -> Result<String, Refused>| {
        recorder.try_it("ALLOC_PD", situation, act)
    };
    let handle = |answer: Answer| format!("handle={}", super::hex(answer.bytes(attr::CORE_OUT)));
    pd("first", &|p| p.run(p.alloc_pd()).map(handle))?;
    pd("third", &|p| {
        p.pd()?;
        p.pd()?;
        p.run(p.alloc_pd()).map(handle)
    })?;
    pd("after the first of two was destroyed", &|p| {
        let (first, _) = (p.pd()?, p.pd()?);
        p.given("PD DESTROY", p.destroy(object::PD, first))?;
        p.run(p.alloc_pd()).map(handle)
    })?;
    pd("with driver data out", &|p| {
        let request = p.alloc_pd();
        let room = super::super::request::Argument::Out(8);
        p.run(request.with(attr::UHW_OUT, room)).map(handle)
    })?;
    regions(recorder)
}

fn regions(recorder: &mut Recorder<'_>) -> Result<(), RulebookError> {
    type Change = fn(&Program, &mut wire::RegMr) -> Result<(), Refused>;
    const PAGES: u64 = PAGE as u64;
    let changes: &[(&str, Change)] = &[
        ("of a page", |_, _| Ok(())),
        ("of 8 bytes inside a page", |_, mr| {
            (mr.start, mr.hca_va, mr.length) = (mr.start + 8, mr.hca_va + 8, 8);
            Ok(())
        }),
        ("of 3 bytes at an odd address", |_, mr| {
            (mr.start, mr.hca_va, mr.length) = (mr.start + 1, mr.hca_va + 1, 3);
            Ok(())
        }),
        ("of 2 MiB", |p, mr| {
            mr.start = p.memory(2 << 20)?;
            (mr.hca_va, mr.length) = (mr.start, 2 << 20);
            Ok(())
        }),
        ("of no bytes", |_, mr| {
            mr.length = 0;
            Ok(())
        }),
        ("at address 0", |_, mr| {
            (mr.start, mr.hca_va) = (0, 0);
            Ok(())
        }),
        ("beyond the end of addresses", |_, mr| {
            (mr.start, mr.hca_va) = (u64::MAX - 4095, u64::MAX - 4095);
            mr.length = 8192;
            Ok(())
        }),
        ("of all addresses", |_, mr| {
            mr.length = u64::MAX;
            Ok(())
        }),
        ("of an address of the kernel", |_, mr| {
            (mr.start, mr.hca_va) = (0xFFFF_8880_0000_0000, 0xFFFF_8880_0000_0000);
            Ok(())
        }),
        ("of a page without rights", |p, mr| {
            mr.start = p.memory_of(PAGE, |memory| memory.protect(0, libc::PROT_NONE))?;
            mr.hca_va = mr.start;
            Ok(())
        }),
        ("of two pages, the second without rights", |p, mr| {
            mr.start = p.memory_of(2 * PAGE, |memory| memory.protect(PAGE, libc::PROT_NONE))?;
            (mr.hca_va, mr.length) = (mr.start, 2 * PAGES);
            Ok(())
        }),
        ("of a page that can only be read, to be written", |p, mr| {
            mr.start = p.memory_of(PAGE, |memory| memory.protect(0, libc::PROT_READ))?;
            mr.hca_va = mr.start;
            Ok(())
        }),
        ("of a page that can only be read, to be read", |p, mr| {
            mr.start = p.memory_of(PAGE, |memory| memory.protect(0, libc::PROT_READ))?;
            (mr.hca_va, mr.access_flags) = (mr.start, 0);
            Ok(())
        }),
        ("named by the address 0", |_, mr| {
            mr.hca_va = 0;
            Ok(())
        }),
        ("named by another address of the same offset", |_, mr| {
            mr.hca_va = mr.start + (1 << 30);
            Ok(())
        }),
        ("named by an address of another offset", |_, mr| {
            mr.hca_va = mr.start + 8;
            Ok(())
        }),
        ("of a PD that is not there", |_, mr| {
            mr.pd_handle = 99;
            Ok(())
        }),
        ("of a CQ instead of a PD", |p, mr| {
            mr.pd_handle = p.cq()?;
            Ok(())
        }),
    ];
    let reg = |p: &Program, change: &dyn Fn(&Program, &mut wire::RegMr) -> Result<(), Refused>| {
        let mut mr = p.mr(p.pd()?)?;
        change(p, &mut mr)?;
        let answer = p.run(p.reg_mr(mr))?;
        let handle = answer.number(attr::CORE_OUT, 0).unwrap_or_default();
        let lkey = some(answer.number(attr::CORE_OUT, 4));
        Ok(format!("handle={handle} lkey={lkey}"))
    };
    for (situation, change) in changes {
        recorder.try_it("REG_MR", situation, |p| reg(p, change))?;
    }
    let mut masks = vec![0, 1, 2, 3, 5, 7, 1 | 1 << 20, 1 | 1 << 29];
    masks.extend((3..10).map(|bit| 1 | 1 << bit));
    masks.extend([8, 16, 32, 1 | 1 << 19, 1 | 1 << 30, 1 | 1 << 31, u32::MAX]);
    for mask in masks {
        recorder.try_it("REG_MR", &format!("with access {mask:#x}"), |p| {
            reg(p, &|_, mr| {
                mr.access_flags = mask;
                Ok(())
            })
        })?;
    }
    recorder.try_it("REG_MR", "of the same page twice", |p| {
        let mr = p.mr(p.pd()?)?;
        p.given("REG_MR", p.reg_mr(mr))?;
        let answer = p.run(p.reg_mr(mr))?;
        let handle = answer.number(attr::CORE_OUT, 0).unwrap_or_default();
        Ok(format!("handle={handle}"))
    })
}
