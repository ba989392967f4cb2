// SPDX-License-Identifier: GPL-2.0-or-later
//! The labs of `tests/lab`, which record real nginx in network namespaces.

#![allow(clippy::print_stderr)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the lab `tests/lab/NAME.py` records now, in a new folder; `None` where it cannot run.
pub fn recorded(name: &str, more: &[&str]) -> Option<PathBuf> {
    may_record().then(|| {
        let dir = readable_dir(name);
        let out = Command::new("python3").arg(script(name)).arg(&dir).args(more).output();
        let out = out.expect("python3");
        assert!(out.status.success(), "{name}.py: {}", String::from_utf8_lossy(&out.stderr));
        open_up(&dir);
        dir
    })
}

/// Whether network namespaces can be made, which takes root. A CI run does not forgive it if not.
#[allow(clippy::print_stderr)]
pub fn may_record() -> bool {
    if !is_root() {
        assert!(std::env::var_os("CI").is_none(), "CI has to run the lab");
        eprintln!("SKIPPED: the lab makes network namespaces, which takes root");
    }
    is_root()
}

/// The script of a lab.
pub fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/lab/{name}.py"))
}

/// A new folder that any user can read. It is left for whoever looks into a failure; those of
/// programs that have ended go away with the next one.
pub fn readable_dir(name: &str) -> PathBuf {
    let prefix = format!("rstdiag-{name}-");
    for entry in fs::read_dir(std::env::temp_dir()).unwrap().flatten() {
        let file = entry.file_name().into_string().unwrap_or_default();
        let process = file.strip_prefix(&prefix).and_then(|pid| pid.parse::<u32>().ok());
        if process.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    let dir = std::env::temp_dir().join(format!("{prefix}{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    open_up(&dir);
    dir
}

/// Lets everybody read a folder and what is in it.
pub fn open_up(dir: &Path) {
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            open_up(&path);
        } else {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        }
    }
}

pub fn is_root() -> bool {
    // SAFETY: takes nothing, changes nothing, cannot fail.
    unsafe { libc::geteuid() == 0 }
}
