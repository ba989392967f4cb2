// SPDX-License-Identifier: GPL-2.0-or-later
//! Which files a path stands for, and in which order they are read.
//!
//! A file stands for itself only. In a directory, or where a pattern fits several files, those
//! are taken whose content is a log of the wanted kind, in the order of their first entries:
//! names of rotated files differ from one host to the next, and what they hold does not. So do
//! those that appear there later, unless they are a copy of what was read.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::source::{self, Slack, Source};
use super::{identity, Identity};
use crate::limits;
use crate::session::{earliest_of_interest, LogKind, Session};
use crate::time::{CaptureTime, LogTime};

/// Seconds that the clocks of a file system and of a log may show apart, zones included.
const DAY: i64 = 86_400;

/// A path that the user named.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) kind: LogKind,
    path: PathBuf,
    /// When the capture begins.
    begin: CaptureTime,
    /// Files there that are not to be read, and how long they were when that was decided.
    passed: BTreeMap<Identity, u64>,
}

/// What a path stands for.
pub(super) struct Found {
    /// The files, oldest first.
    pub(super) files: Vec<PathBuf>,
    /// The user named one file.
    pub(super) is_one: bool,
    /// What is wrong, path by path.
    pub(super) notices: Vec<(PathBuf, String)>,
}

/// The same, whatever the files hold.
enum Candidates {
    One,
    Many(Vec<PathBuf>),
}

impl Place {
    /// The path of a file, a directory or a pattern.
    pub(super) fn new(kind: LogKind, path: &[u8], begin: CaptureTime) -> Place {
        let path = OsStr::from_bytes(path).into();
        Place { kind, path, begin, passed: BTreeMap::new() }
    }

    /// The files that it stands for now.
    pub(super) fn files(&mut self, session: &Session) -> Found {
        match self.candidates() {
            Ok(Candidates::One) => {
                Found { files: vec![self.path.clone()], is_one: true, notices: Vec::new() }
            }
            Ok(Candidates::Many(candidates)) if !candidates.is_empty() => {
                self.chosen(candidates, session)
            }
            Ok(Candidates::Many(_)) => self.wrong(
                "there is no file; name the log, or the directory that holds it".to_owned(),
            ),
            Err(why) => self.wrong(why),
        }
    }

    fn wrong(&self, why: String) -> Found {
        let notices = vec![(self.path.clone(), why)];
        Found { files: Vec::new(), is_one: false, notices }
    }

    /// One more than are read, if there are more.
    fn candidates(&self) -> Result<Candidates, String> {
        // A name may hold what looks like a pattern.
        match fs::metadata(&self.path) {
            Ok(metadata) if metadata.is_dir() => {
                let entries =
                    fs::read_dir(&self.path).map_err(|error| source::what_to_do(&error))?;
                let paths = entries.filter_map(Result::ok).map(|entry| entry.path());
                Ok(Candidates::Many(paths.take(limits::LOG_FILES + 1).collect()))
            }
            Ok(_) => Ok(Candidates::One),
            Err(_) => match self.path.to_str().filter(|text| text.contains(['*', '?', '['])) {
                None => Ok(Candidates::One),
                // It goes through links as well, and so through `/proc` for ever.
                Some(text) if text.contains("**") => Err(
                    "'**' would look through every folder below; name the directory that holds the \
                     logs, or write '*' for each folder on the way"
                        .to_owned(),
                ),
                Some(text) => {
                    let paths = glob::glob(text)
                        .map_err(|error| format!("this is no pattern ({error})"))?;
                    let paths = paths.take(limits::LOG_FILES + 1).filter_map(Result::ok);
                    Ok(Candidates::Many(paths.collect()))
                }
            },
        }
    }

