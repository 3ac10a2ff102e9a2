//! `mana bench` over the trees: that it measures all stacks, on what it says, and that what it says
//! can be read. How long anything took is not judged.

#![forbid(unsafe_code)]

use std::env;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use conformance::skip;
use conformance::stack::Stack;
use serde_json::Value;

/// The trees as xtask unpacked them, in one folder.
fn trees() -> PathBuf {
    let tree = env::var_os("MANA_DPDK_TREE").expect("the tier sets it");
    let parent = PathBuf::from(tree).parent().map(PathBuf::from);
    parent.expect("a tree stands in a folder")
}

fn bench(stack: &Stack, options: &str) -> Value {
    let mut command = Command::new(stack.mana());
    command.args(["bench", "--json", "--tree"]).arg(trees());
    command.args(options.split(' ')).stderr(Stdio::inherit());
    let output = command.output().expect("mana starts");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}\n{text}", output.status);
    let last = text.lines().last().expect("a line of JSON");
    serde_json::from_str(last).unwrap_or_else(|error| panic!("{error} in {last}"))
}

fn skipped(report: &Value) -> Vec<String> {
    let list = report["skipped"].as_array().expect("a list");
    list.iter().map(ToString::to_string).collect()
}

fn stacks(report: &Value) -> Vec<&str> {
    let list = report["stacks"].as_array().expect("a list");
    list.iter()
        .filter_map(|one| one["stack"].as_str())
        .collect()
}

#[test]
fn all_stacks_are_measured_on_the_libraries_of_the_trees_and_compared() {
    let test = "all_stacks_are_measured_on_the_libraries_of_the_trees_and_compared";
    let Some(stack) = Stack::or_skip(test) else {
        return;
    };
    let report = bench(
        &stack,
        "--pages 4k --rounds 2 --packets 4096 --counted 2048 --axis base --axis poll",
    );
    let skipped = skipped(&report);
    if let Some(reason) = skipped.iter().find(|text| text.contains("no C compiler")) {
        // A linker is all that this house needs of a C compiler.
        skip(test, reason);
        return;
    }
    // Virtual machines mostly have none.
    let of_counters = |text: &&String| text.contains("counters of the processor");
    let no_counters = skipped.iter().find(of_counters);
    let mut others = skipped.iter().filter(|text| !of_counters(text));
    assert_eq!(others.next(), None);
    assert_eq!(stacks(&report), ["c", "rdma-core", "uverbs", "floor"]);
    for (index, libraries) in [
        "librte_net_mana.so.25 libmana.so.1.0.56 libibverbs.so.1.14.56",
        "libmana.so.1.0.56 libibverbs.so.1.14.56",
        "",
        "",
    ]
    .into_iter()
    .enumerate()
    {
        let found = report["stacks"][index]["libraries"].as_array();
        let found: Vec<&str> = found
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let wanted: Vec<&str> = libraries.split_whitespace().collect();
        assert_eq!(found.len(), wanted.len(), "{found:?}");
        for name in wanted {
            assert!(found.iter().any(|file| file.starts_with(name)), "{found:?}");
        }
        let memory = &report["stacks"][index]["kib_per_queue_pair"];
        assert!(index == 3 || memory.as_f64() > Some(1.0), "{memory}");
    }
    for direction in ["tx", "rx", "forward"] {
        let ratios = &report["ratios"][direction];
        for ratio in ["cycles_vs_c", "instructions_vs_c", "cycles_vs_floor"] {
            let value = ratios[ratio].as_f64();
            let good = value.is_some_and(|value| value.is_finite() && value > 0.0);
            assert!(good, "{direction}: {ratios}");
        }
        // Instructions are the same in every run: the floor is one, and C is dearer than ours.
        let figures = &report["points"][0]["directions"][direction]["stacks"];
        let of = |name: &str| figures[name]["instructions"].as_f64().expect("a count");
        assert!(of("floor") > 5.0 && of("floor") < of("uverbs"), "{figures}");
        assert!(of("uverbs") < of("c"), "{figures}");
        assert!(
            (of("uverbs") / of("rdma-core") - 1.0).abs() < 0.02,
            "{figures}"
        );
        assert!(figures["c"]["packets"].as_u64() >= Some(4096), "{figures}");
        for name in ["c", "rdma-core", "uverbs", "floor"] {
            let events = &figures[name]["events"];
            let refused = no_counters.is_some_and(|text| text.contains("page-faults"));
            let faults = events["page-faults"].as_f64();
            assert!(
                refused || faults.is_some_and(|n| n < 0.01),
                "{name}: {events}"
            );
            let cycles = events["cycles"].as_f64();
            let counted = no_counters.is_some() || cycles.is_some_and(|n| n > 0.0);
            assert!(counted, "{name}: {events}");
        }
    }
    let poll = &report["points"][1]["directions"]["poll"]["stacks"];
    assert!(poll["c"]["median"].as_f64() > Some(0.0), "{poll}");
}

