//! Libraries that can't serve: `auto` works through uverbs and says why in one line, `rdma-core`
//! fails with cause and fix.

use std::fs;
use std::path::Path;

use crate::commands::Commands;
use crate::libraries::{Ended, Release, Run, Tree, value};

/// Runs as `run` says with both choices: one refuses with all of `parts`, the other names them and
/// works.
fn refused_and_survived(tree: &Tree, run: &Run<'_>, parts: &[&str]) {
    let with = |provider| -> Ended {
        tree.testpmd(&Run {
            provider,
            ..run.clone()
        })
    };
    let refused = with("rdma-core");
    refused.assert_refused(parts);
    assert!(refused.stderr.contains("provider=uverbs"), "{refused:?}");
    let survived = with("auto");
    survived.assert_ran_over("uverbs (because rdma-core can't be used: ");
    for part in parts {
        let line = survived.provider();
        assert!(line.contains(part), "no `{part}` in {line}");
    }
}

#[test]
fn libraries_of_either_release_serve_and_are_named() {
    let test = "libraries_of_either_release_serve_and_are_named";
    for release in Release::ALL {
        let Some(tree) = Tree::or_skip(test, release) else {
            return;
        };
        let [ibverbs, mana] = ["libibverbs.so.1", "libmana.so.1"].map(|l| tree.release_of(l));
        let named = format!("rdma-core (libibverbs {ibverbs}, libmana {mana}");
        for (provider, why) in [("rdma-core", ")"), ("auto", "; auto: both load and open")] {
            let ended = tree.testpmd(&Run {
                provider,
                ..Run::default()
            });
            ended.assert_ran_over(&format!("{named}{why}"));
        }
    }
}

#[test]
fn a_library_that_is_missing_is_named_with_the_package_to_install() {
    let test = "a_library_that_is_missing_is_named_with_the_package_to_install";
    let Some(tree) = Tree::or_skip(test, Release::Current) else {
        return;
    };
    for missing in ["libibverbs.so.1", "libmana.so.1"] {
        // Whatever the machine has: the loader ends its search at a file that is no library.
        let folder = tree.scratch.path().join(missing);
        fs::create_dir(&folder).expect("a folder");
        fs::write(folder.join(missing), "").expect("a file");
        let run = Run {
            first: Some(folder),
            ..Run::default()
        };
        let loaded = format!("{missing} can't be loaded (");
        refused_and_survived(&tree, &run, &[&loaded, "apt install", "ibverbs-providers"]);
    }
}

#[test]
fn a_libmana_without_manadv_is_too_old() {
    let test = "a_libmana_without_manadv_is_too_old";
    let Some(tree) = Tree::or_skip(test, Release::Current) else {
        return;
    };
    // A library that is there and has nothing of it.
    let first = tree.folder_with("libmana.so.1", &tree.library("libm.so.6"));
    let run = Run {
        first: Some(first),
        ..Run::default()
    };
    refused_and_survived(
        &tree,
        &run,
        &[
            "libmana.so.1: no manadv_",
            "since its release 44",
            "apt install",
        ],
    );
}

#[test]
fn a_libmana_without_parent_domains_is_too_old() {
    let test = "a_libmana_without_parent_domains_is_too_old";
    for release in Release::ALL {
        let Some(tree) = Tree::or_skip(test, release) else {
            return;
        };
        let Some(preload) = tree.compile(test, "parentless.c", "parentless.so") else {
            return;
        };
        let run = Run {
            preload: Some(preload),
            ..Run::default()
        };
        refused_and_survived(
            &tree,
            &run,
            &["alloc_parent_domain", "since its release 44"],
        );
    }
}

#[test]
fn libraries_of_two_releases_are_refused_with_both_files() {
    let test = "libraries_of_two_releases_are_refused_with_both_files";
    let (Some(first), Some(current)) = (
        Tree::or_skip(test, Release::First),
        Tree::or_skip(test, Release::Current),
    ) else {
        return;
    };
    for library in ["libibverbs.so.1", "libmana.so.1"] {
        // The C library of the current tree serves both.
        let run = Run {
            first: Some(current.folder_with(library, &first.library(library))),
            ..Run::default()
        };
        let old = first.library(library);
        let other = match library {
            "libmana.so.1" => "libibverbs.so.1",
            _ => "libmana.so.1",
        };
        let new = current.library(other);
        let shown = |path: &Path| path.display().to_string();
        refused_and_survived(
            &current,
            &run,
            &[&shown(&old), &shown(&new), "install both from one release"],
        );
    }
}

/// Azure's 5.15: libibverbs opens the device with liberdma, whose memory manadv would write to.
#[test]
fn another_drivers_context_is_closed_before_any_call_of_manadv() {
    let test = "another_drivers_context_is_closed_before_any_call_of_manadv";
    for release in Release::ALL {
        let Some(tree) = Tree::or_skip(test, release) else {
            return;
        };
        let (Some(silent), Some(record)) = (
            tree.compile(test, "silent_libmana.c", "libmana.so.1"),
            tree.compile(test, "record.c", "record.so"),
        ) else {
            return;
        };
        // libibverbs adds the suffix.
        let erdma = tree.library("libibverbs/liberdma-rdmav34.so");
        let erdma = erdma.to_string_lossy();
        let driver = erdma.strip_suffix("-rdmav34.so").expect("a driver's name");
        let log = tree.scratch.path().join("commands");
        let run = |provider, first| Run {
            model: "model0,driver-id=19",
            provider,
            first,
            preload: Some(record.clone()),
            environment: vec![("RDMAV_DRIVERS", value(driver)), ("RECORD_TO", value(&log))],
        };
        let silent = silent.parent().map(Path::to_owned);
        for first in [None, silent] {
            let refused = tree.testpmd(&run("rdma-core", first.clone()));
            refused.assert_refused(&[
                "liberdma",
                "the kernel's driver id is 19, libmana's is 20",
                "provider=uverbs",
            ]);
            // It was opened, indeed, by a driver that says 19, and closed again.
            let commands = Commands::take(&log);
            assert!(commands.all.iter().any(|c| c.name() == "get context"));
            assert!(commands.all.iter().all(|c| c.driver == 19));
            commands.assert_nothing_left();
            let survived = tree.testpmd(&run("auto", first));
            survived.assert_ran_over("uverbs (because rdma-core can't be used: ");
            let line = survived.provider();
            assert!(line.contains("id is 19, libmana's is 20"), "{line}");
            assert!(line.ends_with("driver id 19"), "{line}");
            Commands::take(&log).assert_nothing_left();
        }
    }
}

#[test]
fn a_driver_id_that_no_loaded_library_has_is_told_with_libmanas() {
    let test = "a_driver_id_that_no_loaded_library_has_is_told_with_libmanas";
    let Some(tree) = Tree::or_skip(test, Release::Current) else {
        return;
    };
    let run = Run {
        model: "model0,driver-id=19",
        ..Run::default()
    };
    // liberdma is not in the list of drivers.
    let text = "the kernel's driver id is 19, libmana's is 20";
    refused_and_survived(&tree, &run, &[text]);
}

#[test]
fn a_device_that_netlink_does_not_tell_is_not_listed() {
    let test = "a_device_that_netlink_does_not_tell_is_not_listed";
    for release in Release::ALL {
        let Some(tree) = Tree::or_skip(test, release) else {
            return;
        };
        let run = Run {
            model: "model0,netlink=off",
            ..Run::default()
        };
        refused_and_survived(
            &tree,
            &run,
            &[
                "libibverbs does not list it",
                "netlink does not tell",
                "ibv_devices",
            ],
        );
    }
}
