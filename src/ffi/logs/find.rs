// SPDX-License-Identifier: GPL-2.0-or-later
//! Which files a path stands for, and in which order they are read.
//!
//! A file stands for itself only. In a directory, or where a pattern fits several files, those
//! are taken whose content is a log of the wanted kind, in the order of their first entries:
//! names of rotated files differ from one host to the next, and what they hold does not.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::identity;
use super::source::{self, Source};
use crate::limits;
use crate::session::{earliest_of_interest, LogKind, Session};
use crate::time::{CaptureTime, LogTime};

/// Seconds that the clocks of a file system and of a log may show apart, zones included.
const DAY: i64 = 86_400;

/// What a path stands for.
pub(super) struct Found {
    /// The files, oldest first.
    pub(super) files: Vec<PathBuf>,
    /// The user named one file.
    pub(super) is_one: bool,
    /// What is wrong, path by path.
    pub(super) notices: Vec<(PathBuf, String)>,
}

/// The files that a path stands for, which may be a file, a directory or a pattern.
pub(super) fn files(
    path: &[u8],
    kind: LogKind,
    begin: CaptureTime,
    session: &Session,
) -> Found {
    let path = Path::new(OsStr::from_bytes(path));
    let one = || Found { files: vec![path.into()], is_one: true, notices: Vec::new() };
    let wrong = |why: String| Found {
        files: Vec::new(),
        is_one: false,
        notices: vec![(path.into(), why)],
    };
    // A name may hold what looks like a pattern.
    let candidates: Vec<PathBuf> = match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => match fs::read_dir(path) {
            Ok(entries) => entries.filter_map(Result::ok).map(|entry| entry.path()).collect(),
            Err(error) => return wrong(source::what_to_do(&error)),
        },
        Ok(_) => return one(),
        Err(_) => match path.to_str().filter(|text| text.contains(['*', '?', '['])) {
            None => return one(),
            Some(text) => match glob::glob(text) {
                Ok(paths) => paths.take(limits::LOG_FILES + 1).filter_map(Result::ok).collect(),
                Err(error) => return wrong(format!("this is no pattern ({error})")),
            },
        },
    };
    if candidates.is_empty() {
        return wrong("there is no file; name the log, or the directory that holds it".into());
    }
    chosen(path, candidates, kind, begin, session)
}

/// The logs among the candidates, oldest first.
fn chosen(
    path: &Path,
    mut candidates: Vec<PathBuf>,
    kind: LogKind,
    begin: CaptureTime,
    session: &Session,
) -> Found {
    let mut notices = Vec::new();
    if candidates.len() > limits::LOG_FILES {
        candidates.truncate(limits::LOG_FILES);
        let why = format!(
            "it stands for too many files; only {} are used: name the log itself",
            limits::LOG_FILES
        );
        notices.push((path.to_owned(), why));
    }
    candidates.sort();
    let mut seen = BTreeSet::new();
    let mut logs = Vec::new();
    for candidate in candidates {
        let Ok(metadata) = fs::metadata(&candidate) else { continue };
        if !metadata.is_file() || !seen.insert(identity(&metadata)) {
            continue;
        }
        let first = match first_entry(&candidate, kind, session) {
            Ok(Some(first)) => first,
            // nginx may be about to write to it.
            Ok(None) if metadata.len() == 0 => LogTime(i64::MAX),
            Ok(None) => continue,
            Err(why) => {
                notices.push((candidate, why));
                continue;
            }
        };
        // Nothing was written to it since long before the capture; unless somebody has given
        // it that time, which is then before its own first entry.
        let written = metadata.mtime();
        let is_old = written < earliest_of_interest(begin).0 && written + DAY >= first.0;
        if !is_old {
            logs.push((first, metadata.mtime(), candidate));
        }
    }
    if logs.is_empty() && notices.is_empty() {
        let why = match kind {
            LogKind::Error => {
                "it holds no log of the time of the capture that nginx's error_log wrote; \
                 name the file that is one"
            }
            LogKind::Access => {
                "it holds no log of the time of the capture whose first lines are of the \
                 access_log_format; set that to the log_format of nginx.conf"
            }
        };
        notices.push((path.to_owned(), why.to_owned()));
    }
    logs.sort();
    let files = logs.into_iter().map(|(_, _, path)| path).collect();
    Found { files, is_one: false, notices }
}

/// The time of the first entry; `None` if what the file begins with is no such log.
fn first_entry(
    path: &Path,
    kind: LogKind,
    session: &Session,
) -> Result<Option<LogTime>, String> {
    let mut head = Vec::new();
    let source = Source::open(path)?;
    // What can be read of a damaged file is looked at all the same.
    let _ = source.take(limits::LOG_HEAD).read_to_end(&mut head);
    Ok(session.log_begins(kind, &head))
}
