//! Our driver on the real mana.ko and mana_ib.ko: in one guest of each kernel, with the device that `mana
//! model serve` plays, the conformance suites over all three stacks, and the kernel's rules once more.

#![forbid(unsafe_code)]

use std::process::Command;
use std::thread;

use conformance::vm::{self, Results};
use conformance::{matrix, skip, suites};

/// What a guest may take, in seconds.
const LIMIT: u64 = 400;
/// The same where every suite runs over all stacks.
const WRITTEN_LIMIT: u64 = 2 * 3600;

/// Over what our driver runs: its name, what is before and behind the program's, and the release that
/// rdma-core's libraries must be of.
const STACKS: [(&str, &str, &str, Option<&str>); 3] = [
    ("uverbs", "", "uverbs", None),
    ("rdma-core 56", "", "rdma-core", Some("56")),
    ("rdma-core 44", "rdma-core-44", "rdma-core", Some("44")),
];

/// A device, and one with numbers that are not small: all suites run on that.
const PLAIN: &str = "model0,ports=2,link=loop";
const LARGE: &str = "model0,ports=2,link=loop,first-queue-id=1022,vport-offset=2302";

/// Everything that a guest of one kernel is asked, in one boot. `whole` runs every suite once, over
/// uverbs; over all stacks where the table is written, into which then goes what fails as well.
fn holds(mut command: Command, kernel: &str, whole: bool, rules: &str) {
    let written = matrix::is_written();
    let device = if whole || written { LARGE } else { PLAIN };
    command.args(["--kernel", kernel, "--vdev", device, "--resets"]);
    let all = |stack: &str| written || whole && stack == "uverbs";
    let mut parts: Vec<(String, String)> = STACKS
        .iter()
        .map(|(stack, before, provider, _)| {
            let which = if all(stack) { "" } else { "--suite kernel" };
            let line = format!(
                "{before} mana conformance -a mac=$(cat /sys/class/net/eth0/address) --provider \
                 {provider} --control /run/port-model {which} --json"
            );
            ((*stack).to_owned(), line)
        })
        .collect();
    let rulebook = format!("mana conformance --rulebook -a {}", vm::PCI);
    parts.push(("rulebook".to_owned(), rulebook));
    parts.push(("release".to_owned(), "uname -r".to_owned()));
    let limit = if written { WRITTEN_LIMIT } else { LIMIT };
    let told = vm::run(command, limit, &parts);
    for (stack, _, provider, release) in STACKS {
        let results = Results::read(&told[stack]);
        assert_eq!(results.provider.as_deref(), Some(provider), "{stack}");
        assert_stands_on(&results, stack, release);
        if !written {
            let asked = match all(stack) {
                true => suites::ALL.iter().map(|suite| suite.name).collect(),
                false => suites::kernel(),
            };
            assert_expected(&results, &format!("{stack} {kernel}"), kernel, &asked);
        }
        let column = format!("{stack}, {kernel}");
        let libraries: Vec<_> = results
            .libraries
            .iter()
            .filter_map(|path| path.file_name())
            .collect();
        let libraries: Vec<_> = libraries
            .iter()
            .map(|name| name.to_string_lossy())
            .collect();
        matrix::describe(&column, told["release"].trim(), &libraries.join(", "));
        for suite in &results.suites {
            matrix::cell(&suite.name, &column, &suite.verdict());
        }
    }
    let rulebook = &told["rulebook"];
    for (now, recorded) in rulebook.lines().zip(rules.lines()) {
        assert_eq!(now, recorded, "the kernel, and what was recorded on it");
    }
    assert_eq!(rulebook.lines().count(), rules.lines().count());
}

/// Every suite that was asked for passed, or was skipped because this kernel leaves it no way.
fn assert_expected(results: &Results, stack: &str, kernel: &str, asked: &[&str]) {
    let can = suites::on_kernel(kernel);
    let can_not = asked.iter().filter(|name| !can.contains(name));
    let skipped = results.skipped(stack);
    let names = skipped.iter().map(|(name, _)| name);
    assert!(
        names.eq(can_not),
        "{stack}: suites that were skipped: {skipped:?}"
    );
    for (name, reason) in skipped {
        assert!(!reason.is_empty(), "{stack}: {name}");
        skip(&format!("{stack}: {name}"), reason);
    }
    assert_eq!(results.suites.len(), asked.len(), "{stack}");
}

/// The very processes of the suites had libibverbs and libmana of that release mapped, and no other; or
/// none. Each of them looked for both itself.
fn assert_stands_on(results: &Results, stack: &str, release: Option<&str>) {
    let names = results.libraries.iter().map(|path| {
        let name = path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    });
    let names: Vec<String> = names.collect();
    let Some(release) = release else {
        assert!(names.is_empty(), "{stack}: {names:?}");
        return;
    };
    assert_eq!(names.len(), 2, "{stack}: {:?}", results.libraries);
    for library in ["libibverbs.so.1.", "libmana.so.1."] {
        let name = names.iter().find_map(|name| name.strip_prefix(library));
        // As `1.14.44.0` and `1.0.44.0`.
        let version = name.and_then(|name| name.split('.').nth(1));
        assert_eq!(version, Some(release), "{stack}: {names:?}");
    }
    let note = results.provider_note.as_deref().unwrap_or_default();
    for library in ["libibverbs", "libmana"] {
        assert!(note.contains(&format!("{library} {release}.")), "{note}");
    }
}

/// Both kernels at once: each waits for the other kind of things most of the time.
#[test]
fn our_driver_and_the_rules_hold_on_both_kernels() {
    let test = "our_driver_and_the_rules_hold_on_both_kernels";
    let Some(older) = vm::command(test) else {
        return;
    };
    let newer = vm::command(test).expect("it is not skipped");
    thread::scope(|scope| {
        let rules = include_str!("../rulebook/linux-6.12.txt");
        let older = scope.spawn(|| holds(older, "6.12", true, rules));
        holds(
            newer,
            "7.x",
            false,
            include_str!("../rulebook/linux-7.3.txt"),
        );
        // Its panic was printed where it happened.
        older.join().expect("Linux 6.12 as well");
    });
}
