//! apt on directories of its own, so that the machine's lists, cache and packages stay as they are.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{create, failed, remove, suite};
use crate::process;

/// Whose turn it is in each folder: groups are fetched by several threads, those of one suite share its
/// folder, and apt does not share its lists with itself. Inside, whether this run has brought them up
/// to date.
static TURNS: Mutex<BTreeMap<PathBuf, Arc<Mutex<bool>>>> = Mutex::new(BTreeMap::new());

/// The file with the sources of another suite.
const SOURCES: &str = "suite.sources";
/// The suite whose folder has all of `trixie` as well: its lists are fetched once.
const BACKPORTS: &str = "trixie-backports";

/// Lists of packages and nothing else: descriptions of programs for people are as large again.
const PACKAGES: &str = r#"Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
"#;
/// No lists, but the smallest file that stands in the one for each: to know which sources are Debian's.
const RELEASES: &str = r#"#clear Acquire::IndexTargets::deb;
#clear Acquire::IndexTargets::deb-src;
Acquire::IndexTargets::deb::Release::MetaKey "$(COMPONENT)/binary-$(ARCHITECTURE)/Release";
Acquire::IndexTargets::deb::Release::ShortDescription "Release";
Acquire::IndexTargets::deb::Release::Description "$(RELEASE)/$(COMPONENT) $(ARCHITECTURE) Release";
"#;

/// apt on private directories.
pub struct Apt {
    folder: PathBuf,
    /// From which packages come, if the folder has others too.
    suite: Option<&'static str>,
    turn: Arc<Mutex<bool>>,
}

impl Apt {
    /// With the machine's own sources and keys.
    pub fn new(folder: PathBuf) -> Result<Apt, String> {
        Apt::with(folder, None, &[], PACKAGES)
    }

    /// With the machine's sources of Debian, but of another suite. Folders of apt's are below `debian`.
    pub fn of_suite(debian: &Path, suite: &'static str) -> Result<Apt, String> {
        let folder = match suite {
            "trixie" => BACKPORTS,
            other => other,
        };
        let machine = Apt::with(debian.join("apt-sources"), None, &[], RELEASES)?;
        let mut command = machine.command();
        command.args(["indextargets", "--format", suite::FORMAT]);
        command.arg("Created-By: Release");
        let turn = machine.turn();
        let targets = process::capture(&mut command);
        drop(turn);
        let sources = suite::sources(&targets?, folder)?;
        let folder = debian.join(format!("apt-{folder}"));
        let list = folder.join(SOURCES);
        let lines = format!(
            "{PACKAGES}Dir::Etc::sourcelist \"{}\";\nDir::Etc::sourceparts \"-\";\n",
            list.display()
        );
        Apt::with(folder, Some(suite), &[(SOURCES, sources)], &lines)
    }

    fn with(
        folder: PathBuf,
        suite: Option<&'static str>,
        files: &[(&str, String)],
        lines: &str,
    ) -> Result<Apt, String> {
        let mut turns = TURNS.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = Arc::clone(turns.entry(folder.clone()).or_default());
        drop(turns);
        let apt = Apt {
            folder,
            suite,
            turn,
        };
        let mut updated = apt.turn();
        if !*updated {
            for part in ["lists/partial", "cache/archives/partial", "download"] {
                create(&apt.folder.join(part))?;
            }
            let configuration = ("apt.conf", configuration_in(&apt.folder) + lines);
            for (name, text) in files.iter().chain([&configuration]) {
                let path = apt.folder.join(name);
                fs::write(&path, text).map_err(|error| failed(&path, &error))?;
            }
            process::run(apt.command().arg("update"))?;
            *updated = true;
        }
        drop(updated);
        Ok(apt)
    }

