// SPDX-License-Identifier: GPL-2.0-or-later
//! The cases of `tests/data/streams`.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    case: Vec<Case>,
}

/// One way in which a connection ends, or in which a capture lies about it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What happens, in words.
    pub name: String,
    /// The segments, as [`super::builder`] reads them.
    pub script: String,
    /// What is wanted of the verdict: `field=value`.
    pub want: String,
    /// A part of the summary.
    #[serde(default)]
    pub summary: String,
}

/// Fields that every case has to settle.
const SETTLED: [&str; 6] = ["phase", "stage", "transaction", "close", "severity", "caveats"];

impl Case {
    /// What is wanted, by field; `-` where a field has to be absent.
    pub fn wanted(&self) -> BTreeMap<&str, &str> {
        let pairs = self.want.split_whitespace();
        let mut want: BTreeMap<_, _> = pairs
            .map(|pair| pair.split_once('=').unwrap_or_else(|| panic!("{pair}: no value")))
            .collect();
        for field in SETTLED {
            want.entry(field).or_insert("-");
        }
        want
    }

    /// Whether it is about copies of segments, which IPv4's identification tells.
    pub fn has_copies(&self) -> bool {
        ["dup", "doubled", "id="].iter().any(|word| self.script.contains(word))
    }
}

/// Every case, file by file.
pub fn all() -> Vec<Case> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/streams");
    let mut paths: Vec<_> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let mut cases = Vec::new();
    for path in paths {
        let text = std::fs::read_to_string(&path).unwrap();
        let file: File =
            toml::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        cases.extend(file.case);
    }
    cases
}
