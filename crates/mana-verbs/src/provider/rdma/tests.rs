//! The provider over libraries that do what tests want.

use uverbs_abi::{DoorbellKind, Errno, IbDevice};

use super::RdmaProvider;
use super::fake::{inside, library, script};
use crate::provider::{Buffer, CqRequest, Handle, ObjectKind, Provider, SendQueueRequest};
use crate::{RdmaCoreError, VerbsError};

fn device(driver_id: Option<u32>) -> IbDevice {
    IbDevice {
        name: "mana_0".to_owned(),
        node: "uverbs0".to_owned(),
        pci: "7870:00:00.0".parse().unwrap(),
        vendor_id: 0x1414,
        device_id: 0x00ba,
        driver_id,
        numa_node: None,
    }
}

fn provider() -> RdmaProvider {
    RdmaProvider::open_with(library(inside()), &device(Some(20))).unwrap()
}

const CQ_RING: Buffer = Buffer {
    address: 0x10_0000,
    bytes: 8192,
};
const SQ_RING: Buffer = Buffer {
    address: 0x20_0000,
    bytes: 8192,
};

fn create_cq(provider: &RdmaProvider) -> Result<Handle, VerbsError> {
    let request = CqRequest {
        ring: CQ_RING,
        entries: 128,
        vector: 0,
        channel: None,
    };
    // SAFETY: no device reads or writes there.
    unsafe { provider.create_cq(request) }.map(|created| created.handle)
}

fn create_send_queue(
    provider: &RdmaProvider,
    pd: Handle,
    cq: Handle,
    port: u8,
) -> Result<Handle, VerbsError> {
    let request = SendQueueRequest {
        pd,
        cq,
        ring: SQ_RING,
        port,
        max_wr: 128,
        max_sge: 30,
    };
    // SAFETY: no device reads or writes there.
    unsafe { provider.create_send_queue(request) }.map(|created| created.handle)
}

fn live() -> usize {
    script(|script| script.live.len())
}

#[test]
fn a_port_has_one_parent_domain_with_its_number() {
    let provider = provider();
    let pd = provider.alloc_pd().unwrap();
    assert!(provider.doorbell(DoorbellKind::Send, 7).is_err());
    let mut objects = Vec::new();
    for port in [2, 2, 1] {
        let cq = create_cq(&provider).unwrap();
        objects.push((cq, create_send_queue(&provider, pd, cq, port).unwrap()));
    }
    assert_eq!(script(|script| script.parents.clone()), [2, 1]);
    let page = provider.doorbell(DoorbellKind::Send, 7).unwrap();
    let cell = provider.doorbell(DoorbellKind::Completion, 8).unwrap();
    assert_eq!(cell.addr().get() - page.addr().get(), 0x800);
    for (cq, qp) in objects {
        provider.destroy(ObjectKind::SendQueue, qp).unwrap();
        provider.destroy(ObjectKind::CompletionQueue, cq).unwrap();
    }
    provider.destroy(ObjectKind::ProtectionDomain, pd).unwrap();
    assert_eq!(live(), 0);
    drop(provider);
    assert_eq!(script(|script| script.closed), 1);
}

#[test]
fn a_device_that_is_not_listed_is_told_with_both_numbers() {
    script(|script| script.listed = b"mlx5_0\0");
    let error = RdmaProvider::open_with(library(inside()), &device(Some(19)))
        .err()
        .unwrap();
    let expected = RdmaCoreError::NotListed {
        device: "mana_0".to_owned(),
        kernel: Some(19),
        library: 20,
    };
    assert!(matches!(&error, VerbsError::RdmaCore(error) if *error == expected));
    assert!(
        error.to_string().contains("is 19, libmana's is 20"),
        "{error}"
    );
}

/// The operations of the context lie in this program, libmana is libc: not the same.
#[test]
fn a_context_of_another_library_is_closed_before_libmana_sees_it() {
    let library = library(libc::getpid as *const _);
    let error = RdmaProvider::open_with(library, &device(Some(19)))
        .err()
        .unwrap();
    let VerbsError::RdmaCore(RdmaCoreError::ForeignContext {
        opened_by, kernel, ..
    }) = &error
    else {
        panic!("{error}");
    };
    let program = std::env::current_exe().unwrap();
    assert_eq!(opened_by, &program.display().to_string());
    assert_eq!(*kernel, Some(19));
    assert_eq!(script(|script| script.closed), 1);
}

#[test]
fn a_ring_of_another_size_than_libmana_wants_makes_nothing() {
    let provider = provider();
    script(|script| script.ask = Some(16_384));
    let error = create_cq(&provider).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("16384 bytes for a ring of 8192"), "{text}");
    assert_eq!(live(), 0);
    assert!(!provider.allocator.holds(CQ_RING.address));
}

#[test]
fn a_refusal_of_the_kernel_keeps_its_errno_and_gives_the_ring_back() {
    // The second ring is the send queue's.
    let provider = provider();
    let pd = provider.alloc_pd().unwrap();
    script(|script| script.refuse = Some((2, libc::EBUSY)));
    let cq = create_cq(&provider).unwrap();
    let error = create_send_queue(&provider, pd, cq, 1).unwrap_err();
    assert_eq!(error.operation(), Some("create send queue"));
    assert_eq!(error.errno(), Some(Errno::EBUSY));
    assert!(!provider.allocator.holds(SQ_RING.address));
    assert!(provider.allocator.holds(CQ_RING.address));
    // The same ring serves again.
    create_send_queue(&provider, pd, cq, 1).unwrap();
}

#[test]
fn objects_over_rings_of_libmana_are_taken_apart_again() {
    let provider = provider();
    script(|script| script.own_ring = true);
    let error = create_cq(&provider).unwrap_err();
    assert!(
        error.to_string().contains("does not use our ring"),
        "{error}"
    );
    assert_eq!(live(), 0);
}

#[test]
fn a_ring_that_libmana_keeps_is_no_success() {
    let provider = provider();
    let cq = create_cq(&provider).unwrap();
    script(|script| script.keep_ring = true);
    let error = provider
        .destroy(ObjectKind::CompletionQueue, cq)
        .unwrap_err();
    assert!(matches!(error, VerbsError::Answer { .. }), "{error}");
}

#[test]
fn an_impossible_ring_is_refused_before_libmana_is_asked() {
    let provider = provider();
    let pd = provider.alloc_pd().unwrap();
    let cq = create_cq(&provider).unwrap();
    let request = SendQueueRequest {
        pd,
        cq,
        ring: SQ_RING,
        port: 1,
        // 32 bytes each are more than the ring has.
        max_wr: 512,
        max_sge: 30,
    };
    // SAFETY: no device reads or writes there.
    let error = unsafe { provider.create_send_queue(request) }.unwrap_err();
    assert!(
        error.to_string().contains("no ring of 8192 bytes for 512"),
        "{error}"
    );
    assert_eq!(live(), 1);
}

#[test]
fn a_handle_that_was_destroyed_reaches_no_library() {
    let provider = provider();
    let cq = create_cq(&provider).unwrap();
    provider.destroy(ObjectKind::CompletionQueue, cq).unwrap();
    // The fake would panic.
    let error = provider
        .destroy(ObjectKind::CompletionQueue, cq)
        .unwrap_err();
    assert!(matches!(error, VerbsError::Argument { .. }));
    let pd = provider.alloc_pd().unwrap();
    assert!(create_send_queue(&provider, pd, cq, 1).is_err());
}
