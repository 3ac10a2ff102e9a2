//! GDMA requests: devices, event queues, doorbell pages, memory (reference/mana-hardware.md §6.5).

use gdma::eqe::event;
use mana_model::hardware::{MAX_DOMAINS, MAX_EVENT_QUEUES, MAX_QUEUES, Refusal};

use super::kinds;
use super::message::{Answer, Request};
use super::objects::{Object, Registration};
use super::regions::{Held, Shape};
use super::{Done, Failure, Function, status};
use crate::limits::{DOORBELL_PAGES, MAX_CQS, VECTORS};

/// Types of devices inside the function (§1.2).
mod device {
    pub(super) const MANA: u32 = 2;
    pub(super) const MANA_IB: u32 = 3;
}

/// The one version of the protocol.
const PROTOCOL: u64 = 1;
/// Type of a queue: the only one that is created by CREATE_QUEUE.
const EVENT_QUEUE: u32 = 4;
/// Type of a resource: doorbell pages.
const DOORBELL_PAGE: u32 = 27;
/// Milliseconds that a driver waits which does not ask for another time.
const HWC_TIMEOUT: u32 = 30_000;

/// Types of memory regions.
mod mr {
    pub(super) const GPA: u32 = 1;
    pub(super) const GVA: u32 = 2;
    pub(super) const ZBVA: u32 = 4;
    pub(super) const DM: u32 = 5;
}

impl Function {
    pub(super) fn gdma(&mut self, request: &Request<'_>, answer: &mut Answer<'_>) -> Done {
        match request.kind {
            kinds::VERIFY_VF_DRIVER_VERSION => verify_version(request, answer),
            kinds::QUERY_MAX_RESOURCES => {
                let (queues, cqs) = (MAX_QUEUES, MAX_CQS);
                let (events, vectors) = (MAX_EVENT_QUEUES, u32::from(VECTORS));
                answer.u32s(36, [queues, queues, cqs, events, DOORBELL_PAGES]);
                answer.u32s(56, [MAX_DOMAINS, 0, 0, vectors]);
                Ok(status::OK)
            }
            kinds::LIST_DEVICES => {
                let devices: &[u32] = match self.rnic {
                    true => &[device::MANA, device::MANA_IB],
                    false => &[device::MANA],
                };
                answer.u32(32, devices.len() as u32);
                for (index, device) in devices.iter().enumerate() {
                    answer.u32(40 + 4 * index, *device);
                }
                Ok(status::OK)
            }
            kinds::GENERATE_TEST_EQE => {
                self.hardware
                    .push_event(request.u32(40), event::TEST, [0; 3])?;
                Ok(status::OK)
            }
            kinds::REGISTER_DEVICE => self.register_device(request, answer),
            kinds::DEREGISTER_DEVICE => self.deregister_device(request),
            kinds::CREATE_QUEUE => self.create_event_queue(request, answer),
            kinds::DISABLE_QUEUE => self.disable_queue(request),
            kinds::ALLOCATE_RESOURCE_RANGE => {
                resource(request.u32(40))?;
                let first = self.pages.take(request.u32(44), request.u32(48))?;
                answer.u32(32, first);
                Ok(status::OK)
            }
            kinds::DESTROY_RESOURCE_RANGE => self.free_pages(request),
            kinds::CREATE_DMA_REGION => self.create_dma_region(request, answer),
            kinds::DMA_REGION_ADD_PAGES => {
                let pages = addresses(request, request.u32(48), 56)?;
                self.regions.add(request.u64(40), &pages)
            }
            kinds::DESTROY_DMA_REGION => {
                self.regions.destroy(request.u64(40))?;
                Ok(status::OK)
            }
            kinds::CREATE_PD => {
                let domain = self.hardware.create_domain()?;
                answer.u64(32, self.objects.insert(Object::Domain(domain)));
                answer.u32(40, domain);
                Ok(status::OK)
            }
            kinds::DESTROY_PD => self.destroy_domain(request.u64(40)),
            kinds::CREATE_MR => self.create_memory_region(request, answer),
            kinds::DESTROY_MR => self.destroy_memory_region(request.u64(40)),
            kinds::ALLOC_DM => self.allocate_device_memory(request, answer),
            kinds::DESTROY_DM => self.free_device_memory(request.u64(40)),
            kinds::QUERY_HWC_TIMEOUT => {
                let asked = request.u32(40);
                answer.u32(32, if asked == 0 { HWC_TIMEOUT } else { asked });
                Ok(status::OK)
            }
            _ => Err(unsupported()),
        }
    }

