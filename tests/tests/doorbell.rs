//! The doorbell in the machine code of the release program: `sfence`, one 64-bit store, `sfence`.
//! The page is write-combining and shared by all queues, so that without the fences two rings may
//! merge into one or overtake their WQEs (DESIGN.md §3 "Data path"); Rust's release fence emits
//! nothing on x86.

#![forbid(unsafe_code)]

use std::process::Command;

/// One instruction, as objdump prints it, without address and bytes.
fn mnemonic(line: &str) -> Option<&str> {
    let (address, instruction) = line.split_once(":\t")?;
    address
        .trim()
        .bytes()
        .all(|byte| byte.is_ascii_hexdigit())
        .then(|| instruction.trim())
}

/// Whether this instruction stores 8 bytes to memory and does nothing else: `mov %rax,0x8(%rdx)`.
fn is_store(instruction: &str) -> bool {
    let Some(operands) = instruction.strip_prefix("mov ") else {
        return instruction.starts_with("movq ") && instruction.ends_with(')');
    };
    let operands = operands.trim();
    let Some((source, target)) = operands.split_once(",") else {
        return false;
    };
    let wide = source.starts_with("%r") && !source.ends_with(['d', 'w', 'b']);
    wide && target.ends_with(')')
}

/// Whether control leaves or arrives here: such an instruction must not stand between the fences.
fn is_branch(instruction: &str) -> bool {
    instruction.starts_with(['j', 'c'])
        && ["j", "call", "cmpxchg"]
            .iter()
            .any(|word| instruction.starts_with(word))
        || instruction.starts_with("ret")
}

/// Whether memory is written by anything that is no such store.
fn writes(instruction: &str) -> bool {
    let target = instruction.rsplit(' ').next().unwrap_or_default();
    let reads_only = ["cmp", "test", "lea", "prefetch", "nop", "jmp", "push"];
    target.ends_with(')')
        && target.contains(',')
        && !reads_only.iter().any(|word| instruction.starts_with(word))
}

/// Checks every pair of fences of a disassembly; the number of pairs.
fn check(disassembly: &str) -> Result<usize, String> {
    let mut pairs = 0;
    let mut function = "";
    let mut open: Option<Vec<&str>> = None;
    for line in disassembly.lines() {
        if line.ends_with(">:") {
            if open.take().is_some() {
                return Err(format!("{function}: a fence without its partner"));
            }
            function = line;
        }
        let Some(instruction) = mnemonic(line) else {
            continue;
        };
        if instruction.starts_with("sfence") {
            match open.take() {
                None => open = Some(Vec::new()),
                Some(between) => {
                    check_pair(&between)
                        .map_err(|why| format!("{function} {why}: {between:#?}"))?;
                    pairs += 1;
                }
            }
        } else if let Some(between) = &mut open {
            between.push(instruction);
        }
    }
    match open {
        Some(_) => Err(format!("{function}: a fence without its partner")),
        None => Ok(pairs),
    }
}

fn check_pair(between: &[&str]) -> Result<(), &'static str> {
    if between.iter().any(|instruction| is_branch(instruction)) {
        return Err("branches between its fences");
    }
    let stores = between.iter().filter(|instruction| is_store(instruction));
    if stores.count() != 1 {
        return Err("has not exactly one 64-bit store between its fences");
    }
    let others = between
        .iter()
        .filter(|instruction| writes(instruction) && !is_store(instruction));
    match others.count() {
        0 => Ok(()),
        _ => Err("writes something else between its fences"),
    }
}

#[test]
fn every_doorbell_of_the_release_program_is_fence_store_fence() {
    const NAME: &str = "every_doorbell_of_the_release_program_is_fence_store_fence";
    if cfg!(not(target_arch = "x86_64")) {
        conformance::skip(NAME, "written for x86-64");
        return;
    }
    let program = std::env::var_os("MANA_BIN")
        .expect("MANA_BIN names no program; `cargo xtask test --tier model` builds and sets it");
    let objdump = Command::new("objdump")
        .args(["-d", "--no-show-raw-insn"])
        .arg(program)
        .output();
    let output = match objdump {
        Ok(output) => output,
        Err(error) => {
            conformance::skip(NAME, &format!("objdump (Debian: binutils): {error}"));
            return;
        }
    };
    assert!(output.status.success(), "objdump failed");
    let text = String::from_utf8_lossy(&output.stdout);
    let pairs = check(&text).unwrap_or_else(|why| panic!("{why}"));
    // Send, receive and completion doorbells are three places at least.
    assert!(pairs >= 3, "only {pairs} doorbells in the program");
}

#[test]
fn a_missing_fence_a_second_store_and_a_call_between_are_seen() {
    let program = |lines: &[&str]| {
        let mut text = String::from("0000000000001000 <ring>:\n");
        for line in lines {
            text += &format!("    1000:\t{line}\n");
        }
        text
    };
    let good = [
        "sfence",
        "mov    %rax,(%rcx)",
        "add    $0x1,%rbx",
        "sfence",
        "ret",
    ];
    assert_eq!(check(&program(&good)), Ok(1));
    let narrow = ["sfence", "mov    %eax,(%rcx)", "sfence"];
    let read = ["sfence", "mov    (%rcx),%rax", "sfence"];
    let twice = [
        "sfence",
        "mov    %rax,(%rcx)",
        "mov    %rdx,(%rsi)",
        "sfence",
    ];
    let call = ["sfence", "mov    %rax,(%rcx)", "call   2000 <f>", "sfence"];
    let half = ["sfence", "mov    %rax,(%rcx)", "ret"];
    let vector = [
        "sfence",
        "mov    %rax,(%rcx)",
        "movups %xmm0,0x8(%rsi)",
        "sfence",
    ];
    for bad in [&narrow[..], &read, &twice, &call, &half, &vector] {
        assert!(check(&program(bad)).is_err(), "{bad:?}");
    }
}
