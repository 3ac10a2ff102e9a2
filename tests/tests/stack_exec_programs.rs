//! What programs on the model may do, and what may be set where they are started, without the model
//! getting in the way.

#![forbid(unsafe_code)]

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use conformance::host::Job;
use conformance::stack::Stack;
use conformance::uverbs::{Ran, Uverbs};

/// A doorbell for a queue that does not exist, as a line of `findings`.
fn finding(queue: u32, count: u32) -> String {
    format!("finding DoorbellQueue model0 {queue:#x} {count} Send doorbell {queue:#018x}\n")
}

/// Runs a mode of the program that rings doorbells for the queues, as often as they say.
#[track_caller]
fn assert_rings(test: &str, mode: &str, first: &str, queues: &[(u32, u32)]) {
    let Some(uverbs) = Uverbs::build(test) else {
        return;
    };
    let ran = uverbs.run("", mode);
    assert!(ran.out.starts_with(first), "{ran:?}");
    for (queue, count) in queues {
        assert!(ran.out.contains(&finding(*queue, *count)), "{ran:?}");
    }
    assert_eq!(ran.code, Some(3), "{ran:?}");
}

#[test]
fn bus_errors_go_to_the_programs_handler_which_may_ring_doorbells() {
    let test = "bus_errors_go_to_the_programs_handler_which_may_ring_doorbells";
    assert_rings(test, "bus", "faults 3\n", &[(2, 3), (3, 1)]);
}

#[test]
fn threads_with_the_smallest_stack_ring_doorbells_at_its_end() {
    let test = "threads_with_the_smallest_stack_ring_doorbells_at_its_end";
    let all: Vec<_> = (1..=8).map(|queue| (queue, 100)).collect();
    assert_rings(test, "small", "", &all);
}

#[test]
fn children_of_vfork_and_posix_spawn_leave_device_and_handlers_to_their_parent() {
    let test = "children_of_vfork_and_posix_spawn_leave_device_and_handlers_to_their_parent";
    assert_rings(test, "spawn", "faults 1\n", &[(1, 1), (2, 1)]);
}

/// The device's access to memory that the program took away is no fault of the program's to handle.
#[test]
fn memory_that_the_program_gave_and_took_away_ends_it_with_the_reason() {
    let test = "memory_that_the_program_gave_and_took_away_ends_it_with_the_reason";
    let Some(uverbs) = Uverbs::build(test) else {
        return;
    };
    for mode in ["unmapped", "shortened"] {
        let ran = uverbs.run("", mode);
        assert_eq!(ran.code, Some(134), "{mode}: {ran:?}");
        assert!(ran.err.contains("can't be reached"), "{mode}: {ran:?}");
    }
}

#[test]
fn a_node_may_have_the_number_of_standard_input() {
    let test = "a_node_may_have_the_number_of_standard_input";
    let Some(uverbs) = Uverbs::build(test) else {
        return;
    };
    let ran = uverbs.run("", "closed");
    assert_eq!((ran.code, ran.out.as_str()), (Some(3), ""), "{ran:?}");
    assert!(ran.err.contains("1 finding(s)"), "{ran:?}");
}

/// What is found is told even then.
#[test]
fn a_program_without_descriptors_left_is_told_so_by_the_number_of_the_kernel() {
    let test = "a_program_without_descriptors_left_is_told_so_by_the_number_of_the_kernel";
    let Some(uverbs) = Uverbs::build(test) else {
        return;
    };
    let ran = uverbs.run("", "limit");
    let expected = "1 of 16, then Too many open files\n";
    assert_eq!((ran.code, ran.out.as_str()), (Some(3), expected), "{ran:?}");
    assert!(ran.err.contains("1 finding(s)"), "{ran:?}");
}

#[test]
fn a_device_that_was_reset_for_a_time_comes_back_by_itself() {
    let test = "a_device_that_was_reset_for_a_time_comes_back_by_itself";
    let Some(uverbs) = Uverbs::build(test) else {
        return;
    };
    for _ in 0..3 {
        let ran = uverbs.run("", "reset");
        assert_eq!((ran.code, ran.out.as_str()), (Some(3), "0 0\n"), "{ran:?}");
        assert!(ran.err.contains("1 finding(s)"), "{ran:?}");
    }
}