    fn register_device(&mut self, request: &Request<'_>, answer: &mut Answer<'_>) -> Done {
        let listed =
            request.device == device::MANA || self.rnic && request.device == device::MANA_IB;
        if !listed {
            return Err(Failure::missing(format!("no device {:#x}", request.device)));
        }
        if self.objects.registered.contains_key(&request.device) {
            return Err(Failure::invalid("the device is registered already"));
        }
        let page = self.pages.take(1, 1)?;
        let (domain, key) = match self.create_device_domain() {
            Ok(made) => made,
            Err(refusal) => {
                self.pages.free(page, 1)?;
                return Err(refusal.into());
            }
        };
        let registration = Registration { domain, key, page };
        self.objects.registered.insert(request.device, registration);
        answer.u32s(32, [domain, key, page]);
        Ok(status::OK)
    }

    /// A domain with a key for all of the bus.
    fn create_device_domain(&mut self) -> Result<(u32, u32), Refusal> {
        let domain = self.hardware.create_domain()?;
        match self.hardware.register_all(domain) {
            Ok(key) => Ok((domain, key)),
            Err(refusal) => {
                self.hardware.destroy_domain(domain)?;
                Err(refusal)
            }
        }
    }

    fn deregister_device(&mut self, request: &Request<'_>) -> Done {
        let registration = self.registration(request.device)?;
        let left = self.objects.iter().filter(|(_, object)| {
            matches!(object, Object::WorkQueue(queue) if queue.domain == registration.domain)
        });
        let left: Vec<u64> = left.map(|(handle, _)| handle).collect();
        for handle in left {
            tracing::warn!("HWC: work queue {handle:#x} is destroyed with its device");
            self.destroy_work_queue(handle)?;
        }
        self.objects.registered.remove(&request.device);
        self.hardware.deregister(registration.key);
        self.hardware.destroy_domain(registration.domain)?;
        self.hardware.release_page(registration.page);
        self.pages.free(registration.page, 1)?;
        Ok(status::OK)
    }

    fn registration(&self, device: u32) -> Result<Registration, Failure> {
        let found = self.objects.registered.get(&device).copied();
        found.ok_or_else(|| Failure::missing(format!("device {device:#x} is not registered")))
    }

    fn create_event_queue(&mut self, request: &Request<'_>, answer: &mut Answer<'_>) -> Done {
        let kind = request.u32(40);
        if kind != EVENT_QUEUE {
            return Err(Failure::invalid(format!("queue of type {kind}")));
        }
        let domain = request.u32(48);
        let mut registered = self.objects.registered.values();
        if !registered.any(|registration| registration.domain == domain) {
            return Err(Failure::missing(format!(
                "protection domain {domain} is no device's"
            )));
        }
        let page = request.u32(52);
        self.pages.has(page)?;
        let vector = u16::try_from(request.u32(76))
            .ok()
            .filter(|vector| *vector < VECTORS);
        let vector = vector.ok_or_else(|| {
            Failure::invalid(format!("MSI-X vector {} of {VECTORS}", request.u32(76)))
        })?;
        let region = request.u64(56);
        let ring = self.regions.memory(region, self.hardware.memory())?;
        if ring.len() != u64::from(request.u32(68)) {
            let why = format!(
                "ring of {} bytes, region of {}",
                request.u32(68),
                ring.len()
            );
            return Err(Failure::invalid(why));
        }
        let id = self.hardware.create_event_queue(ring, page, vector)?;
        let held = self.regions.take_over(region);
        self.objects.event_queues.insert(id, held);
        answer.u32(32, id);
        Ok(status::OK)
    }

    fn disable_queue(&mut self, request: &Request<'_>) -> Done {
        let kind = request.u32(40);
        if kind != EVENT_QUEUE {
            return Err(Failure::invalid(format!("queue of type {kind}")));
        }
        let id = request.u32(44);
        self.hardware.destroy_event_queue(id)?;
        if let Some(held) = self.objects.event_queues.remove(&id) {
            self.regions.release(held);
        }
        Ok(status::OK)
    }

