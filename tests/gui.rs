// SPDX-License-Identifier: GPL-2.0-or-later
//! A real Wireshark window: what it shows after a preference has changed.
#![cfg(feature = "wireshark")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use std::path::{Path, PathBuf};
use std::process::Command;

mod support;

use support::host::{plugin, version};
use support::lab::readable_dir;

/// Whether two pictures differ in any pixel.
fn differ(one: &Path, other: &Path) -> bool {
    let out = Command::new("compare")
        .args(["-metric", "AE"])
        .args([one, other])
        .arg("null:")
        .output()
        .expect("imagemagick is installed");
    // 0: alike, 1: not alike, 2: could not be compared.
    assert_ne!(out.status.code(), Some(2), "{}", String::from_utf8_lossy(&out.stderr));
    !out.status.success()
}

/// Runs a script of `tests/gui`, which leaves pictures in the folder; `None` where a tool is
/// missing, which a CI run does not forgive.
fn pictures(script: &str) -> Option<PathBuf> {
    let tools = ["wireshark", "Xvfb", "xdotool", "compare"];
    let missing = tools.iter().find(|tool| {
        !Command::new("which").arg(tool).output().is_ok_and(|found| found.status.success())
    });
    if let Some(tool) = missing {
        assert!(std::env::var_os("CI").is_none(), "CI has to show a window, without {tool}");
        eprintln!("SKIPPED: there is no {tool}; tests/deps.sh gui installs it");
        return None;
    }
    let dir = readable_dir("gui");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gui").join(script);
    let out = Command::new(script).arg(plugin()).arg(version()).arg(&dir).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    Some(dir)
}

#[test]
fn a_preference_that_changes_changes_the_list() {
    let Some(dir) = pictures("preference.sh") else { return };
    let [right, before, after] =
        ["right", "before", "after"].map(|n| dir.join(n).with_extension("png"));
    assert!(differ(&right, &before), "the zone makes no difference to the list");
    assert!(!differ(&right, &after), "the list shows something else after the change");
}

/// The script fails if one of the windows does not open.
#[test]
fn the_menu_opens_the_statistics_and_the_report() {
    let Some(dir) = pictures("statistics.sh") else { return };
    let [table, report] = ["table", "report"].map(|n| dir.join(n).with_extension("png"));
    assert!(differ(&table, &report), "both windows show the same");
}
