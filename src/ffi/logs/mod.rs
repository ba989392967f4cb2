// SPDX-License-Identifier: GPL-2.0-or-later
//! Reads log files, and goes on reading them while they grow.
//!
//! A log is read, never mapped and never locked: rotation that truncates a mapped file kills
//! the process that looks at it. Only what is read at the moment is open, so that rotation and
//! unmounting are in nobody's way.
//!
//! Rotation is seen by the number that the file system gives to a file: a log that was renamed
//! is found again under its new name, and read to its end there, because nginx writes to it
//! until it is told to reopen its logs. A log that has become shorter was copied and truncated,
//! and begins anew. What is packed does not grow.

mod find;
mod source;

use std::collections::BTreeSet;
use std::fs::{self, Metadata};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use self::source::Source;
use super::convert::escaped;
use crate::error::Error;
use crate::limits;
use crate::session::{LogKind, Session};
use crate::time::CaptureTime;

/// Bytes that are read at once.
const CHUNK: usize = 256 * 1024;

/// What makes a file that file, whatever its name: its device, its number there, and, because
/// numbers are used again, when it was made, where the file system tells.
type Identity = (u64, u64, Option<SystemTime>);

fn identity(metadata: &Metadata) -> Identity {
    (metadata.dev(), metadata.ino(), metadata.created().ok())
}

/// The log files of a session.
#[derive(Debug, Default)]
pub(super) struct Logs {
    /// Where new files may appear.
    names: BTreeSet<(LogKind, PathBuf)>,
    followed: Vec<Followed>,
}

/// A file that may grow.
#[derive(Debug)]
struct Followed {
    kind: LogKind,
    path: PathBuf,
    identity: Identity,
    /// Bytes that were read.
    read: u64,
    /// What the session calls it.
    number: u32,
}

impl Logs {
    /// Gives the log of this kind at `path`, which may be a file, a directory or a pattern, to
    /// the session. Every notice names a path, what is wrong with it, and what to do; what is
    /// right is used all the same. The capture begins at `begin`.
    pub(super) fn load(
        &mut self,
        kind: LogKind,
        path: &[u8],
        begin: CaptureTime,
        session: &mut Session,
    ) -> Vec<Error> {
        let notice = |path: &Path, why| Error::Log { log: kind.name(), path: shown(path), why };
        let found = find::files(path, kind, begin, session);
        let mut notices: Vec<Error> =
            found.notices.into_iter().map(|(path, why)| notice(&path, why)).collect();
        let mut followed = Vec::new();
        for file in found.files {
            let shown = shown(&file);
            let source = match Source::open(&file) {
                Ok(source) => source,
                Err(why) => {
                    notices.push(notice(&file, why));
                    continue;
                }
            };
            let (identity, grows) = (source.identity, source.is_plain);
            let number = session.begin_log(kind, &shown);
            let (read, failure) = copy(source, u64::MAX, session);
            let ended = session.end_log();
            notices.extend(failure.map(|why| notice(&file, why)));
            if grows {
                followed.push(Followed { kind, path: file, identity, read, number });
            }
            // A log that has just been rotated is empty, and what others of a directory hold
            // is nobody's mistake.
            notices.extend(ended.err().filter(|_| found.is_one));
        }
        // The last ones are the newest.
        followed.drain(..followed.len().saturating_sub(limits::LOGS_FOLLOWED));
        self.names.extend(followed.iter().map(|file| (kind, file.path.clone())));
        self.followed.append(&mut followed);
        notices
    }

    /// Reads what was added to the logs since, as far as that is done at once. What cannot be
    /// read now may be so next time, and is no reason to say anything.
    pub(super) fn follow(&mut self, session: &mut Session) {
        let mut room = limits::LOG_GROWTH;
        self.followed.retain_mut(|file| file.go_on(&mut room, session));
        for (kind, name) in &self.names {
            let kind = *kind;
            let Ok(metadata) = fs::metadata(name) else { continue };
            let new = identity(&metadata);
            let is_new = |file: &Followed| (file.kind, file.identity) != (kind, new);
            if self.followed.iter().all(is_new) {
                let number = session.begin_log(kind, &shown(name));
                let path = name.clone();
                let mut file = Followed { kind, path, identity: new, read: 0, number };
                file.read_growth(&metadata, &mut room, session);
                self.followed.push(file);
            }
        }
        let too_many = self.followed.len().saturating_sub(2 * limits::LOGS_FOLLOWED);
        self.followed.drain(..too_many);
    }

    /// How long to wait before looking again, with so many entries to keep in order.
    pub(super) fn rest(entries: usize) -> Duration {
        Duration::from_secs(1) + Duration::from_micros(10) * entries as u32
    }

    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
}

impl Followed {
    /// Reads what was added; tells whether the file still exists.
    fn go_on(&mut self, room: &mut u64, session: &mut Session) -> bool {
        let mut metadata = fs::metadata(&self.path).ok();
        if metadata.as_ref().map(identity) != Some(self.identity) {
            let Some((path, found)) = renamed(&self.path, self.identity) else {
                // Between two names it is nowhere; when another has its name, it is gone.
                return metadata.is_none();
            };
            session.rename_log(self.number, &shown(&path));
            self.path = path;
            metadata = Some(found);
        }
        if let Some(metadata) = metadata {
            self.read_growth(&metadata, room, session);
        }
        true
    }

    fn read_growth(&mut self, metadata: &Metadata, room: &mut u64, session: &mut Session) {
        if metadata.len() == self.read || *room == 0 {
            return;
        }
        if metadata.len() < self.read {
            self.number = session.begin_log(self.kind, &shown(&self.path));
            self.read = 0;
        }
        let Ok(mut file) = source::open(&self.path) else { return };
        let same = file.metadata().is_ok_and(|now| identity(&now) == self.identity);
        if !same || file.seek(SeekFrom::Start(self.read)).is_err() {
            return;
        }
        session.resume_log(self.number);
        // It is not ended: a line that is not whole yet will be.
        let (read, _) = copy(file, *room, session);
        self.read += read;
        *room = room.saturating_sub(read);
    }
}

/// Where a file is now that bore this name.
fn renamed(path: &Path, wanted: Identity) -> Option<(PathBuf, Metadata)> {
    let siblings = fs::read_dir(path.parent()?).ok()?.take(limits::LOG_FILES);
    siblings.filter_map(Result::ok).find_map(|entry| {
        let metadata = fs::metadata(entry.path()).ok()?;
        (identity(&metadata) == wanted).then(|| (entry.path(), metadata))
    })
}

/// Gives up to `room` bytes to the session; tells how many, and why there are no more.
fn copy(mut from: impl Read, room: u64, session: &mut Session) -> (u64, Option<String>) {
    let mut chunk = vec![0; CHUNK];
    let mut done = 0;
    while done < room {
        match from.read(&mut chunk) {
            Ok(0) => break,
            Ok(len) => {
                session.log_bytes(&chunk[..len]);
                done += len as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return (done, Some(source::what_is_used(&error))),
        }
    }
    (done, None)
}

fn shown(path: &Path) -> String {
    escaped(path.as_os_str().as_bytes())
}

#[cfg(test)]
mod tests;
