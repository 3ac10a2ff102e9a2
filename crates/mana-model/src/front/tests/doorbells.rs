//! Whose doorbells reach which queue.

use std::sync::{Arc, Mutex};

use uverbs_abi::DoorbellKind;
use uverbs_abi::ids::object;

use super::model;
use super::program::Program;
use crate::config::Kernel;
use crate::findings::FindingKind;
use crate::model::Model;

fn kinds(model: &Model) -> Vec<FindingKind> {
    let findings = model.take_findings();
    findings.into_iter().map(|finding| finding.kind).collect()
}

#[test]
fn a_queue_hears_the_doorbells_of_its_own_context_only() {
    let model = model(Kernel::V7_3, "");
    let (owner, other) = (Program::start(&model), Program::start(&model));
    let (pd, cq) = (owner.alloc_pd().unwrap(), owner.cq());
    let (_, ids) = owner.create_raw_qp(owner.raw_spec(pd, cq)).unwrap();
    // The same value, no packet: heard, and nothing to do.
    let value = u64::from(ids.sqid);
    owner.doorbell(DoorbellKind::Send, ids.sqid, value);
    model.step();
    assert_eq!(kinds(&model), []);
    other.doorbell(DoorbellKind::Send, ids.sqid, value);
    model.step();
    assert_eq!(kinds(&model), [FindingKind::DoorbellQueue]);
}

#[test]
fn a_watch_is_told_the_first_finding_of_each_rule_and_queue_as_it_is_made() {
    let model = model(Kernel::V6_12, "");
    let told = Arc::new(Mutex::new(Vec::new()));
    model.watch_findings({
        let told = Arc::clone(&told);
        move |finding| told.lock().unwrap().push((finding.kind, finding.queue))
    });
    let program = Program::start(&model);
    let pd = program.alloc_pd().unwrap();
    let [first, second] = [(); 2].map(|()| {
        let spec = program.raw_spec(pd, program.cq());
        program.create_raw_qp(spec).unwrap().1.sqid
    });
    // Into the cell of one queue, for a queue that does not exist.
    let tell = |queue: u32| {
        program.doorbell(DoorbellKind::Send, queue, 0xFFF);
        model.step();
        told.lock().unwrap().clone()
    };
    let kind = FindingKind::DoorbellQueue;
    assert_eq!(tell(first), [(kind, Some(first))]);
    assert_eq!(tell(first), [(kind, Some(first))]);
    assert_eq!(tell(second), [(kind, Some(first)), (kind, Some(second))]);
    assert_eq!(kinds(&model), [kind; 2]);
    // What was taken is new again.
    assert_eq!(tell(first).len(), 3);
}

#[test]
fn a_cell_is_for_the_queue_it_was_mapped_for() {
    let model = model(Kernel::V6_12, "");
    let program = Program::start(&model);
    let pd = program.alloc_pd().unwrap();
    let [one, two] = [(); 2].map(|()| {
        let spec = program.raw_spec(pd, program.cq());
        program.create_raw_qp(spec).unwrap().1.sqid
    });
    program.doorbell(DoorbellKind::Send, one, u64::from(two));
    model.step();
    assert_eq!(kinds(&model), [FindingKind::DoorbellQueue]);
}

#[test]
fn a_doorbell_for_a_destroyed_queue_is_a_finding() {
    let model = model(Kernel::V6_12, "");
    let program = Program::start(&model);
    let (pd, cq) = (program.alloc_pd().unwrap(), program.cq());
    let (qp, ids) = program.create_raw_qp(program.raw_spec(pd, cq)).unwrap();
    let register = program.register(DoorbellKind::Send, ids.sqid);
    program.destroy(object::QP, qp).unwrap();
    register.store(u64::from(ids.sqid), std::sync::atomic::Ordering::Release);
    model.step();
    assert_eq!(kinds(&model), [FindingKind::DoorbellQueue]);
}
