// SPDX-License-Identifier: GPL-2.0-or-later
//! The README's table of fields says what the header says.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

const HEADER: &str = include_str!("../include/rstdiag.h");
const README: &str = include_str!("../README.md");

/// Types of the header, in Wireshark's words.
const TYPES: &[(&str, &str)] = &[
    ("STRING", "string"),
    ("UNSIGNED", "unsigned"),
    ("BOOLEAN", "boolean"),
    ("FRAME", "frame number"),
    ("DURATION", "relative time"),
    ("INSTANT", "absolute time"),
];

/// The rows of RSTDIAG_FIELDS: name, type and meaning.
fn fields() -> Vec<(String, &'static str, String)> {
    let start = HEADER.find("#define RSTDIAG_FIELDS(X)").unwrap();
    let table = &HEADER[start..];
    let table = &table[..table.find("\n\n").unwrap()];
    let rows = table.split("X(").skip(1);
    rows.map(|row| {
        let texts: Vec<&str> = row.split('"').skip(1).step_by(2).collect();
        let kind = row.split(',').nth(2).unwrap().trim();
        let kind = TYPES.iter().find(|(name, _)| *name == kind).expect("a known type").1;
        // Name, title, then the meaning, which may be split over several literals.
        (texts[0].to_owned(), kind, texts[2..].concat())
    })
    .collect()
}

#[test]
fn the_table_of_fields_is_the_headers() {
    let mut table = String::from("| field | type | value |\n|---|---|---|\n");
    for (name, kind, meaning) in fields() {
        table.push_str(&format!("| `{name}` | {kind} | {meaning} |\n"));
    }
    let start = README.find("<!-- fields:").expect("the mark of the table");
    let start = start + README[start..].find("-->\n").unwrap() + 4;
    let shown = &README[start..README.find("<!-- /fields -->").expect("its end")];
    assert_eq!(shown, table, "README.md should hold:\n{table}");
}
