//! NUMA nodes of this machine.

use std::fs;
use std::path::Path;

use crate::MemoryError;

/// Refuses a node that is not online. A kernel without NUMA has node 0.
pub(crate) fn check(node: u32) -> Result<(), MemoryError> {
    check_in(Path::new("/sys/devices/system/node/online"), node)
}

fn check_in(file: &Path, node: u32) -> Result<(), MemoryError> {
    let online = fs::read_to_string(file).unwrap_or_else(|_| "0".to_owned());
    let online = online.trim();
    if listed(online, node) {
        return Ok(());
    }
    Err(MemoryError::NodeMissing {
        node,
        online: online.to_owned(),
    })
}

/// Whether a kernel list such as `0-1,4` holds the number.
fn listed(list: &str, number: u32) -> bool {
    list.split(',').any(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        match (first.trim().parse::<u32>(), last.trim().parse::<u32>()) {
            (Ok(first), Ok(last)) => (first..=last).contains(&number),
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_list_holds_single_numbers_and_ranges() {
        for (list, number, expected) in [
            ("0", 0, true),
            ("0", 1, false),
            ("0-1,4", 1, true),
            ("0-1,4", 2, false),
            ("0-1,4", 4, true),
            ("", 0, false),
            ("garbage", 0, false),
        ] {
            assert_eq!(listed(list, number), expected, "{number} in `{list}`");
        }
    }

    #[test]
    fn a_missing_node_is_named_with_those_that_exist() {
        let error = check_in(Path::new("/nonexistent"), 7)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("node 7 is not online; online are: 0"),
            "{error}"
        );
        check_in(Path::new("/nonexistent"), 0).unwrap();
    }
}
