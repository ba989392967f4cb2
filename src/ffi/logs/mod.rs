// SPDX-License-Identifier: GPL-2.0-or-later
//! Reads log files, and goes on reading them while they grow.
//!
//! A log is read, never mapped and never locked: rotation that truncates a mapped file kills
//! the process that looks at it. Only what is read at the moment is open, so that rotation and
//! unmounting are in nobody's way.
//!
//! `find` tells which files a path stands for, now and when others have appeared, `source` opens
//! one, and `follow` keeps to a file through rotation. Nothing is read twice: a file is known by
//! the number that the file system gives to it, and a copy, packed or not, by how it begins.

mod find;
mod follow;
mod source;

use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use self::find::Place;
use self::follow::{Followed, Kept, Known};
use self::source::{Slack, Source};
use super::convert::escaped;
use crate::error::Error;
use crate::limits;
use crate::session::{LogKind, Session};
use crate::time::CaptureTime;

/// What makes a file that file, whatever its name: its device, its number there, and, because
/// numbers are used again, when it was made, where the file system tells.
type Identity = (u64, u64, Option<SystemTime>);

fn identity(metadata: &Metadata) -> Identity {
    (metadata.dev(), metadata.ino(), metadata.created().ok())
}

/// Kinds of logs, in the order of reading.
const KINDS: [LogKind; 2] = [LogKind::Error, LogKind::Access];

/// The log files of a session.
#[derive(Debug, Default)]
pub(super) struct Logs {
    /// Where new files may appear.
    places: Vec<Place>,
    /// Oldest first.
    followed: Vec<Followed>,
    /// What was read and is followed no longer.
    done: Vec<Known>,
    /// How long it took to look for new files.
    search: Duration,
    /// What packed ones may still unpack to.
    slack: Slack,
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
        let mut place = Place::new(kind, path, begin);
        let found = place.files(session);
        let mut notices: Vec<Error> =
            found.notices.into_iter().map(|(path, why)| notice(&path, why)).collect();
        for path in found.files {
            let source = match Source::open(&path, &self.slack) {
                Ok(source) => source,
                Err(why) => {
                    notices.push(notice(&path, why));
                    continue;
                }
            };
            let mut file = Followed::begin(kind, &path, &source, &self.slack, session);
            let mut all = u64::MAX;
            let failure = file.read_from(source, &mut all, session);
            let ended = session.end_log();
            // A log that has just been rotated is empty, and what others of a directory hold is
            // nobody's mistake. Nor is a file empty of which nothing can be read.
            let is_told = found.is_one && !(failure.is_some() && file.is_unread());
            notices.extend(failure.map(|why| notice(&path, why)));
            notices.extend(ended.err().filter(|_| is_told));
            self.followed.push(file);
        }
        self.places.push(place);
        self.let_go();
        notices
    }

    /// Reads up to `room` bytes of what was added to the logs since. What cannot be read now may
    /// be so next time, and is no reason to say anything.
    pub(super) fn follow(&mut self, mut room: u64, session: &mut Session) {
        self.search = Duration::ZERO;
        // Of an access log is kept what is about entries of error logs.
        for kind in KINDS {
            let files = std::mem::take(&mut self.followed);
            let mut kept = Kept { followed: &mut self.followed, done: &mut self.done };
            for file in files {
                match file.known.kind == kind {
                    true => file.go_on(&mut kept, &mut room, session),
                    false => kept.followed.push(file),
                }
            }
            for path in self.new_files(kind, session) {
                let Ok(source) = Source::open(&path, &self.slack) else { continue };
                let mut file = Followed::begin(kind, &path, &source, &self.slack, session);
                file.read_on(source, &mut room, session);
                self.followed.push(file);
            }
        }
        self.let_go();
    }

    /// Logs of this kind that have appeared.
    fn new_files(&mut self, kind: LogKind, session: &Session) -> Vec<PathBuf> {
        let start = Instant::now();
        let Logs { places, followed, done, search, .. } = self;
        let read = || followed.iter().map(|file| &file.known).chain(&*done);
        let known = || read().filter(|known| known.kind == kind);
        let new = places.iter_mut().filter(|place| place.kind == kind).flat_map(|place| {
            place.new_files(
                |identity| known().any(|known| known.identity == Some(identity)),
                |head| known().any(|known| known.has_copy(head)),
                session,
            )
        });
        let new = new.collect();
        *search += start.elapsed();
        new
    }

    /// Follows no more files of a kind than is affordable, and those the newest.
    fn let_go(&mut self) {
        for kind in KINDS {
            let is_meant = |file: &Followed| file.known.kind == kind;
            let count = self.followed.iter().filter(|file| is_meant(file)).count();
            for _ in limits::LOGS_FOLLOWED..count {
                let oldest = self.followed.iter().position(is_meant);
                self.done.extend(oldest.map(|at| self.followed.remove(at).known));
            }
        }
        self.done.drain(..self.done.len().saturating_sub(limits::LOG_FILES));
    }

    /// How long to wait before looking again, with so many entries to keep in order: no more of
    /// the host's time than a twentieth goes into looking.
    pub(super) fn rest(&self, entries: usize) -> Duration {
        Duration::from_secs(1) + Duration::from_micros(10) * entries as u32 + self.search * 20
    }

    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }
}

fn shown(path: &Path) -> String {
    escaped(path.as_os_str().as_bytes())
}

#[cfg(test)]
mod tests;
