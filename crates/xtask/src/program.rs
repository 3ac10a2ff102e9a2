//! Release programs and shared libraries: built by cargo, and proved to be what the sources say now.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::process;
use crate::workspace::Workspace;

/// Builds the release program (or, with `example`, the example) `name` of `package`. Its path is
/// the one that cargo states in this run; no source it was made of is newer than it.
pub fn build(package: &str, name: &str, example: bool) -> Result<PathBuf, String> {
    let kind = if example { "--example" } else { "--bin" };
    release(package, &[kind, name])?
        .into_iter()
        .find_map(|(found, path)| (found == name).then_some(path))
        .ok_or_else(|| format!("cargo names no program `{name}` of {package}"))
}

/// Builds all examples of `package`, likewise. The folder they are in.
pub fn examples(package: &str) -> Result<PathBuf, String> {
    release(package, &["--examples"])?
        .first()
        .and_then(|(_, path)| path.parent().map(Path::to_owned))
        .ok_or_else(|| format!("{package} has no examples"))
}

/// Builds the release shared library of `package`, likewise.
pub fn library(package: &str) -> Result<PathBuf, String> {
    release(package, &["--lib"])?
        .into_iter()
        .find_map(|(_, path)| (path.extension()? == "so").then_some(path))
        .ok_or_else(|| format!("cargo names no shared library of {package}"))
}

/// Builds the program `mana` without its default features and with everything in it, libc too. It is
/// no release program: that it is made and runs is all there is to see.
pub fn linked_statically(workspace: &Workspace) -> Result<PathBuf, String> {
    let mut cargo = process::cargo();
    cargo
        .args(["build", "--package", "mana", "--no-default-features"])
        .args(["--target", "x86_64-unknown-linux-gnu", "--target-dir"])
        // The flag would make cargo build everything anew at every change of tier.
        .arg(workspace.target.join("static"))
        .env("RUSTFLAGS", "-Ctarget-feature=+crt-static")
        .env("CARGO_PROFILE_DEV_DEBUG", "false");
    artifacts(&mut cargo)?
        .into_iter()
        .find_map(|(name, path)| (name == "mana").then_some(path))
        .ok_or_else(|| "cargo names no program `mana`".to_owned())
}

/// The names and paths of the release programs and shared libraries that cargo builds.
fn release(package: &str, what: &[&str]) -> Result<Vec<(String, PathBuf)>, String> {
    let mut cargo = process::cargo();
    cargo
        .args(["build", "--release", "--package", package])
        .args(what);
    artifacts(&mut cargo)
}

/// The names and paths of the programs and shared libraries that this command of cargo builds.
fn artifacts(cargo: &mut Command) -> Result<Vec<(String, PathBuf)>, String> {
    cargo
        .arg("--message-format=json-render-diagnostics")
        .stdout(Stdio::piped());
    let output = cargo
        .spawn()
        .and_then(Child::wait_with_output)
        .map_err(|error| process::not_started(cargo, &error))?;
    if !output.status.success() {
        return Err(format!(
            "{} failed, see its output above",
            process::line(cargo)
        ));
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let programs: Vec<(String, PathBuf)> = messages.lines().filter_map(artifact).collect();
    for (_, path) in &programs {
        assert_fresh(path)?;
    }
    Ok(programs)
}

/// The name and path of the program that a message of cargo announces, or of the shared library of
/// this house: those of others are macros of the compiler.
fn artifact(message: &str) -> Option<(String, PathBuf)> {
    let message: Value = serde_json::from_str(message).ok()?;
    let target = &message["target"];
    let library = target["kind"]
        .as_array()?
        .iter()
        .any(|kind| kind == "cdylib");
    let path = match message["executable"].as_str() {
        Some(path) => path,
        None if library => message["filenames"]
            .as_array()?
            .iter()
            .filter_map(Value::as_str)
            .find(|path| path.ends_with(".so"))?,
        None => return None,
    };
    Some((target["name"].as_str()?.to_owned(), path.into()))
}

/// Holds the program against its `.d` file, in which cargo lists all the sources of this house it
/// was made of.
fn assert_fresh(program: &Path) -> Result<(), String> {
    let failed = |path: &Path, error| format!("{}: {error}", path.display());
    let modified = |path: &Path| {
        fs::metadata(path)
            .and_then(|data| data.modified())
            .map_err(|error| failed(path, error))
    };
    let built = modified(program)?;
    let list = program.with_extension("d");
    let sources = fs::read_to_string(&list).map_err(|error| failed(&list, error))?;
    for source in sources_in(&sources) {
        if modified(&source)? > built {
            return Err(format!(
                "{} is older than {}",
                program.display(),
                source.display()
            ));
        }
    }
    Ok(())
}

/// The paths after the colon of a make rule; a space inside a path is escaped.
fn sources_in(rule: &str) -> Vec<PathBuf> {
    let (_, sources) = rule.split_once(": ").unwrap_or_default();
    let mut paths = vec![String::new()];
    let mut characters = sources.trim_end().chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => paths
                .last_mut()
                .into_iter()
                .for_each(|path| path.extend(characters.next())),
            ' ' => paths.push(String::new()),
            other => paths
                .last_mut()
                .into_iter()
                .for_each(|path| path.push(other)),
        }
    }
    paths
        .into_iter()
        .filter(|path| !path.is_empty())
        .map(PathBuf::from)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_read_from_the_make_rule() {
        let rule = "/t/release/mana: /w/a.rs /w/my\\ house/b.rs\n";
        assert_eq!(
            sources_in(rule),
            [Path::new("/w/a.rs"), Path::new("/w/my house/b.rs")]
        );
        assert!(sources_in("").is_empty());
    }

    #[test]
    fn names_and_paths_are_those_that_cargo_states() {
        let message = |kind: &str, executable: Value| {
            serde_json::json!({
                "target": {"name": "mana", "kind": [kind]}, "executable": executable,
                "filenames": ["/t/release/libmana.rlib", "/t/release/libmana.so"],
            })
            .to_string()
        };
        let found = |path: &str| Some(("mana".to_owned(), PathBuf::from(path)));
        assert_eq!(
            artifact(&message("bin", "/t/release/mana".into())),
            found("/t/release/mana")
        );
        assert_eq!(
            artifact(&message("cdylib", Value::Null)),
            found("/t/release/libmana.so")
        );
        assert_eq!(artifact(&message("proc-macro", Value::Null)), None);
    }

    #[test]
    fn a_program_older_than_a_source_of_its_own_is_refused() {
        let folder = std::env::temp_dir().join(format!("xtask-fresh-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (program, source) = (folder.join("mana"), folder.join("main.rs"));
        fs::write(&program, "").unwrap();
        fs::write(&source, "").unwrap();
        fs::write(
            folder.join("mana.d"),
            format!("mana: {}\n", source.display()),
        )
        .unwrap();
        let day = std::time::Duration::from_secs(86_400);
        let set = |path: &Path, time| fs::File::open(path).unwrap().set_modified(time).unwrap();
        let now = std::time::SystemTime::now();
        set(&program, now);
        set(&source, now - day);
        assert_fresh(&program).unwrap();
        set(&source, now + day);
        let stale = assert_fresh(&program).unwrap_err();
        assert!(stale.contains("is older than"), "{stale}");
        fs::remove_dir_all(&folder).unwrap();
    }
}