/// A library that the user preloads sees the program's calls, and the model those that it passes on.
#[test]
fn what_the_user_preloads_is_loaded_as_well_and_stands_in_front() {
    let test = "what_the_user_preloads_is_loaded_as_well_and_stands_in_front";
    let Some(uverbs) = Uverbs::build(test) else {
        return;
    };
    let source = uverbs.path("theirs.c");
    let text = "
        #define _GNU_SOURCE
        #include <dlfcn.h>
        #include <string.h>
        #include <unistd.h>
        int open(const char *path, int flags, int mode) {
            int (*next)(const char *, int, int) = (int (*)(const char *, int, int))dlsym(RTLD_NEXT, \"open\");
            if (strstr(path, \"uverbs\") && write(1, \"theirs\\n\", 7) != 7) return -1;
            return next(path, flags, mode);
        }";
    fs::write(&source, text).unwrap();
    let library = uverbs.path("theirs.so");
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-o"])
        .arg(&library)
        .arg(source);
    let compiled = Ran::of(cc.arg("-ldl"));
    assert_eq!(compiled.code, Some(0), "{compiled:?}");
    let mut command = uverbs.exec("", "threads 1 1");
    let ran = Ran::of(command.env("LD_PRELOAD", &library));
    assert!(ran.out.starts_with("theirs\n"), "{ran:?}");
    assert!(ran.out.ends_with(&finding(1, 1)), "{ran:?}");
    assert_eq!(ran.code, Some(3), "{ran:?}");
}

/// LD_PRELOAD parts its paths at blanks and colons.
#[test]
fn the_preloaded_library_may_be_in_a_folder_with_blanks_in_its_name() {
    let test = "the_preloaded_library_may_be_in_a_folder_with_blanks_in_its_name";
    let Some(uverbs) = Uverbs::build(test) else {
        return;
    };
    let folder = uverbs.path("a folder: $ORIGIN");
    fs::create_dir(&folder).unwrap();
    let library = folder.join("lib model.so");
    let preload = std::env::var_os("MANA_PRELOAD").unwrap();
    fs::copy(preload, &library).unwrap();
    let run = |temporary: PathBuf| {
        let mut command = uverbs.exec("", "end 0");
        Ran::of(
            command
                .env("MANA_PRELOAD", &library)
                .env("TMPDIR", temporary),
        )
    };
    let ran = run(uverbs.path("."));
    assert_eq!(ran.code, Some(3), "{ran:?}");
    let ran = run(folder.clone());
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.err.contains("LD_PRELOAD can't name"), "{ran:?}");
    assert!(ran.err.contains("TMPDIR"), "{ran:?}");
    assert_eq!(fs::read_dir(folder).unwrap().count(), 1);
}

/// A tree of the user's own, variables of the model's, and all that libibverbs reads.
#[test]
fn variables_of_the_user_change_nothing_of_the_machine_that_is_seen() {
    let test = "variables_of_the_user_change_nothing_of_the_machine_that_is_seen";
    let Some(stack) = Stack::or_skip(test) else {
        return;
    };
    for tree in [&stack.dpdk, &stack.rdma_core_44] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let options = ["--vdev=model0,ports=2".to_owned()];
        let words = tree.verbs_program("ibv_devinfo");
        let mut command = stack.exec(&options, &words, folder.path());
        for (name, value) in [
            ("SYSFS_PATH", "/nonexistent"),
            ("SYSFS_PCI_DEVICES", "/nonexistent"),
            ("MANA_MODEL_DEVICES", "nonsense"),
            ("MANA_MODEL_DOORBELL", "nonsense"),
            ("MANA_MODEL_REPORTS", "/nonexistent"),
            ("MANA_MODEL_CONTROL", "/nonexistent/socket"),
            ("IBV_SHOW_WARNINGS", "1"),
            ("IBV_FORK_SAFE", "1"),
            ("RDMAV_FORK_SAFE", "1"),
            ("RDMAV_HUGEPAGES_SAFE", "1"),
            ("RDMAV_ALLOW_DISASSOC_DESTROY", "1"),
            ("IBV_DRIVERS", "nonexistent"),
            ("RDMAV_DRIVERS", "nonexistent"),
        ] {
            command.env(name, value);
        }
        let text = Job::start(&mut command, Duration::from_secs(60))
            .end()
            .success();
        assert!(text.contains("phys_port_cnt:\t\t\t2"), "{text}");
    }
}

/// As a program does whose plugin uses verbs: each time all devices are found and the first is opened.
#[test]
fn libibverbs_may_be_loaded_and_unloaded_again_and_again() {
    let test = "libibverbs_may_be_loaded_and_unloaded_again_and_again";
    let (Some(stack), Some(uverbs)) = (Stack::or_skip(test), Uverbs::build(test)) else {
        return;
    };
    for tree in [&stack.dpdk, &stack.rdma_core_44] {
        let library = tree.folder_of("libibverbs.so.1").join("libibverbs.so.1");
        // libmana registers itself with the library that it finds loaded, so its folder is named.
        let mut words = tree.foreign(&uverbs.program());
        words.extend(["reopen".into(), library.clone().into_os_string()]);
        let mut all = vec!["model".into(), "exec".into(), "--".into()];
        all.extend(words);
        let mut command = uverbs.mana(&[]);
        command
            .args(&all)
            .env("RDMAV_DRIVERS", tree.provider("libmana"));
        let ran = Ran::of(&mut command);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert_eq!(ran.out, "1 mana_0\n".repeat(3), "{ran:?}");
    }
}
