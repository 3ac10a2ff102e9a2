//! Programs of Debian for the tests: fetched as packages and unpacked under `target/debian/`,
//! without root and without installing anything.
//!
//! apt runs on state directories of its own there, with the machine's sources and keys, so that no
//! mirror is named here and the machine's own lists stay as they are.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process;
use crate::workspace::Workspace;

/// Packages that are unpacked into one tree of their own.
pub struct Group {
    name: &'static str,
    packages: &'static [&'static str],
}

/// valgrind with its tools. Everything else it needs is libc.
pub const VALGRIND: Group = Group {
    name: "valgrind",
    packages: &["valgrind"],
};

const GROUPS: &[&Group] = &[&VALGRIND];

/// Fetches all groups.
pub fn fetch_all(workspace: &Workspace) -> Result<(), String> {
    for group in GROUPS {
        println!("{}: {}", group.name, group.fetch(workspace)?.display());
    }
    Ok(())
}

impl Group {
    /// The folder the packages are unpacked in. Fetched the first time, and when the list of
    /// packages has changed.
    pub fn fetch(&self, workspace: &Workspace) -> Result<PathBuf, String> {
        let debian = workspace.target.join("debian");
        let tree = debian.join(self.name);
        let wanted = self.packages.join("\n");
        let stamp = debian.join(format!("{}.packages", self.name));
        if tree.is_dir() && fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
            return Ok(tree);
        }
        println!(
            "== fetch: {} into {}",
            self.packages.join(", "),
            tree.display()
        );
        let apt = Apt::new(debian.join("apt"))?;
        apt.update()?;
        let archives = apt.download(self.packages)?;
        // Unpacked beside its place, so that an interrupted run leaves no half of a tree.
        let part = debian.join(format!("{}.part", self.name));
        for path in [&part, &tree] {
            remove(path)?;
        }
        create(&part)?;
        for archive in &archives {
            process::run(Command::new("dpkg-deb").arg("-x").arg(archive).arg(&part))?;
        }
        fs::rename(&part, &tree).map_err(|error| failed(&tree, &error))?;
        fs::write(&stamp, wanted).map_err(|error| failed(&stamp, &error))?;
        Ok(tree)
    }
}

/// apt on private directories.
struct Apt {
    folder: PathBuf,
}

impl Apt {
    fn new(folder: PathBuf) -> Result<Apt, String> {
        for part in ["lists/partial", "cache/archives/partial", "download"] {
            create(&folder.join(part))?;
        }
        let configuration = folder.join("apt.conf");
        fs::write(&configuration, configuration_in(&folder))
            .map_err(|error| failed(&configuration, &error))?;
        Ok(Apt { folder })
    }

    fn command(&self) -> Command {
        let mut command = Command::new("apt-get");
        // Read after the machine's configuration: what it says wins.
        command
            .arg("-c")
            .arg(self.folder.join("apt.conf"))
            .arg("-qq");
        command.current_dir(self.folder.join("download"));
        command
    }

    fn update(&self) -> Result<(), String> {
        process::run(self.command().arg("update"))
    }

    /// The packages as files, the newest version that the machine's sources have.
    fn download(&self, packages: &[&str]) -> Result<Vec<PathBuf>, String> {
        let download = self.folder.join("download");
        remove(&download)?;
        create(&download)?;
        process::run(self.command().arg("download").args(packages))?;
        let read = |error| failed(&download, &error);
        let mut archives = Vec::new();
        for entry in fs::read_dir(&download).map_err(read)? {
            archives.push(entry.map_err(read)?.path());
        }
        if archives.len() < packages.len() {
            return Err(format!("apt-get fetched only {archives:?} of {packages:?}"));
        }
        Ok(archives)
    }
}

/// What differs from the machine's configuration.
fn configuration_in(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        r#"Dir::State "{folder}";
Dir::State::lists "{folder}/lists";
Dir::Cache "{folder}/cache";
// What is installed does not matter, and is not locked.
Dir::State::status "/dev/null";
// As root, apt would become a user who may not write here.
APT::Sandbox::User "";
Acquire::Languages "none";
Acquire::Retries "2";
Acquire::http::Timeout "30";
// The hooks of container images tidy the machine's own folders.
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
"#
    )
}

fn create(folder: &Path) -> Result<(), String> {
    fs::create_dir_all(folder).map_err(|error| failed(folder, &error))
}

fn remove(folder: &Path) -> Result<(), String> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(failed(folder, &error)),
        _ => Ok(()),
    }
}

fn failed(path: &Path, error: &std::io::Error) -> String {
    format!("{}: {error}", path.display())
}

/// The first file below `folder` whose name starts with `prefix`.
pub fn find(folder: &Path, prefix: &str) -> Option<PathBuf> {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).ok()?.flatten() {
            let path = entry.path();
            let named = entry.file_name().to_string_lossy().starts_with(prefix);
            // Links are left alone: they may lead out of the tree.
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(path),
                Ok(kind) if kind.is_file() && named => return Some(path),
                _ => {}
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_found_at_any_depth_by_the_start_of_its_name() {
        let folder = std::env::temp_dir().join(format!("xtask-find-{}", std::process::id()));
        let tool = folder.join("usr/libexec/valgrind/callgrind-amd64-linux");
        create(tool.parent().unwrap()).unwrap();
        fs::write(&tool, "").unwrap();
        assert_eq!(find(&folder, "callgrind-"), Some(tool));
        assert_eq!(find(&folder, "memcheck-"), None);
        remove(&folder).unwrap();
        assert_eq!(find(&folder, "callgrind-"), None);
    }
}
