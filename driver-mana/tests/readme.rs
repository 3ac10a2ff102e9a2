//! What the README says of crates and examples is so. Its program is compiled and run by conformance.

use std::fs;
use std::path::Path;

fn readme() -> String {
    fs::read_to_string("../README.md").unwrap()
}

#[test]
fn the_crates_an_embedder_is_told_of_are_where_it_says() {
    let readme = readme();
    let lines = readme
        .lines()
        .filter_map(|line| line.split_once(" = { path = \"../mana-pmd/"));
    let mut found = 0;
    for (name, rest) in lines {
        let folder = rest.split('"').next().unwrap();
        let manifest = Path::new("..").join(folder).join("Cargo.toml");
        let manifest = fs::read_to_string(&manifest).unwrap_or_else(|e| panic!("{folder}: {e}"));
        assert!(
            manifest.contains(&format!("name = \"{name}\"")),
            "{folder} is not {name}"
        );
        found += 1;
    }
    assert!(found >= 4, "{found}");
}

#[test]
fn every_example_is_named_and_every_named_one_exists() {
    let readme = readme();
    let mut named: Vec<&str> = readme
        .lines()
        .filter_map(|line| line.strip_prefix("cargo run --release -p mana-pmd --example "))
        .map(|rest| rest.split(' ').next().unwrap())
        .collect();
    named.sort();
    named.dedup();
    let mut there: Vec<String> = fs::read_dir("examples")
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file() || path.join("main.rs").is_file())
        .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    there.sort();
    assert_eq!(named, there);
}
