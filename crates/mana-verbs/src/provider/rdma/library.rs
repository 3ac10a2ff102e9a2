//! libibverbs and libmana, opened at run time: the program starts without them.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fs;
use std::mem;
use std::path::Path;
use std::sync::OnceLock;

use super::ffi::{
    Allocators, AsyncEvent, CompChannel, Context, Cq, Device, Mr, Obj, Pd, Qp, QpInitAttr,
};
use crate::RdmaCoreError;

/// Their names, as the runtime packages install them.
const NAMES: [&str; 2] = ["libibverbs.so.1", "libmana.so.1"];

/// What is called of both. Loaded once, never unloaded: libibverbs keeps pointers into the drivers
/// it has loaded.
#[derive(Debug)]
pub(super) struct Library {
    pub(super) get_device_list: unsafe extern "C" fn(*mut c_int) -> *mut *mut Device,
    pub(super) free_device_list: unsafe extern "C" fn(*mut *mut Device),
    pub(super) get_device_name: unsafe extern "C" fn(*mut Device) -> *const c_char,
    pub(super) open_device: unsafe extern "C" fn(*mut Device) -> *mut Context,
    pub(super) close_device: unsafe extern "C" fn(*mut Context) -> c_int,
    pub(super) get_async_event: unsafe extern "C" fn(*mut Context, *mut AsyncEvent) -> c_int,
    pub(super) ack_async_event: unsafe extern "C" fn(*mut AsyncEvent),
    pub(super) create_comp_channel: unsafe extern "C" fn(*mut Context) -> *mut CompChannel,
    pub(super) destroy_comp_channel: unsafe extern "C" fn(*mut CompChannel) -> c_int,
    pub(super) get_cq_event:
        unsafe extern "C" fn(*mut CompChannel, *mut *mut Cq, *mut *mut c_void) -> c_int,
    pub(super) ack_cq_events: unsafe extern "C" fn(*mut Cq, u32),
    pub(super) alloc_pd: unsafe extern "C" fn(*mut Context) -> *mut Pd,
    pub(super) dealloc_pd: unsafe extern "C" fn(*mut Pd) -> c_int,
    pub(super) reg_mr: unsafe extern "C" fn(*mut Pd, *mut c_void, usize, c_int) -> *mut Mr,
    pub(super) dereg_mr: unsafe extern "C" fn(*mut Mr) -> c_int,
    pub(super) create_cq:
        unsafe extern "C" fn(*mut Context, c_int, *mut c_void, *mut CompChannel, c_int) -> *mut Cq,
    pub(super) destroy_cq: unsafe extern "C" fn(*mut Cq) -> c_int,
    pub(super) create_qp: unsafe extern "C" fn(*mut Pd, *mut QpInitAttr) -> *mut Qp,
    pub(super) destroy_qp: unsafe extern "C" fn(*mut Qp) -> c_int,
    pub(super) set_context_attr:
        unsafe extern "C" fn(*mut Context, c_int, *mut Allocators) -> c_int,
    pub(super) init_obj: unsafe extern "C" fn(*mut Obj, u64) -> c_int,
    /// The file each was loaded from.
    pub(super) ibverbs: Object,
    pub(super) mana: Object,
}

/// A loaded object: the file and where it lies in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Object {
    pub(super) file: String,
    base: usize,
}

