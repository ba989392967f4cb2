// SPDX-License-Identifier: GPL-2.0-or-later
//! Keeps to a log through rotation.
//!
//! A log that was renamed is found again under its new name, and read to its end there, because
//! nginx writes to it until it is told to reopen its logs. A log that has become shorter, or
//! begins otherwise, was copied and truncated: what had not been read of it stands in the copy,
//! and the file is a new one. A copy is looked for as well where a log has been packed. What is
//! packed does not grow.

use std::fs::{self, Metadata};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::source::{self, Slack, Source};
use super::{identity, shown, Identity};
use crate::limits;
use crate::session::{LogKind, Session};

/// Bytes that are read at once.
const CHUNK: usize = 256 * 1024;

/// Bytes that are read are put at a multiple of this address. Large blocks of memory begin 16
/// bytes behind a page, where the kernel takes some four times as long to copy a page to on AMD's
/// Zen 3.
const CACHE_LINE: usize = 64;

/// Looks in a row that do not find a file before it is no longer looked for under other names:
/// between two names it is nowhere for a moment.
const PATIENCE: u8 = 2;

/// By what a file that was read is known again, and its copies.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) kind: LogKind,
    /// `None` where the file holds something else now.
    pub(super) identity: Option<Identity>,
    /// Its first bytes, as far as it was read.
    head: Vec<u8>,
}

impl Known {
    /// Whether a file that begins so is a copy. The first line of a log, with its time and the
    /// number of a connection, is like no other.
    pub(super) fn has_copy(&self, head: &[u8]) -> bool {
        let tells = self.head.len() == limits::LOG_BEGIN || self.head.contains(&b'\n');
        tells && head.starts_with(&self.head)
    }
}

/// A file that is looked after.
#[derive(Debug)]
pub(super) struct Followed {
    pub(super) known: Known,
    path: PathBuf,
    /// nginx may write to it.
    grows: bool,
    /// Bytes of text that were read.
    read: u64,
    /// When it was last written to, in seconds and nanoseconds, before that was read.
    written: (i64, i64),
    /// What the session calls it.
    number: u32,
    /// Looks in a row that did not find it.
    missed: u8,
    /// What packed logs may still unpack to.
    slack: Slack,
}

/// Files that have been looked after, and what came of them.
pub(super) struct Kept<'k> {
    pub(super) followed: &'k mut Vec<Followed>,
    pub(super) done: &'k mut Vec<Known>,
}

/// Where a file is.
enum Whereabouts {
    Itself(PathBuf, Metadata),
    /// There is a copy of it, which is open behind what was read.
    Copy(PathBuf, Source),
    Nowhere,
    /// Another file has its name.
    Replaced,
}

impl Followed {
    /// Tells the session of a file, of which nothing has been read yet.
    pub(super) fn begin(
        kind: LogKind,
        path: &Path,
        source: &Source,
        slack: &Slack,
        session: &mut Session,
    ) -> Followed {
        Followed {
            known: Known { kind, identity: Some(source.identity), head: Vec::new() },
            path: path.to_owned(),
            grows: source.is_plain(),
            read: 0,
            written: source.written,
            number: session.begin_log(kind, &shown(path)),
            missed: 0,
            slack: slack.clone(),
        }
    }

    /// Whether nothing of it has been read.
    pub(super) fn is_unread(&self) -> bool {
        self.read == 0
    }

