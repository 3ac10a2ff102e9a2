//! What `cargo metadata` says about this workspace.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::process;

/// The workspace xtask was started in.
pub struct Workspace {
    /// Folder of the root manifest.
    pub root: PathBuf,
    /// Cargo's target directory.
    pub target: PathBuf,
    /// Every package of the lock file, on any platform.
    pub packages: Vec<Package>,
}

/// One package.
pub struct Package {
    /// Cargo's own identifier.
    pub id: String,
    pub name: String,
    pub version: String,
    /// SPDX expression, empty where the manifest has none.
    pub licence: String,
    /// `None` for a package by path; otherwise cargo's name of the registry or git repository.
    pub source: Option<String>,
    /// Whether it belongs to this house.
    pub member: bool,
    /// Folder of the manifest.
    pub folder: PathBuf,
    pub dependencies: Vec<Dependency>,
    pub targets: Vec<Target>,
}

/// A dependency as a manifest states it.
pub struct Dependency {
    pub name: String,
    pub kind: Kind,
    /// Whether a feature must ask for it.
    pub optional: bool,
    /// The platform it is restricted to, such as `cfg(mana_loom)`.
    pub platform: Option<String>,
}

/// When a dependency is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Normal,
    Build,
    Development,
}

/// One thing cargo builds of a package.
pub struct Target {
    pub name: String,
    /// `lib`, `bin`, `example`, `test` …
    pub kind: String,
    /// The root source file.
    pub source: PathBuf,
}

impl Workspace {
    /// Asks cargo.
    pub fn load() -> Result<Workspace, String> {
        let text = process::capture(process::cargo().args([
            "metadata",
            "--format-version=1",
            "--locked",
            "--quiet",
        ]))?;
        let json: Value =
            serde_json::from_str(&text).map_err(|error| format!("cargo metadata: {error}"))?;
        Ok(Workspace::from_json(&json))
    }

    fn from_json(json: &Value) -> Workspace {
        let members: Vec<&str> = list(&json["workspace_members"])
            .filter_map(Value::as_str)
            .collect();
        Workspace {
            root: PathBuf::from(text(&json["workspace_root"])),
            target: PathBuf::from(text(&json["target_directory"])),
            packages: list(&json["packages"])
                .map(|package| Package::from_json(package, &members))
                .collect(),
        }
    }

    /// The packages of this house.
    pub fn members(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| package.member)
    }

    /// A package of this house by name.
    pub fn member(&self, name: &str) -> Option<&Package> {
        self.members().find(|package| package.name == name)
    }
}

impl Package {
    fn from_json(json: &Value, members: &[&str]) -> Package {
        let id = text(&json["id"]);
        let manifest = text(&json["manifest_path"]);
        Package {
            member: members.contains(&id.as_str()),
            id,
            name: text(&json["name"]),
            version: text(&json["version"]),
            licence: text(&json["license"]),
            source: json["source"].as_str().map(str::to_owned),
            folder: Path::new(&manifest)
                .parent()
                .unwrap_or(Path::new("/"))
                .to_owned(),
            dependencies: list(&json["dependencies"])
                .map(|dependency| Dependency {
                    name: text(&dependency["name"]),
                    kind: match dependency["kind"].as_str() {
                        Some("dev") => Kind::Development,
                        Some("build") => Kind::Build,
                        _ => Kind::Normal,
                    },
                    optional: dependency["optional"].as_bool().unwrap_or(false),
                    platform: dependency["target"].as_str().map(str::to_owned),
                })
                .collect(),
            targets: list(&json["targets"])
                .map(|target| Target {
                    name: text(&target["name"]),
                    kind: text(&target["kind"][0]),
                    source: PathBuf::from(text(&target["src_path"])),
                })
                .collect(),
        }
    }

