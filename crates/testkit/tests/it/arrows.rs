//! Dependencies between crates go one way.

use std::collections::BTreeMap;

use cargo_metadata::{DependencyKind, MetadataCommand};

#[test]
fn crates_depend_on_each_other_only_along_the_arrows() {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml");
    let metadata = MetadataCommand::new().manifest_path(manifest).no_deps().exec().expect("cargo is here");
    let ours = |name: &str| name.strip_prefix("acemux-").map(str::to_owned);
    let arrows: BTreeMap<String, Vec<String>> = metadata
        .packages
        .iter()
        .filter_map(|package| {
            let to = package.dependencies.iter().filter(|one| one.kind != DependencyKind::Development);
            let mut to: Vec<_> = to.filter_map(|dependency| ours(&dependency.name)).collect();
            to.sort();
            Some((ours(&package.name)?, to))
        })
        .collect();
    let expected = [
        ("engine", vec![]),
        ("fleet", vec!["engine"]),
        ("media", vec![]),
        ("relay", vec!["media"]),
        ("server", vec!["engine", "fleet", "relay", "sim", "store", "tcp"]),
        ("sim", vec![]),
        ("store", vec![]),
        ("tcp", vec![]),
        ("testkit", vec!["fleet", "relay", "server", "sim", "store"]),
    ];
    let expected: BTreeMap<String, Vec<String>> = expected
        .into_iter()
        .map(|(from, to)| (from.to_owned(), to.into_iter().map(str::to_owned).collect()))
        .collect();
    assert_eq!(arrows, expected);
}