    /// Gives up to `room` bytes to the session; tells why there are no more.
    pub(super) fn read_from(
        &mut self,
        mut from: Source,
        room: &mut u64,
        session: &mut Session,
    ) -> Option<String> {
        let mut block = vec![0; CACHE_LINE + CHUNK];
        let skipped = block.as_ptr().align_offset(CACHE_LINE).min(CACHE_LINE);
        let chunk = &mut block[skipped..][..CHUNK];
        while *room > 0 {
            match from.read(chunk) {
                Ok(0) => break,
                Ok(len) => {
                    let bytes = &chunk[..len];
                    let unknown = limits::LOG_BEGIN.saturating_sub(self.known.head.len());
                    self.known.head.extend_from_slice(&bytes[..len.min(unknown)]);
                    session.log_bytes(bytes);
                    self.read += len as u64 + from.passed();
                    *room = room.saturating_sub(len as u64);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Some(source::what_is_used(&error, session.log_lines())),
            }
        }
        None
    }

    /// Reads on in a text that stands where reading left off. A file that may grow is not ended:
    /// a line that is not whole yet will be. What is packed is read at once, or it would have to
    /// be unpacked again. What is odd about it is nobody's mistake.
    pub(super) fn read_on(&mut self, from: Source, room: &mut u64, session: &mut Session) {
        session.resume_log(self.number);
        if self.grows {
            self.read_from(from, room, session);
            if *room > 0 {
                session.pause_log();
            }
        } else {
            let mut all = u64::MAX;
            self.read_from(from, &mut all, session);
            let _ = session.end_log();
        }
    }

    /// Reads what was added, wherever that is now.
    pub(super) fn go_on(mut self, kept: &mut Kept<'_>, room: &mut u64, session: &mut Session) {
        match self.whereabouts() {
            Whereabouts::Itself(path, metadata) => {
                self.missed = 0;
                if path != self.path {
                    self.move_to(path, session);
                }
                self.read_growth(&metadata, kept, room, session);
            }
            Whereabouts::Copy(path, rest) => {
                kept.followed.push(self.continued_in(path, rest, room, session));
            }
            Whereabouts::Nowhere => {
                self.missed = self.missed.saturating_add(1);
                kept.followed.push(self);
            }
            Whereabouts::Replaced => kept.done.push(self.known),
        }
    }

    fn whereabouts(&self) -> Whereabouts {
        let found = fs::metadata(&self.path);
        let is_taken = found.is_ok();
        let is_itself = |metadata: &Metadata| Some(identity(metadata)) == self.known.identity;
        if let Some(metadata) = found.ok().filter(is_itself) {
            return Whereabouts::Itself(self.path.clone(), metadata);
        }
        if self.missed < PATIENCE {
            if let Some((path, metadata)) = siblings(&self.path).find(|(_, it)| is_itself(it)) {
                return Whereabouts::Itself(path, metadata);
            }
            if let Some((path, rest)) = self.copy() {
                return Whereabouts::Copy(path, rest);
            }
        }
        if is_taken {
            Whereabouts::Replaced
        } else {
            Whereabouts::Nowhere
        }
    }

    /// A copy of what was read, open behind that; rather one that is not packed.
    fn copy(&self) -> Option<(PathBuf, Source)> {
        let newer = siblings(&self.path).filter(|(_, metadata)| {
            metadata.mtime() >= self.written.0
                && Some(identity(metadata)) != self.known.identity
        });
        let copies = newer.filter_map(|(path, _)| {
            let mut source = Source::open(&path, &self.slack).ok()?;
            let mut head = vec![0; self.known.head.len()];
            source.read_exact(&mut head).ok()?;
            let rest = self.read - head.len() as u64;
            (self.known.has_copy(&head) && source.skip(rest)).then_some((path, source))
        });
        copies.min_by_key(|(_, source)| !source.is_plain())
    }

    fn read_growth(
        mut self,
        metadata: &Metadata,
        kept: &mut Kept<'_>,
        room: &mut u64,
        session: &mut Session,
    ) {
        let has_changed =
            (metadata.len(), source::written(metadata)) != (self.read, self.written);
        let source = (self.grows && has_changed && *room > 0)
            .then(|| Source::open(&self.path, &self.slack).ok())
            .flatten()
            .filter(|source| Some(source.identity) == self.known.identity);
        let Some(mut source) = source else { return kept.followed.push(self) };
        if source.begins_with(&self.known.head) && source.skip(self.read) {
            self.written = source.written;
            self.read_on(source, room, session);
            return kept.followed.push(self);
        }
        // It was copied and truncated. What it holds now is for whoever looks for new files.
        if let Some((path, rest)) = self.copy() {
            return kept.followed.push(self.continued_in(path, rest, room, session));
        }
        self.known.identity = None;
        kept.done.push(self.known);
    }

    fn move_to(&mut self, path: PathBuf, session: &mut Session) {
        session.rename_log(self.number, &shown(&path));
        self.path = path;
    }

    /// What was read stands in a copy now, where the rest of it is.
    fn continued_in(
        mut self,
        path: PathBuf,
        rest: Source,
        room: &mut u64,
        session: &mut Session,
    ) -> Followed {
        self.move_to(path, session);
        self.known.identity = Some(rest.identity);
        self.grows = rest.is_plain();
        self.written = rest.written;
        self.missed = 0;
        self.read_on(rest, room, session);
        self
    }
}

/// The files beside one, and itself.
fn siblings(path: &Path) -> impl Iterator<Item = (PathBuf, Metadata)> {
    let entries = path.parent().and_then(|folder| fs::read_dir(folder).ok());
    let entries = entries.into_iter().flatten().take(limits::LOG_FILES).filter_map(Result::ok);
    entries.filter_map(|entry| {
        let metadata = fs::metadata(entry.path()).ok().filter(Metadata::is_file)?;
        Some((entry.path(), metadata))
    })
}