    fn free_pages(&mut self, request: &Request<'_>) -> Done {
        resource(request.u32(40))?;
        let (count, first) = (request.u32(44), request.u32(48));
        let mut registered = self.objects.registered.values();
        if registered.any(|registration| registration.page == first) {
            return Err(Failure {
                status: status::IN_USE,
                why: format!("doorbell page {first} is a device's"),
            });
        }
        self.pages.free(first, count)?;
        for page in first..first + count {
            self.hardware.release_page(page);
        }
        Ok(status::OK)
    }

    fn create_dma_region(&mut self, request: &Request<'_>, answer: &mut Answer<'_>) -> Done {
        let shape = Shape {
            length: request.u64(40),
            offset: request.u32(48),
            page_type: request.u32(52),
            page_count: request.u32(56),
        };
        let pages = addresses(request, request.u32(60), 64)?;
        let (handle, status) = self.regions.create(shape, pages)?;
        answer.u64(32, handle);
        Ok(status)
    }

    fn destroy_domain(&mut self, handle: u64) -> Done {
        let domain = self.objects.domain(handle)?;
        let user = self
            .objects
            .iter()
            .find(|(_, object)| matches!(object, Object::RnicQp(qp) if qp.domain == handle));
        if let Some((user, _)) = user {
            return Err(in_use(handle, user));
        }
        self.hardware.destroy_domain(domain)?;
        self.objects.remove(handle);
        Ok(status::OK)
    }

    fn create_memory_region(&mut self, request: &Request<'_>, answer: &mut Answer<'_>) -> Done {
        let domain = self.objects.domain(request.u64(40))?;
        let (kind, region) = (request.u32(48), request.u64(56));
        let mut device = None;
        let (key, held) = match kind {
            mr::GPA => (self.hardware.register_all(domain)?, Held::default()),
            mr::GVA | mr::ZBVA => {
                let (address, access) = match kind {
                    mr::GVA => (request.u64(64), request.u32(72)),
                    _ => (0, request.u32(64)),
                };
                let pages = self.regions.memory(region, self.hardware.memory())?;
                let key = self.hardware.register(domain, address, access, pages)?;
                (key, self.regions.take_over(region))
            }
            mr::DM => {
                device = Some(region);
                (
                    self.register_device_memory(request, domain)?,
                    Held::default(),
                )
            }
            _ => return Err(Failure::invalid(format!("memory region of type {kind}"))),
        };
        let handle = self
            .objects
            .insert(Object::MemoryRegion { key, held, device });
        answer.u64(32, handle);
        answer.u32s(40, [key, key]);
        Ok(status::OK)
    }

    fn destroy_memory_region(&mut self, handle: u64) -> Done {
        let Some(Object::MemoryRegion { key, held, .. }) = self.objects.get(handle) else {
            return Err(Failure::missing(format!("no memory region {handle:#x}")));
        };
        self.hardware.deregister(*key);
        self.regions.release(*held);
        self.objects.remove(handle);
        Ok(status::OK)
    }
}

/// That `user` still needs `handle`.
pub(super) fn in_use(handle: u64, user: u64) -> Failure {
    Failure {
        status: status::IN_USE,
        why: format!("{handle:#x} is in use by {user:#x}"),
    }
}

/// That nothing is known of the request.
pub(super) fn unsupported() -> Failure {
    Failure {
        status: status::UNSUPPORTED,
        why: "not supported".to_owned(),
    }
}

fn verify_version(request: &Request<'_>, answer: &mut Answer<'_>) -> Done {
    let (least, most) = (request.u64(40), request.u64(48));
    if !(least..=most).contains(&PROTOCOL) {
        return Err(Failure::invalid(format!("protocol {least} to {most}")));
    }
    let [flags, _, _, _] = [56, 64, 72, 80].map(|offset| request.u64(offset));
    let [major, minor, build] = [104, 108, 112].map(|offset| request.u32(offset));
    tracing::info!(
        "HWC: driver of system {:#x}, version {major}.{minor}.{build}, capabilities {flags:#x}",
        request.u32(96),
    );
    answer.u64(32, PROTOCOL);
    Ok(status::OK)
}

fn resource(kind: u32) -> Result<(), Failure> {
    match kind {
        DOORBELL_PAGE => Ok(()),
        _ => Err(Failure::invalid(format!("resource of type {kind}"))),
    }
}

/// `count` addresses of pages from `offset` on.
fn addresses(request: &Request<'_>, count: u32, offset: usize) -> Result<Vec<u64>, Failure> {
    let words = request.words(offset, count as usize);
    words.ok_or_else(|| Failure::invalid(format!("{count} addresses in {} bytes", request.size())))
}