impl Library {
    /// The libraries of this process, loaded at the first call that finds them.
    pub(super) fn get() -> Result<&'static Self, RdmaCoreError> {
        static LIBRARY: OnceLock<Library> = OnceLock::new();
        if let Some(library) = LIBRARY.get() {
            return Ok(library);
        }
        let library = Self::load(NAMES)?;
        Ok(LIBRARY.get_or_init(|| library))
    }

    /// Loads libibverbs and libmana under the given names.
    fn load([ibverbs, mana]: [&str; 2]) -> Result<Self, RdmaCoreError> {
        let (ibverbs, mana) = (Handle::open(ibverbs)?, Handle::open(mana)?);
        // SAFETY: the types are those of the declarations in infiniband/verbs.h and
        // infiniband/manadv.h, which have been the same since the first libmana.
        let library = unsafe {
            Self {
                get_device_list: ibverbs.symbol(c"ibv_get_device_list")?,
                free_device_list: ibverbs.symbol(c"ibv_free_device_list")?,
                get_device_name: ibverbs.symbol(c"ibv_get_device_name")?,
                open_device: ibverbs.symbol(c"ibv_open_device")?,
                close_device: ibverbs.symbol(c"ibv_close_device")?,
                get_async_event: ibverbs.symbol(c"ibv_get_async_event")?,
                ack_async_event: ibverbs.symbol(c"ibv_ack_async_event")?,
                create_comp_channel: ibverbs.symbol(c"ibv_create_comp_channel")?,
                destroy_comp_channel: ibverbs.symbol(c"ibv_destroy_comp_channel")?,
                get_cq_event: ibverbs.symbol(c"ibv_get_cq_event")?,
                ack_cq_events: ibverbs.symbol(c"ibv_ack_cq_events")?,
                alloc_pd: ibverbs.symbol(c"ibv_alloc_pd")?,
                dealloc_pd: ibverbs.symbol(c"ibv_dealloc_pd")?,
                reg_mr: ibverbs.symbol(c"ibv_reg_mr")?,
                dereg_mr: ibverbs.symbol(c"ibv_dereg_mr")?,
                create_cq: ibverbs.symbol(c"ibv_create_cq")?,
                destroy_cq: ibverbs.symbol(c"ibv_destroy_cq")?,
                create_qp: ibverbs.symbol(c"ibv_create_qp")?,
                destroy_qp: ibverbs.symbol(c"ibv_destroy_qp")?,
                set_context_attr: mana.symbol(c"manadv_set_context_attr")?,
                init_obj: mana.symbol(c"manadv_init_obj")?,
                ibverbs: ibverbs.object(c"ibv_open_device")?,
                mana: mana.object(c"manadv_init_obj")?,
            }
        };
        let (ibverbs, mana) = (library.ibverbs.release(), library.mana.release());
        match (ibverbs, mana) {
            (Some(ibverbs), Some(mana)) if ibverbs != mana => Err(RdmaCoreError::MixedVersions {
                ibverbs: text(ibverbs),
                ibverbs_file: library.ibverbs.file,
                mana: text(mana),
                mana_file: library.mana.file,
            }),
            _ => Ok(library),
        }
    }

    /// Whether an address lies in libmana.
    pub(super) fn is_in_mana(&self, address: *const c_void) -> bool {
        object_of(address).is_some_and(|object| object.base == self.mana.base)
    }

    /// Which libraries these are, for people.
    pub(super) fn versions(&self) -> String {
        let named = |name: &str, object: &Object| match object.release() {
            Some(release) => format!("{name} {}", text(release)),
            None => format!("{name} ({})", object.file),
        };
        let [ibverbs, mana] = [("libibverbs", &self.ibverbs), ("libmana", &self.mana)]
            .map(|(name, object)| named(name, object));
        format!("{ibverbs}, {mana}")
    }

    /// Release of rdma-core, where libmana's file tells it.
    pub(super) fn release(&self) -> Option<(u32, u32)> {
        self.mana.release()
    }
}

impl Object {
    /// The release of rdma-core: the last two numbers of the file's name
    /// (`libmana.so.1.0.56.1` is of 56.1).
    fn release(&self) -> Option<(u32, u32)> {
        let name = Path::new(&self.file).file_name()?.to_str()?;
        let numbers: Vec<u32> = name
            .split_once(".so.")?
            .1
            .split('.')
            .map(|number| number.parse().ok())
            .collect::<Option<_>>()?;
        match numbers[..] {
            [_, _, major, minor] => Some((major, minor)),
            _ => None,
        }
    }
}

fn text((major, minor): (u32, u32)) -> String {
    format!("{major}.{minor}")
}

/// The loaded object that holds an address.
pub(super) fn object_of(address: *const c_void) -> Option<Object> {
    // SAFETY: all-zero is a value of this structure of pointers.
    let mut info: libc::Dl_info = unsafe { mem::zeroed() };
    // SAFETY: the address is only looked up, and `info` is valid for writes.
    if unsafe { libc::dladdr(address, &mut info) } == 0 || info.dli_fname.is_null() {
        return None;
    }
    // SAFETY: on success this is the name of an object that stays loaded.
    let file = unsafe { CStr::from_ptr(info.dli_fname) };
    let file = file.to_string_lossy().into_owned();
    // Links are named after the first number only.
    let file = fs::canonicalize(&file).map_or(file, |path| path.display().to_string());
    Some(Object {
        file,
        base: info.dli_fbase.addr(),
    })
}

/// A library that stays loaded.
struct Handle {
    handle: *mut c_void,
    name: String,
}

