//! `cargo xtask package`: a Debian package of the program, its preload library, man pages,
//! completions and examples, made by `dpkg-deb`. What goes where is written in `tools/Cargo.toml`
//! as cargo-deb reads it, so that `cargo deb` makes the same for who has it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::debian::{self, failed, remove};
use crate::report::{Tally, Verdict};
use crate::workspace::Workspace;
use crate::{process, program};

/// The folder of the generated files, as `tools/Cargo.toml` names it below the target directory.
const GENERATED: &str = "generated";

/// Makes the package. Its path.
pub fn make(workspace: &Workspace) -> Result<PathBuf, String> {
    let mana = program::build("mana", "mana", false)?;
    program::library("mana-model-preload")?;
    let release = mana.parent().ok_or("the program has no folder")?.to_owned();
    let generated = workspace.target.join(GENERATED);
    remove(&generated)?;
    process::run(Command::new(&mana).arg("generate").arg(&generated))?;
    compress(&generated.join("man1"))?;

    let folder = workspace.target.join("package");
    let staging = folder.join("tree");
    remove(&staging)?;
    let manifest = manifest()?;
    let deb = &manifest["metadata"]["deb"];
    let list = deb["assets"]
        .as_array()
        .ok_or("no assets in [package.metadata.deb]")?;
    for asset in list {
        let field = |at: usize| asset[at].as_str().ok_or_else(|| format!("asset {asset}"));
        let (from, to, mode) = (field(0)?, field(1)?, field(2)?);
        // cargo-deb's paths begin at the manifest, those of built files at the target directory.
        let from = match from.strip_prefix("target/release/") {
            Some(built) => release.join(built),
            None => match from.strip_prefix("../target/") {
                Some(made) => workspace.target.join(made),
                None => Path::new("tools").join(from),
            },
        };
        put(&from, &staging.join(to), mode)?;
    }
    control(&manifest, deb, &staging, &mana)?;
    let version = manifest["version"].as_str().unwrap_or_default();
    let package = folder.join(format!("mana_{version}_{}.deb", architecture()?));
    // Owned by root whoever makes it.
    let mut make = Command::new("dpkg-deb");
    make.args(["--root-owner-group", "--build"])
        .arg(&staging)
        .arg(&package);
    process::capture(&mut make)?;
    Ok(package)
}

/// Makes the package and installs it into roots of Debian 12 and 13, where it must run.
pub fn tier(workspace: &Workspace, tally: &mut Tally) {
    let package = match make(workspace) {
        Ok(package) => package,
        Err(reason) => return tally.fail("the Debian package", reason),
    };
    for (name, group) in [
        ("Debian 12", &debian::RDMA_CORE_44),
        ("Debian 13", &debian::DPDK),
    ] {
        let test = format!("the package in a root of {name}");
        let root = workspace.target.join("package").join(group.name);
        match group.fetch(workspace) {
            Err(reason) => tally.skip(test, reason),
            Ok(tree) => match install(&package, &tree, &root).and_then(|()| try_out(&root)) {
                Ok(()) => tally.count(&test, Verdict::Passed),
                Err(reason) => tally.fail(test, reason),
            },
        }
    }
}

/// A root with the libraries of `tree` and the package in it.
fn install(package: &Path, tree: &Path, root: &Path) -> Result<(), String> {
    remove(root)?;
    // Hard links: nothing in a tree is ever changed in its place.
    process::run(Command::new("cp").arg("-al").arg(tree).arg(root))?;
    for folder in ["lib", "lib64"] {
        let place = root.join(folder);
        if !place.exists() {
            symlink(format!("usr/{folder}"), &place).map_err(|it| failed(&place, &it))?;
        }
    }
    let status = root.join("var/lib/dpkg");
    fs::create_dir_all(status.join("updates")).map_err(|it| failed(&status, &it))?;
    fs::create_dir_all(status.join("info")).map_err(|it| failed(&status, &it))?;
    for file in ["status", "available"] {
        fs::write(status.join(file), "").map_err(|it| failed(&status, &it))?;
    }
    let mut dpkg = Command::new("dpkg");
    dpkg.arg(format!("--root={}", root.display()))
        // Its libraries were unpacked, not installed: dpkg does not know of them.
        .args(["--force-not-root", "--force-depends", "--install"])
        .arg(package)
        .env("PATH", path());
    process::capture(&mut dpkg).map(drop)
}