    /// The Rust files under `src/`, each with its path below the package's folder.
    pub fn sources(&self) -> Result<Vec<(PathBuf, String)>, String> {
        let mut sources = Vec::new();
        let mut folders = vec![self.folder.join("src")];
        while let Some(folder) = folders.pop() {
            let failed = |error| format!("{}: {error}", folder.display());
            for entry in fs::read_dir(&folder).map_err(failed)? {
                let path = entry.map_err(failed)?.path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    let text = fs::read_to_string(&path).map_err(failed)?;
                    let below = path.strip_prefix(&self.folder).unwrap_or(&path);
                    sources.push((below.to_owned(), text));
                }
            }
        }
        Ok(sources)
    }

    /// Whether it has a target of this kind and name.
    pub fn has_target(&self, kind: &str, name: &str) -> bool {
        self.targets
            .iter()
            .any(|target| target.kind == kind && target.name == name)
    }
}

fn list(json: &Value) -> impl Iterator<Item = &Value> {
    json.as_array().into_iter().flatten()
}

fn text(json: &Value) -> String {
    json.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
pub mod fake {
    //! Workspaces for the tests of the checks.

    use super::*;

    /// A member of the house with normal dependencies.
    pub fn member(name: &str, dependencies: &[&str]) -> Package {
        Package {
            id: format!("path+{name}"),
            name: name.to_owned(),
            version: "0.1.0".to_owned(),
            licence: "MIT OR Apache-2.0".to_owned(),
            source: None,
            member: true,
            folder: PathBuf::from("/nonexistent").join(name),
            dependencies: dependencies
                .iter()
                .map(|name| Dependency {
                    name: (*name).to_owned(),
                    kind: Kind::Normal,
                    optional: false,
                    platform: None,
                })
                .collect(),
            targets: Vec::new(),
        }
    }

    /// A package of the registry.
    pub fn third_party(name: &str, licence: &str) -> Package {
        Package {
            licence: licence.to_owned(),
            source: Some("registry+index".to_owned()),
            member: false,
            ..member(name, &[])
        }
    }

    /// A workspace of these packages.
    pub fn workspace(packages: Vec<Package>) -> Workspace {
        Workspace {
            root: PathBuf::from("/nonexistent"),
            target: PathBuf::new(),
            packages,
        }
    }

    #[test]
    fn packages_are_read_from_the_metadata() {
        let json = serde_json::json!({
            "workspace_root": "/w", "target_directory": "/w/target",
            "workspace_members": ["path+file:///w/a#0.1.0"],
            "packages": [{
                "id": "path+file:///w/a#0.1.0", "name": "a", "version": "0.1.0",
                "license": "MIT", "source": null, "manifest_path": "/w/a/Cargo.toml",
                "dependencies": [
                    {"name": "b", "kind": null, "target": null},
                    {"name": "c", "kind": "dev", "target": "cfg(mana_loom)"},
                    {"name": "d", "kind": "build", "target": null},
                ],
                "targets": [{"name": "a", "kind": ["lib"], "src_path": "/w/a/src/lib.rs"}],
            }, {
                "id": "registry+x#b@1.0.0", "name": "b", "version": "1.0.0", "license": null,
                "source": "registry+x", "manifest_path": "/c/b/Cargo.toml",
                "dependencies": [], "targets": [],
            }],
        });
        let workspace = Workspace::from_json(&json);
        let a = workspace.member("a").unwrap();
        assert_eq!(a.folder, Path::new("/w/a"));
        let kinds: Vec<Kind> = a
            .dependencies
            .iter()
            .map(|dependency| dependency.kind)
            .collect();
        assert_eq!(kinds, [Kind::Normal, Kind::Development, Kind::Build]);
        assert_eq!(
            a.dependencies[1].platform.as_deref(),
            Some("cfg(mana_loom)")
        );
        assert!(a.has_target("lib", "a"));
        assert!(workspace.member("b").is_none());
        assert_eq!(workspace.packages[1].licence, "");
    }
}