#[test]
fn several_queues_and_all_conditions_are_measured_without_findings() {
    let test = "several_queues_and_all_conditions_are_measured_without_findings";
    let Some(stack) = Stack::or_skip(test) else {
        return;
    };
    let report = bench(
        &stack,
        "--pages 4k --rounds 1 --packets 512 --counted 0 --full --axis queues --axis offload \
         --axis segments --axis coalescing --axis completions --axis drain",
    );
    let points = report["points"].as_array().expect("a list");
    assert_eq!(points.len(), 3 + 2 + 2 + 1 + 2 + 1);
    for point in points {
        let directions = point["directions"].as_object().expect("directions");
        for (name, measured) in directions {
            let ours = measured["stacks"]["uverbs"]["median"].as_f64();
            assert!(ours > Some(0.0), "{name} of {point}");
        }
    }
    assert_eq!(report["ratios"]["tx"]["instructions_vs_c"], Value::Null);
    for one in report["stacks"].as_array().expect("a list") {
        let findings = one["findings"].as_array().map_or(0, Vec::len);
        let ours = matches!(one["stack"].as_str(), Some("uverbs" | "rdma-core"));
        assert!(!ours || findings == 0, "{one}");
    }
}

/// What `mana bench -a` does on hardware, over the model: the same port for both programs in turn.
#[test]
fn a_port_is_measured_with_both_testpmds_in_turn() {
    let test = "a_port_is_measured_with_both_testpmds_in_turn";
    let Some(stack) = Stack::or_skip(test) else {
        return;
    };
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        skip(test, "testpmd needs a second processor");
        return;
    }
    let mut command = Command::new(stack.mana());
    command.args(["model", "exec", "--vdev=model0,link=gen", "--"]);
    command.arg(stack.mana()).args(["bench", "--tree"]);
    command.arg(trees()).stderr(Stdio::inherit());
    command.args("--pages 4k --json --duration 1 -a 7870:00:00.0".split(' '));
    let output = command.output().expect("mana starts");
    let text = String::from_utf8_lossy(&output.stdout);
    // 3: the model has findings, which the driver in C always has.
    assert!(matches!(output.status.code(), Some(0 | 3)), "{text}");
    let last = text.lines().last().expect("a line of JSON");
    let report: Value =
        serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!(skipped(&report).len(), 0, "{text}");
    let rates = report["rates"].as_array().expect("a list");
    let runs: Vec<(&str, &str)> = rates
        .iter()
        .filter_map(|rate| Some((rate["mode"].as_str()?, rate["stack"].as_str()?)))
        .collect();
    let expected = ["tx", "rx", "forward"].map(|mode| [(mode, "C PMD"), (mode, "ours")]);
    assert_eq!(runs, expected.concat());
    for rate in rates {
        let positive = |field: &str| rate[field].as_f64() > Some(0.0);
        assert!(positive("mpps") && positive("cycles_per_packet"), "{rate}");
    }
}
