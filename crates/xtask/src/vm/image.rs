//! The kernel as QEMU boots it fastest: the program inside the image, unpacked here. What the image itself
//! would do, through the firmware, in the guest, takes a processor that is imitated longer than the rest
//! of the boot takes.
//!
//! The image's header says where the packed program is (Documentation/arch/x86/boot.rst); QEMU enters it
//! where a note says (Documentation/arch/x86/pvh.rst of Xen's x86/HVM direct boot ABI).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::elf;
use crate::debian::{create, failed};
use crate::process;

/// Places in the header: sectors of the setup code behind the first, the magic, and the payload's place
/// behind the setup code and its size.
const SETUP_SECTORS: usize = 0x1F1;
const MAGIC: usize = 0x202;
const PAYLOAD: usize = 0x248;
const SECTOR: usize = 512;
/// Behind the payload stands its unpacked size, unless it is of gzip, which has it itself.
const SIZE: usize = 4;
/// How packed files begin, and what their names end in for apt's helper.
const PACKED: [(&[u8], &str); 3] = [
    (b"\x28\xB5\x2F\xFD", "zst"),
    (b"\xFD7zXZ\0", "xz"),
    (b"\x1F\x8B", "gz"),
];
/// What unpacks all of these, wherever apt is: nothing else of Debian's base does.
const HELPER: &str = "/usr/lib/apt/apt-helper";

/// The program of an image, which is unpacked once into `folder`; the image itself where that can't be,
/// as for Debian's 6.1, packed by LZ4: it boots all the same.
pub fn unpacked(image: &Path, folder: &Path) -> PathBuf {
    match unpack(image, folder) {
        Ok(Some(program)) => program,
        Ok(None) => image.to_owned(),
        Err(reason) => {
            eprintln!("xtask: {}: {reason}: booted as it is", image.display());
            image.to_owned()
        }
    }
}

fn unpack(image: &Path, folder: &Path) -> Result<Option<PathBuf>, String> {
    let wrong = |error| failed(image, &error);
    let data = fs::metadata(image).map_err(wrong)?;
    let made = data.modified().map_err(wrong)?;
    let made = made
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    let name = image.file_name().unwrap_or_default().to_string_lossy();
    let name = format!("{name}-{}-{}", data.len(), made.as_nanos());
    let place = folder.join(&name);
    if place.is_file() {
        return Ok(Some(place));
    }
    let bytes = fs::read(image).map_err(wrong)?;
    let Some((packed, kind)) = payload(&bytes) else {
        return Ok(None);
    };
    create(folder)?;
    // Others may do the same at the same time.
    let part = folder.join(format!("{name}.{}.{kind}", std::process::id()));
    let result = (|| {
        fs::write(&part, packed).map_err(|error| failed(&part, &error))?;
        let mut helper = Command::new(HELPER);
        helper.arg("cat-file").arg(&part);
        let output = helper
            .output()
            .map_err(|error| process::not_started(&helper, &error))?;
        if !elf::has_pvh_entry(&output.stdout) {
            return Err("its program is not one that QEMU boots".to_owned());
        }
        fs::write(&part, output.stdout).map_err(|error| failed(&part, &error))?;
        fs::rename(&part, &place).map_err(|error| failed(&place, &error))
    })();
    // It is left only where something failed.
    let _gone = fs::remove_file(&part);
    result.map(|()| Some(place))
}

/// The packed program in an image, and what it is packed by.
fn payload(image: &[u8]) -> Option<(&[u8], &'static str)> {
    if image.get(MAGIC..MAGIC + 4)? != b"HdrS" {
        return None;
    }
    let word =
        |at: usize| Some(u32::from_le_bytes(image.get(at..at + 4)?.try_into().ok()?) as usize);
    let setup = (usize::from(*image.get(SETUP_SECTORS)?) + 1) * SECTOR;
    let first = setup.checked_add(word(PAYLOAD)?)?;
    let payload = image.get(first..first.checked_add(word(PAYLOAD + 4)?)?)?;
    let (_, kind) = PACKED
        .iter()
        .find(|(magic, _)| payload.starts_with(magic))?;
    let size = if *kind == "gz" { 0 } else { SIZE };
    Some((payload.get(..payload.len().checked_sub(size)?)?, kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An image whose payload is `packed`.
    fn image(packed: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 3 * SECTOR + 7];
        bytes[SETUP_SECTORS] = 2;
        bytes[MAGIC..MAGIC + 4].copy_from_slice(b"HdrS");
        bytes[PAYLOAD] = 7;
        bytes[PAYLOAD + 4..PAYLOAD + 8].copy_from_slice(&(packed.len() as u32).to_le_bytes());
        bytes.extend(packed);
        bytes.extend([0xFF; 9]);
        bytes
    }

    #[test]
    fn a_payload_is_what_the_header_says_it_is() {
        let zstd = image(b"\x28\xB5\x2F\xFDpackedSIZE");
        assert_eq!(
            payload(&zstd).unwrap(),
            (&b"\x28\xB5\x2F\xFDpacked"[..], "zst")
        );
        let gzip = image(b"\x1F\x8Bpacked");
        assert_eq!(payload(&gzip).unwrap(), (&b"\x1F\x8Bpacked"[..], "gz"));
        assert_eq!(payload(&image(b"something else")), None);
        assert_eq!(payload(&gzip[..3 * SECTOR]), None);
        assert_eq!(payload(&[0; 4096]), None);
        let mut long = gzip;
        long[PAYLOAD + 4..PAYLOAD + 8].fill(0xFF);
        assert_eq!(payload(&long), None);
    }

    #[test]
    fn what_can_not_be_unpacked_is_booted_as_it_is() {
        let folder = std::env::temp_dir().join(format!("xtask-image-{}", std::process::id()));
        create(&folder).unwrap();
        let path = folder.join("vmlinuz");
        fs::write(&path, image(b"\x1F\x8Bno gzip at all")).unwrap();
        assert_eq!(unpacked(&path, &folder.join("kernels")), path);
        assert_eq!(fs::read_dir(folder.join("kernels")).unwrap().count(), 0);
        fs::remove_dir_all(&folder).unwrap();
    }
}