/// Runs what was installed with the root's own loader and libraries.
fn try_out(root: &Path) -> Result<(), String> {
    let inside = |path: &str| root.join(path.trim_start_matches('/'));
    for file in [
        "/usr/share/man/man1/mana-doctor.1.gz",
        "/usr/share/bash-completion/completions/mana",
        "/usr/share/doc/mana/examples/mana-setup.service",
        "/usr/share/doc/mana/copyright",
    ] {
        if !inside(file).is_file() {
            return Err(format!("{file} is missing"));
        }
    }
    let loader = debian::find(root, "ld-linux-").ok_or("no dynamic loader in the root")?;
    let libraries = loader.parent().ok_or("the loader has no folder")?;
    let libraries = [
        libraries.to_owned(),
        inside("/lib/x86_64-linux-gnu"),
        inside("/usr/lib/x86_64-linux-gnu"),
    ];
    let libraries = std::env::join_paths(libraries).map_err(|error| error.to_string())?;
    let mana = inside("/usr/bin/mana");
    let run = |words: &str, expected: &str| {
        let mut command = Command::new(&loader);
        command
            .args(["--inhibit-cache", "--library-path"])
            .arg(&libraries)
            .arg(&mana);
        command.args(words.split_whitespace());
        if words.starts_with("model") {
            // Found by its place beside the program, not by a variable.
            command.arg(&mana).arg("doctor");
        }
        command.env_remove("MANA_PRELOAD");
        let output = command.output().map_err(|error| error.to_string())?;
        let said = String::from_utf8_lossy(&output.stdout);
        match said.contains(expected) {
            true => Ok(()),
            false => Err(format!(
                "mana {words} did not say `{expected}`: {said}{}",
                String::from_utf8_lossy(&output.stderr)
            )),
        }
    };
    run("--version", "mana ")?;
    run("doctor", "checks:")?;
    run("doctor --explain netdev-down", "cause:")?;
    run(
        "testpmd --no-huge --no-telemetry --vdev=model0 -- --forward-mode=txonly --auto-start --duration 0.2",
        "Accumulated forward statistics",
    )?;
    run("model exec --", "the device model is preloaded")
}

/// The manifest of the tool, as cargo reads it.
fn manifest() -> Result<Value, String> {
    let mut cargo = process::cargo();
    cargo.args(["metadata", "--no-deps", "--format-version=1"]);
    let text = process::capture(&mut cargo)?;
    let metadata: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let packages = metadata["packages"]
        .as_array()
        .ok_or("cargo metadata has no packages")?;
    let mana = packages.iter().find(|package| package["name"] == "mana");
    mana.cloned()
        .ok_or_else(|| "cargo metadata has no package mana".to_owned())
}

/// Copies a file, or all files that a name with `*` at its end means, into a folder (`/` at the end)
/// or to a name.
fn put(from: &Path, to: &Path, mode: &str) -> Result<(), String> {
    let mode = u32::from_str_radix(mode, 8).map_err(|_| format!("mode {mode}"))?;
    let mut files = Vec::new();
    match from.to_str().and_then(|text| text.strip_suffix("/*")) {
        None => files.push(from.to_owned()),
        Some(folder) => {
            let entries = fs::read_dir(folder).map_err(|it| failed(Path::new(folder), &it))?;
            files.extend(entries.flatten().map(|entry| entry.path()));
        }
    }
    for file in files {
        let into_folder = to.to_string_lossy().ends_with('/');
        let place = match file.file_name() {
            Some(name) if into_folder => to.join(name),
            _ => to.to_owned(),
        };
        if let Some(folder) = place.parent() {
            fs::create_dir_all(folder).map_err(|it| failed(folder, &it))?;
        }
        fs::copy(&file, &place).map_err(|it| failed(&file, &it))?;
        let permissions = fs::Permissions::from_mode(mode);
        fs::set_permissions(&place, permissions).map_err(|it| failed(&place, &it))?;
    }
    Ok(())
}

fn control(manifest: &Value, deb: &Value, staging: &Path, mana: &Path) -> Result<(), String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let folder = staging.join("DEBIAN");
    fs::create_dir_all(&folder).map_err(|it| failed(&folder, &it))?;
    let description = text(&deb["extended-description"]);
    let extended: String = description
        .lines()
        .map(|line| format!(" {line}\n"))
        .collect();
    let control = format!(
        "Package: mana\nVersion: {}\nArchitecture: {}\nMaintainer: {}\nSection: net\nPriority: \
         optional\nDepends: libc6 (>= {}), libgcc-s1\nRecommends: {}\nDescription: {}\n{extended}",
        text(&manifest["version"]),
        architecture()?,
        text(&deb["maintainer"]),
        glibc(mana)?,
        text(&deb["recommends"]),
        text(&manifest["description"]),
    );
    let file = folder.join("control");
    fs::write(&file, control).map_err(|it| failed(&file, &it))
}

/// The release of glibc that a program needs at least: the largest of the versions its symbols have.
fn glibc(program: &Path) -> Result<String, String> {
    let bytes = fs::read(program).map_err(|it| failed(program, &it))?;
    let mark = b"\0GLIBC_2.";
    let minors = bytes
        .windows(mark.len())
        .enumerate()
        .filter(|(_, it)| it == mark);
    let minor = minors.filter_map(|(at, _)| {
        let digits = bytes[at + mark.len()..]
            .iter()
            .take_while(|it| it.is_ascii_digit());
        String::from_utf8(digits.copied().collect())
            .ok()?
            .parse::<u32>()
            .ok()
    });
    let newest = minor.max().ok_or("the program names no version of glibc")?;
    Ok(format!("2.{newest}"))
}

fn architecture() -> Result<String, String> {
    let mut dpkg = Command::new("dpkg");
    dpkg.arg("--print-architecture");
    Ok(process::capture(&mut dpkg)?.trim().to_owned())
}

/// Debian wants man pages compressed.
fn compress(folder: &Path) -> Result<(), String> {
    for entry in fs::read_dir(folder)
        .map_err(|it| failed(folder, &it))?
        .flatten()
    {
        process::run(
            Command::new("gzip")
                .args(["-9", "-n", "-f"])
                .arg(entry.path()),
        )?;
    }
    Ok(())
}

/// dpkg wants the administrator's programs, which an ordinary user's path lacks.
fn path() -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    format!("{path}:/usr/local/sbin:/usr/sbin:/sbin")
}