impl Handle {
    fn open(name: &str) -> Result<Self, RdmaCoreError> {
        let missing = |reason| RdmaCoreError::Missing {
            library: name.to_owned(),
            reason,
        };
        let path = CString::new(name).map_err(|error| missing(error.to_string()))?;
        // SAFETY: the name ends with a zero. The initialisers of the libraries are those that every
        // program with them runs.
        let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        if handle.is_null() {
            return Err(missing(last_error()));
        }
        Ok(Self {
            handle,
            name: name.to_owned(),
        })
    }

    fn address(&self, symbol: &CStr) -> Result<*mut c_void, RdmaCoreError> {
        // SAFETY: the handle is of a library that stays loaded, the name ends with a zero.
        let address = unsafe { libc::dlsym(self.handle, symbol.as_ptr()) };
        if address.is_null() {
            return Err(RdmaCoreError::TooOld {
                library: self.name.clone(),
                symbol: symbol.to_string_lossy().into_owned(),
            });
        }
        Ok(address)
    }

    /// A function of the library.
    ///
    /// # Safety
    ///
    /// `F` is the type of a pointer to the function of that name.
    unsafe fn symbol<F: Copy>(&self, name: &CStr) -> Result<F, RdmaCoreError> {
        const { assert!(size_of::<F>() == size_of::<*mut c_void>()) };
        let address = self.address(name)?;
        // SAFETY: the address is not null and has the size of `F`, which is the function's type as
        // the caller promises.
        Ok(unsafe { mem::transmute_copy(&address) })
    }

    fn object(&self, symbol: &CStr) -> Result<Object, RdmaCoreError> {
        let address = self.address(symbol)?;
        object_of(address).ok_or_else(|| RdmaCoreError::Missing {
            library: self.name.clone(),
            reason: "dladdr does not know where it was loaded".to_owned(),
        })
    }
}

/// What the dynamic loader says of the call that failed last in this thread.
fn last_error() -> String {
    // SAFETY: the text belongs to this thread until its next call of the loader.
    let text = unsafe { libc::dlerror() };
    if text.is_null() {
        return "the loader does not say why".to_owned();
    }
    // SAFETY: it is not null and ends with a zero.
    unsafe { CStr::from_ptr(text) }
        .to_string_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests {
    use std::ptr;

    use super::*;

    fn object(file: &str) -> Object {
        Object {
            file: file.to_owned(),
            base: 0,
        }
    }

    #[test]
    fn a_missing_library_is_told_with_the_packages_that_have_it() {
        let error = Library::load(["libibverbs-of-nobody.so.1", "libmana.so.1"])
            .err()
            .unwrap();
        assert!(matches!(&error, RdmaCoreError::Missing { library, .. }
            if library == "libibverbs-of-nobody.so.1"));
        let text = error.to_string();
        for part in [
            "libibverbs-of-nobody.so.1: cannot open",
            "ibverbs-providers",
            "provider=uverbs",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }

    /// libc is there, and is no libibverbs.
    #[test]
    fn a_library_without_the_functions_is_told_with_the_first_that_it_lacks() {
        let error = Library::load(["libc.so.6", "libc.so.6"]).err().unwrap();
        let expected = RdmaCoreError::TooOld {
            library: "libc.so.6".to_owned(),
            symbol: "ibv_get_device_list".to_owned(),
        };
        assert_eq!(error, expected);
        assert!(error.to_string().contains("since its release 44"));
    }

    #[test]
    fn the_release_is_read_from_the_file() {
        let release = |file: &str| object(file).release();
        assert_eq!(
            release("/usr/lib/x86_64-linux-gnu/libmana.so.1.0.44.0"),
            Some((44, 0))
        );
        assert_eq!(release("/usr/lib64/libibverbs.so.1.14.56.1"), Some((56, 1)));
        for other in ["libmana.so.1", "libmana.so.1.0.x.1", "libmana.so", "/", ""] {
            assert_eq!(release(other), None, "{other}");
        }
    }

    #[test]
    fn an_address_is_found_in_the_object_that_holds_it() {
        let libc = object_of(libc::getpid as *const c_void).unwrap();
        assert_eq!(
            object_of(libc::getppid as *const c_void),
            Some(libc.clone())
        );
        assert!(libc.file.contains("libc"), "{libc:?}");
        let program = object_of(last_error as *const c_void).unwrap();
        assert_ne!(program.base, libc.base);
        assert_eq!(object_of(ptr::null()), None);
    }
}