    /// Waits for the turn. A panic of another thread has left nothing half done.
    fn turn(&self) -> MutexGuard<'_, bool> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn command(&self) -> Command {
        self.tool("apt-get")
    }

    fn tool(&self, name: &str) -> Command {
        let mut command = Command::new(name);
        // Read after the machine's configuration: what it says wins.
        command
            .arg("-c")
            .arg(self.folder.join("apt.conf"))
            .arg("-qq");
        if let Some(suite) = self.suite {
            command
                .arg("-o")
                .arg(format!("APT::Default-Release={suite}"));
        }
        command.current_dir(self.folder.join("download"));
        command
    }

    /// The libraries that these packages depend on, and all that those bring on an empty system.
    /// Libraries for development, and what only they need, are left out: a package of programs may
    /// ask for them, its programs do not.
    pub fn libraries(&self, packages: &[&str]) -> Result<Vec<String>, String> {
        let mut show = self.tool("apt-cache");
        show.args(["show", "--no-all-versions"]).args(packages);
        // The first to ask makes the cache that all others read.
        let _turn = self.turn();
        let direct = dependencies_in(&process::capture(&mut show)?);
        let list = self.would_install(&direct)?;
        Ok(names_in(&list).filter(|name| is_library(name)).collect())
    }

    /// The packages that the kernel which this one stands for is made of.
    pub fn kernel(&self, package: &str) -> Result<Vec<String>, String> {
        let turn = self.turn();
        let list = self.would_install(&[package.to_owned()])?;
        drop(turn);
        let parts: Vec<String> = names_in(&list).filter(|name| is_kernel(name)).collect();
        match parts.is_empty() {
            true => Err(format!("{package} brings no kernel along")),
            false => Ok(parts),
        }
    }

    /// What apt would fetch for these packages on an empty system.
    fn would_install(&self, packages: &[String]) -> Result<String, String> {
        let mut install = self.command();
        install
            .args(["-y", "--no-install-recommends", "--print-uris", "install"])
            .args(packages);
        process::capture(&mut install)
    }

    /// The packages as files, the newest version that the sources have, in a folder of this name: others
    /// may be unpacked meanwhile.
    pub fn download(&self, packages: &[String], name: &str) -> Result<Vec<PathBuf>, String> {
        let download = self.folder.join("download").join(name);
        remove(&download)?;
        create(&download)?;
        let mut command = self.command();
        command.current_dir(&download);
        process::run(command.arg("download").args(packages))?;
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

/// The libraries among the dependencies in what `apt-cache show` prints: of alternatives the first.
fn dependencies_in(records: &str) -> Vec<String> {
    let mut names: Vec<String> = records
        .lines()
        .filter_map(|line| {
            line.strip_prefix("Pre-")
                .unwrap_or(line)
                .strip_prefix("Depends: ")
        })
        .flat_map(|list| list.split(','))
        .filter_map(|entry| entry.split(['(', '|', ':']).next())
        .map(str::trim)
        .filter(|name| is_library(name))
        .map(str::to_owned)
        .collect();
    names.sort();
    names.dedup();
    names
}

/// The packages in the list that `--print-uris` prints: of a line `'address' file size hash`, the
/// file's name begins with the package's.
fn names_in(list: &str) -> impl Iterator<Item = String> {
    list.lines()
        .filter_map(|line| line.split_whitespace().nth(1)?.split('_').next())
        .map(str::to_owned)
}

/// Up to 7.2 one package, then one for the image and one for the modules.
fn is_kernel(package: &str) -> bool {
    ["linux-image-", "linux-binary-", "linux-modules-"]
        .iter()
        .any(|prefix| package.starts_with(prefix))
}

/// Perl comes only with the scripts that would configure the packages, which are never run.
fn is_library(package: &str) -> bool {
    (package.starts_with("lib") || package.starts_with("zlib"))
        && !package.contains("perl")
        && !package.ends_with("-dev")
}

/// What differs from the machine's configuration.
fn configuration_in(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        r#"Dir::State "{folder}";
Dir::State::lists "{folder}/lists";
Dir::Cache "{folder}/cache";
// Images of containers switch both off: every call would read all lists again.
Dir::Cache::pkgcache "pkgcache.bin";
Dir::Cache::srcpkgcache "srcpkgcache.bin";
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_taken_from_the_list_of_what_would_be_installed() {
        let list = "'http://x/libc6_2.36-9_amd64.deb' libc6_2.36-9_amd64.deb 2759320 SHA256:ab\n\
                    'http://x/z.deb' zlib1g_1%3a1.2.13_amd64.deb 86684 SHA256:cd\n\
                    'http://x/p.deb' libperl5.36_5.36.0-7_amd64.deb 4207640 SHA256:ef\n\
                    'http://x/a.deb' adduser_3.134_all.deb 183272 SHA256:01\n\n";
        let libraries: Vec<String> = names_in(list).filter(|name| is_library(name)).collect();
        assert_eq!(libraries, ["libc6", "zlib1g"]);
    }

    #[test]
    fn a_kernel_is_its_image_and_its_modules() {
        let list = "'http://x/a.deb' linux-modules-7.3.4+deb13-cloud-amd64_7.3.4-1_amd64.deb 1 SHA256:ab\n\
                    'http://x/b.deb' linux-base-7.3.4_all.deb 1 SHA256:cd\n\
                    'http://x/c.deb' linux-binary-7.3.4+deb13-cloud-amd64_7.3.4-1_amd64.deb 1 SHA256:ef\n";
        let parts: Vec<String> = names_in(list).filter(|name| is_kernel(name)).collect();
        assert_eq!(
            parts,
            [
                "linux-modules-7.3.4+deb13-cloud-amd64",
                "linux-binary-7.3.4+deb13-cloud-amd64"
            ]
        );
    }

    #[test]
    fn dependencies_are_libraries_and_none_for_development() {
        let records = "Package: a\nPre-Depends: libacl1 (>= 2.2.23), libc6 (>= 2.34)\n\
                       Depends: libdpdk-dev (>= 24), python3:any, libssl3 | libssl1, libc6\n\
                       Recommends: libnothing\n\nPackage: b\nDepends: libnl-3-200:amd64\n";
        assert_eq!(
            dependencies_in(records),
            ["libacl1", "libc6", "libnl-3-200", "libssl3"]
        );
    }
}
