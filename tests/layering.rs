// SPDX-License-Identifier: GPL-2.0-or-later
//! What the compiler does not check of the architecture that `src/lib.rs` draws.

#![allow(clippy::expect_used)]

use std::fs;
use std::path::{Path, PathBuf};

/// For each module the ones that it may import.
const ARROWS: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("limits", &[]),
    ("archive", &[]),
    ("time", &["limits", "error"]),
    ("tcp", &["archive", "time", "limits", "error"]),
    ("nginx", &["time", "limits", "error"]),
    ("correlate", &["archive", "tcp", "nginx", "time", "limits", "error"]),
    ("session", &["correlate", "tcp", "nginx", "time", "limits", "error"]),
    ("abi", &[]),
    ("ffi", &["abi", "session", "correlate", "tcp", "time", "limits", "error"]),
    ("plugin", &["abi"]),
];

/// The modules that touch C or files.
const SHELL: &[&str] = &["abi", "ffi", "plugin"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).expect("a source file that can be read")
}

/// Every file below a directory of the repository with one of these endings.
fn files(directory: &str, endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![root().join(directory)];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).expect("a directory that can be listed") {
            let path = entry.expect("an entry").path();
            let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or("");
            if path.is_dir() {
                open.push(path);
            } else if endings.contains(&ending) {
                found.push(path);
            }
        }
    }
    found
}

/// The top-level module that a file belongs to.
fn module(path: &Path) -> String {
    let inside = path.strip_prefix(root().join("src")).expect("a file below src");
    let first = inside.iter().next().and_then(|part| part.to_str()).expect("a name");
    first.trim_end_matches(".rs").to_owned()
}

/// Lines of Rust with their numbers, without comments.
fn code(source: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..)
        .zip(source.lines())
        .map(|(number, line)| (number, line.split("//").next().unwrap_or(line)))
}

/// The words that follow `prefix` in a line.
fn words_after<'l>(line: &'l str, prefix: &'l str) -> impl Iterator<Item = &'l str> {
    line.split(prefix).skip(1).map(|rest| {
        let end = rest.find(|char: char| !char.is_alphanumeric() && char != '_');
        &rest[..end.unwrap_or(rest.len())]
    })
}

#[test]
fn imports_run_one_way() {
    for path in files("src", &["rs"]) {
        let module = module(&path);
        if module == "lib" {
            continue;
        }
        let (_, allowed) = ARROWS
            .iter()
            .find(|(name, _)| *name == module)
            .expect("every module has a row in ARROWS");
        let source = read(&path);
        for (number, line) in code(&source) {
            for imported in words_after(line, "crate::") {
                assert!(
                    imported == module || allowed.contains(&imported),
                    "{}:{number}: {module} may not import {imported:?}",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn the_core_knows_neither_c_nor_files() {
    for path in files("src", &["rs"]) {
        let module = module(&path);
        if module == "lib" || SHELL.contains(&module.as_str()) {
            continue;
        }
        let source = read(&path);
        for (number, line) in code(&source) {
            for word in
                ["unsafe", "extern \"", "libc", "std::fs", "fs::", "std::ffi", "std::process"]
            {
                assert!(
                    !line.contains(word),
                    "{}:{number}: {word} is for the boundary",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn every_export_begins_with_the_guard() {
    let mut exports = 0;
    for path in files("src/ffi", &["rs"]) {
        let source = read(&path);
        for function in source.split("#[no_mangle]").skip(1) {
            exports += 1;
            let name = words_after(function, "fn ").next().unwrap_or_default();
            let (_, body) = function.split_once("{\n").expect("a function with a body");
            let first = body.lines().map(str::trim).find(|line| !line.starts_with("//"));
            assert!(
                first
                    .is_some_and(|line| line.starts_with("guard::")
                        || line.starts_with("unsafe { guard::")),
                "{}: {name} does not begin with the guard",
                path.display()
            );
        }
        assert_eq!(
            source.matches("extern \"C\" fn").count(),
            source.matches("#[no_mangle]").count(),
            "{}: an extern function that is not exported escapes the guard",
            path.display()
        );
    }
    assert_eq!(exports, declared().len());
}

/// The functions that the header declares.
fn declared() -> Vec<String> {
    let header = read(&root().join("include/rstdiag.h"));
    let starts = ["int32_t rstdiag_", "void rstdiag_", "const char *rstdiag_"];
    header
        .lines()
        .filter(|line| starts.iter().any(|start| line.starts_with(start)))
        .filter_map(|line| line.split_once('('))
        .filter_map(|(before, _)| before.rsplit([' ', '*']).next())
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_declared_function_is_compared_with_ours() {
    let compared = read(&root().join("src/ffi/mod.rs"));
    let declared = declared();
    assert!(declared.len() >= 10, "{declared:?}");
    for name in declared {
        assert!(compared.lines().any(|line| line.trim() == name), "{name} is not compared");
    }
}

#[test]
fn the_version_is_the_same_everywhere() {
    let header = rstdiag::abi::RSTDIAG_VERSION;
    assert_eq!(header.strip_suffix(b"\0"), Some(env!("CARGO_PKG_VERSION").as_bytes()));
    #[cfg(feature = "wireshark")]
    assert_eq!(rstdiag::plugin::plugin_version, *header);
}

#[test]
fn the_header_needs_no_other_and_the_glue_only_its_own() {
    let includes = |source: &str| -> Vec<String> {
        let lines = source.lines().filter_map(|line| line.strip_prefix("#include "));
        lines.map(str::to_owned).collect()
    };
    let header = read(&root().join("include/rstdiag.h"));
    assert_eq!(includes(&header), ["<stddef.h>", "<stdint.h>"]);
    for path in files("wireshark", &["c"]) {
        for include in includes(&read(&path)) {
            assert!(
                include == "\"rstdiag_ws.h\"" || include.starts_with('<'),
                "{}: {include}",
                path.display()
            );
        }
    }
}

#[test]
fn every_source_names_its_license() {
    for directory in ["src", "include", "wireshark", "tests", "fuzz/src", "fuzz/fuzz_targets"] {
        for path in files(directory, &["rs", "c", "h"]) {
            let source = read(&path);
            let first = source.lines().next().unwrap_or_default();
            assert!(
                first.contains("SPDX-License-Identifier: GPL-2.0-or-later"),
                "{}",
                path.display()
            );
        }
    }
}
