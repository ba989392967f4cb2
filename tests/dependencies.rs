// SPDX-License-Identifier: GPL-2.0-or-later
//! What the dependencies may be: `deny.toml` says the same to `cargo deny`, which not every
//! machine has.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde::Deserialize;

/// Terms that GPL version 2 allows beside its own. Apache-2.0 alone is not among them.
const TERMS: [&str; 7] =
    ["BSD-2-Clause", "BSD-3-Clause", "GPL-2.0-or-later", "ISC", "MIT", "Unlicense", "Zlib"];

/// What `cargo metadata` tells, as far as it counts here.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    license: Option<String>,
    rust_version: Option<String>,
    source: Option<String>,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    kind: Vec<String>,
}

#[derive(Deserialize)]
struct Resolve {
    root: String,
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<Kind>,
}

#[derive(Deserialize)]
struct Kind {
    /// `dev`, `build`, or none.
    kind: Option<String>,
}

impl Metadata {
    fn read() -> Metadata {
        let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        let out = Command::new(env!("CARGO"))
            .args(["metadata", "--locked", "--offline", "--format-version", "1"])
            .args(["--filter-platform", &platform, "--manifest-path"])
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
            .output()
            .expect("cargo");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        serde_json::from_slice(&out.stdout).expect("metadata")
    }

    /// The crates whose code is in the plugin; a macro's only writes some of it.
    fn shipped(&self) -> Vec<&Package> {
        let is_macro = |package: &&Package| {
            package.targets.iter().any(|target| target.kind.iter().any(|it| it == "proc-macro"))
        };
        let mut shipped: BTreeSet<&str> =
            self.packages.iter().filter(is_macro).map(|package| &*package.id).collect();
        let macros = shipped.clone();
        let nodes: BTreeMap<_, _> =
            self.resolve.nodes.iter().map(|node| (&*node.id, node)).collect();
        let mut rest = vec![&*self.resolve.root];
        while let Some(id) = rest.pop() {
            if shipped.insert(id) {
                let is_linked =
                    |it: &&Dependency| it.dep_kinds.iter().any(|it| it.kind.is_none());
                rest.extend(nodes[id].deps.iter().filter(is_linked).map(|it| &*it.pkg));
            }
        }
        shipped.retain(|id| !macros.contains(id));
        self.packages.iter().filter(|package| shipped.contains(&*package.id)).collect()
    }
}

/// Whether an expression of SPDX lets us choose allowed terms: an OR of them, each an AND. The
/// brackets that crates use stand around an OR, of which one term has to be allowed.
fn is_allowed(expression: &str) -> bool {
    let is_term = |term: &str| TERMS.contains(&term.trim_matches(['(', ')', ' ']));
    expression.replace('/', " OR ").split(" AND ").all(|part| part.split(" OR ").any(is_term))
}

#[test]
fn shipped_crates_have_terms_that_the_gpl_allows() {
    for (expression, allowed) in [
        ("MIT OR Apache-2.0", true),
        ("Unlicense/MIT", true),
        ("(MIT OR Apache-2.0) AND Zlib", true),
        ("(MIT OR Apache-2.0) AND Unicode-3.0", false),
        ("Apache-2.0", false),
    ] {
        assert_eq!(is_allowed(expression), allowed, "{expression}");
    }
    let metadata = Metadata::read();
    let shipped = metadata.shipped();
    assert!(shipped.len() > 10, "{} crates", shipped.len());
    for package in shipped {
        let license = package.license.as_deref().unwrap_or("no license");
        assert!(is_allowed(license), "{}: {license}", package.name);
    }
}

#[test]
fn crates_come_from_the_registry() {
    let metadata = Metadata::read();
    for package in &metadata.packages {
        let is_ours = package.id == metadata.resolve.root;
        let from = package.source.as_deref().unwrap_or("a path");
        assert!(is_ours || from.starts_with("registry+"), "{}: {from}", package.name);
    }
}

/// The compiler that `Cargo.toml` promises to suffice suffices for every crate.
#[test]
fn crates_need_no_newer_compiler_than_ours() {
    let version = |text: &str| {
        let mut numbers = text.split('.').map(|number| number.parse::<u32>().unwrap());
        (numbers.next(), numbers.next())
    };
    let ours = version(env!("CARGO_PKG_RUST_VERSION"));
    for package in &Metadata::read().packages {
        if let Some(needed) = &package.rust_version {
            assert!(version(needed) <= ours, "{} needs Rust {needed}", package.name);
        }
    }
}
