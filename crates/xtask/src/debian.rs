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
    /// Whether the libraries that they depend on, libc among them, come along: then the tree runs
    /// by its own dynamic loader, whatever the machine has.
    libraries: bool,
}

/// valgrind with its tools. Everything else it needs is libc.
pub const VALGRIND: Group = Group {
    name: "valgrind",
    packages: &["valgrind"],
    libraries: false,
};

/// What the tier `host` talks to the driver with, and through it. The last two are on every Debian,
/// but their versions differ.
pub const HOST: Group = Group {
    name: "host",
    packages: &[
        "iproute2",
        "iputils-ping",
        "iperf3",
        "curl",
        "nginx",
        "netcat-openbsd",
        "tcpdump",
        "ethtool",
        "coreutils",
        "util-linux",
    ],
    libraries: true,
};

const GROUPS: &[&Group] = &[&VALGRIND, &HOST];

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
        let mut packages: Vec<String> = self.packages.iter().map(ToString::to_string).collect();
        if self.libraries {
            packages.extend(apt.libraries(self.packages)?);
        }
        let archives = apt.download(&packages)?;
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

    /// The libraries among what an installation of these packages on an empty system would bring.
    fn libraries(&self, packages: &[&str]) -> Result<Vec<String>, String> {
        let mut install = self.command();
        install
            .args(["-y", "--no-install-recommends", "--print-uris", "install"])
            .args(packages);
        Ok(libraries_in(&process::capture(&mut install)?))
    }

    /// The packages as files, the newest version that the machine's sources have.
    fn download(&self, packages: &[String]) -> Result<Vec<PathBuf>, String> {
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

/// The packages with shared libraries in the list that `--print-uris` prints: of a line
/// `'address' file size hash`, the file's name begins with the package's. Perl comes only with the
/// scripts that would configure the packages, which are never run.
fn libraries_in(list: &str) -> Vec<String> {
    list.lines()
        .filter_map(|line| line.split_whitespace().nth(1)?.split('_').next())
        .filter(|name| name.starts_with("lib") || name.starts_with("zlib"))
        .filter(|name| !name.contains("perl"))
        .map(str::to_owned)
        .collect()
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
    fn libraries_are_taken_from_the_list_of_what_would_be_installed() {
        let list = "'http://x/libc6_2.36-9_amd64.deb' libc6_2.36-9_amd64.deb 2759320 SHA256:ab\n\
                    'http://x/z.deb' zlib1g_1%3a1.2.13_amd64.deb 86684 SHA256:cd\n\
                    'http://x/p.deb' libperl5.36_5.36.0-7_amd64.deb 4207640 SHA256:ef\n\
                    'http://x/a.deb' adduser_3.134_all.deb 183272 SHA256:01\n\n";
        assert_eq!(libraries_in(list), ["libc6", "zlib1g"]);
    }

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