    /// The logs among the candidates, oldest first.
    fn chosen(&mut self, mut candidates: Vec<PathBuf>, session: &Session) -> Found {
        let mut notices = Vec::new();
        if candidates.len() > limits::LOG_FILES {
            candidates.truncate(limits::LOG_FILES);
            let why = format!(
                "it stands for too many files; only {} are used: name the log itself",
                limits::LOG_FILES
            );
            notices.push((self.path.clone(), why));
        }
        candidates.sort();
        let mut seen = BTreeSet::new();
        let mut logs = Vec::new();
        for candidate in candidates {
            let Ok(metadata) = fs::metadata(&candidate) else { continue };
            if !metadata.is_file() || !seen.insert(identity(&metadata)) {
                continue;
            }
            let head = match head(&candidate) {
                Ok(head) => head,
                Err(why) => {
                    notices.push((candidate, why));
                    continue;
                }
            };
            match session.log_begins(self.kind, &head) {
                Some(first) if !self.is_old(&metadata, first) => {
                    logs.push((first, metadata.mtime(), candidate));
                }
                // nginx may be about to write to it.
                None if metadata.len() == 0 => {
                    logs.push((LogTime(i64::MAX), metadata.mtime(), candidate));
                }
                _ => {
                    self.passed.insert(identity(&metadata), metadata.len());
                }
            }
        }
        if logs.is_empty() && notices.is_empty() {
            let why = match self.kind {
                LogKind::Error => {
                    "it holds no log of the time of the capture that nginx's error_log wrote; \
                     name the file that is one"
                }
                LogKind::Access => {
                    "it holds no log of the time of the capture whose first lines are of the \
                     access_log_format; set that to the log_format of nginx.conf"
                }
            };
            notices.push((self.path.clone(), why.to_owned()));
        }
        logs.sort();
        let files = logs.into_iter().map(|(_, _, path)| path).collect();
        Found { files, is_one: false, notices }
    }

    /// Nothing was written to it since long before the capture; unless somebody has given it
    /// that time, which is then before its own first entry.
    fn is_old(&self, metadata: &Metadata, first: LogTime) -> bool {
        let written = metadata.mtime();
        written < earliest_of_interest(self.begin).0 && written + DAY >= first.0
    }

    /// Logs that have appeared since, oldest first: what is not known by its identity, and
    /// begins as no log that was read.
    pub(super) fn new_files(
        &mut self,
        is_known: impl Fn(Identity) -> bool,
        is_copy: impl Fn(&[u8]) -> bool,
        session: &Session,
    ) -> Vec<PathBuf> {
        let new = |path: &PathBuf| {
            let metadata = fs::metadata(path).ok().filter(Metadata::is_file)?;
            (!is_known(identity(&metadata))).then_some(metadata)
        };
        let candidates = match self.candidates() {
            Ok(Candidates::One) => {
                return new(&self.path).map(|_| self.path.clone()).into_iter().collect();
            }
            Ok(Candidates::Many(candidates)) => candidates,
            Err(_) => return Vec::new(),
        };
        // What is no longer there is forgotten.
        let before = std::mem::take(&mut self.passed);
        let mut logs = BTreeMap::new();
        for path in candidates.into_iter().take(limits::LOG_FILES) {
            let Some(metadata) = new(&path).filter(|metadata| metadata.len() > 0) else {
                continue;
            };
            let (identity, len) = (identity(&metadata), metadata.len());
            // What it is may not show before it is longer.
            match before.get(&identity) {
                Some(&then) if then == len || then >= limits::LOG_HEAD => {
                    self.passed.insert(identity, then);
                    continue;
                }
                _ => {}
            }
            // What cannot be opened now may be so later.
            let Ok(head) = head(&path) else { continue };
            let first = session.log_begins(self.kind, &head);
            match first.filter(|first| !self.is_old(&metadata, *first)) {
                Some(_) if is_copy(&head) => {
                    self.passed.insert(identity, u64::MAX);
                }
                Some(first) => {
                    logs.insert(identity, (first, path));
                }
                None => {
                    self.passed.insert(identity, len);
                }
            }
        }
        let mut logs: Vec<_> = logs.into_values().collect();
        logs.sort();
        logs.into_iter().map(|(_, path)| path).collect()
    }
}

/// What a file begins with.
fn head(path: &Path) -> Result<Vec<u8>, String> {
    let mut head = Vec::new();
    let source = Source::open(path, &Slack::default())?;
    // What can be read of a damaged file is looked at all the same.
    let _ = source.take(limits::LOG_HEAD).read_to_end(&mut head);
    Ok(head)
}
