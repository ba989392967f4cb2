// SPDX-License-Identifier: GPL-2.0-or-later
//! Opens one log file, packed or not, and says in words why that cannot be done.
//!
//! A file is opened without blocking, so that a FIFO that nobody writes to does not hang the
//! host. How it is packed is told by its first bytes, not by its name. It is read as it was when it
//! was opened, so that one that grows as fast as it is read comes to an end; and its holes, of which
//! a file of no size can have as many as it likes, are passed over.

use std::cell::Cell;
use std::fs::{File, FileType, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read};
#[cfg(target_os = "linux")]
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::rc::Rc;

use flate2::read::MultiGzDecoder;

use super::{identity, Identity};
use crate::limits;

/// How files begin that are packed in a way that is not read.
const OTHER_PACKINGS: [(&[u8], &str); 4] = [
    (b"\xfd7zXZ", "xz"),
    (b"BZh", "bzip2"),
    (b"PK\x03\x04", "zip"),
    (b"\x04\x22\x4d\x18", "lz4"),
];

/// The text of a log file.
pub(super) struct Source {
    text: Text,
    pub(super) identity: Identity,
    /// When it was last written to.
    pub(super) written: (i64, i64),
}

enum Text {
    /// As nginx writes it.
    Plain(Plain),
    Packed(Box<dyn Read>),
}

/// Bytes that all packed logs of a session together may still unpack to, beyond what each may by
/// its size.
#[derive(Clone, Debug)]
pub(super) struct Slack(Rc<Cell<u64>>);

impl Slack {
    pub(super) fn new(bytes: u64) -> Slack {
        Slack(Rc::new(Cell::new(bytes)))
    }

    /// Takes so many, if there are as many.
    fn take(&self, bytes: u64) -> bool {
        let left = self.0.get().checked_sub(bytes);
        self.0.set(left.unwrap_or(0));
        left.is_some()
    }
}

impl Default for Slack {
    fn default() -> Slack {
        Slack::new(limits::LOG_UNPACKED)
    }
}

impl Source {
    /// Opens a file; the error says what is wrong, and what to do.
    pub(super) fn open(path: &Path, slack: &Slack) -> Result<Source, String> {
        let file = open(path)?;
        let metadata = file.metadata().map_err(|error| what_to_do(&error))?;
        let mut magic = [0; 6];
        let len = file.read_at(&mut magic, 0).map_err(|error| what_to_do(&error))?;
        let magic = &magic[..len];
        if let Some((_, name)) =
            OTHER_PACKINGS.iter().find(|(begin, _)| magic.starts_with(begin))
        {
            return Err(format!("it is packed with {name}; unpack it, and name the result"));
        }
        // A bomb takes no memory, but it must not take the host's time for ever.
        let own = metadata.len().saturating_mul(limits::LOG_UNPACKED_RATIO);
        let text = if magic.starts_with(b"\x1f\x8b") {
            let inner = MultiGzDecoder::new(file);
            Text::Packed(Box::new(Bounded { inner, own, slack: slack.clone() }))
        } else if magic.starts_with(b"\x28\xb5\x2f\xfd") {
            let unusable = |error: io::Error| format!("it cannot be unpacked ({error})");
            let mut inner = zstd::Decoder::new(file).map_err(unusable)?;
            inner.window_log_max(limits::LOG_ZSTD_WINDOW).map_err(unusable)?;
            Text::Packed(Box::new(Bounded { inner, own, slack: slack.clone() }))
        } else {
            Text::Plain(Plain::new(file, &metadata))
        };
        Ok(Source { text, identity: identity(&metadata), written: written(&metadata) })
    }

    pub(super) fn is_plain(&self) -> bool {
        matches!(self.text, Text::Plain(_))
    }

    /// Whether the text begins so, if it is not packed; what has been read does not matter.
    pub(super) fn begins_with(&self, head: &[u8]) -> bool {
        let Text::Plain(plain) = &self.text else { return false };
        let mut begin = vec![0; head.len()];
        plain.file.read_exact_at(&mut begin, 0).is_ok() && begin == head
    }

    /// Bytes of holes that were passed over since this was asked last.
    pub(super) fn passed(&mut self) -> u64 {
        match &mut self.text {
            Text::Plain(plain) => std::mem::take(&mut plain.passed),
            Text::Packed(_) => 0,
        }
    }

    /// Passes over so many bytes; tells whether there are as many.
    pub(super) fn skip(&mut self, bytes: u64) -> bool {
        match &mut self.text {
            Text::Plain(plain) => {
                plain.at = plain.at.saturating_add(bytes);
                plain.at <= plain.end
            }
            Text::Packed(_) if bytes > limits::LOG_SKIPPED => false,
            Text::Packed(text) => {
                let skipped = io::copy(&mut text.take(bytes), &mut io::sink());
                skipped.is_ok_and(|skipped| skipped == bytes)
            }
        }
    }
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.text {
            Text::Plain(plain) => plain.read(buffer),
            Text::Packed(text) => text.read(buffer),
        }
    }
}

/// When a file was last written to, in seconds and nanoseconds.
pub(super) fn written(metadata: &Metadata) -> (i64, i64) {
    (metadata.mtime(), metadata.mtime_nsec())
}

/// A file that is not packed.
struct Plain {
    file: File,
    /// Where reading has come to.
    at: u64,
    /// How long it was when it was opened.
    end: u64,
    /// It takes less room than its length.
    has_holes: bool,
    /// See [`Source::passed`].
    passed: u64,
}

impl Plain {
    fn new(file: File, metadata: &Metadata) -> Plain {
        let has_holes = metadata.blocks().saturating_mul(512) < metadata.len();
        Plain { file, at: 0, end: metadata.len(), has_holes, passed: 0 }
    }
}

/// More than is kept of a line: more zeros than this are no other line.
const LONG_LINE: usize = limits::LOG_LINE + 1;

impl Read for Plain {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.end.saturating_sub(self.at);
        let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let hole = if self.has_holes { hole_at(&self.file, self.at).min(left) } else { 0 };
        if hole > LONG_LINE as u64 && most >= LONG_LINE {
            buffer[..LONG_LINE].fill(0);
            self.at += hole;
            self.passed += hole - LONG_LINE as u64;
            return Ok(LONG_LINE);
        }
        let len = self.file.read_at(&mut buffer[..most], self.at)?;
        self.at += len as u64;
        Ok(len)
    }
}

/// Bytes from here on that the file system knows to be zeros without having them.
#[cfg(target_os = "linux")]
fn hole_at(file: &File, at: u64) -> u64 {
    let Ok(from) = libc::off64_t::try_from(at) else { return 0 };
    // SAFETY: the call takes numbers only; the descriptor is open.
    let data = unsafe { libc::lseek64(file.as_raw_fd(), from, libc::SEEK_DATA) };
    match u64::try_from(data) {
        Ok(data) => data.saturating_sub(at),
        // There is none behind here; anything else is a file system that does not tell.
        Err(_) if io::Error::last_os_error().raw_os_error() == Some(libc::ENXIO) => u64::MAX,
        Err(_) => 0,
    }
}

#[cfg(not(target_os = "linux"))]
fn hole_at(_: &File, _: u64) -> u64 {
    0
}

/// Text of which no more than so much can be meant.
pub(super) struct Bounded<R> {
    pub(super) inner: R,
    /// Bytes that may still come by the size of the file.
    pub(super) own: u64,
    pub(super) slack: Slack,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.inner.read(buffer)?;
        let beyond = (len as u64).saturating_sub(self.own);
        self.own = self.own.saturating_sub(len as u64);
        match self.slack.take(beyond) {
            true => Ok(len),
            false => Err(io::Error::other(format!(
                "packed logs of more than {} times their size, of which this is one, unpack to \
                 more than {} MiB beyond that",
                limits::LOG_UNPACKED_RATIO,
                limits::LOG_UNPACKED >> 20,
            ))),
        }
    }
}

/// Opens a regular file.
fn open(path: &Path) -> Result<File, String> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(path)
        .map_err(|error| what_to_do(&error))?;
    let kind = file.metadata().map_err(|error| what_to_do(&error))?.file_type();
    match unusable(kind) {
        None => Ok(file),
        Some(why) => Err(why.to_owned()),
    }
}

/// Why nothing can be read from a file of this kind.
fn unusable(kind: FileType) -> Option<&'static str> {
    if kind.is_file() {
        None
    } else if kind.is_fifo() {
        Some("this is a pipe, which can be read only once; write it to a file and name that")
    } else {
        Some("this is a device or socket; name a file that holds the log")
    }
}

/// What to do about a path that cannot be opened.
pub(super) fn what_to_do(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => {
            "there is no such file; correct the path, or leave it empty to do without the log"
                .to_owned()
        }
        ErrorKind::PermissionDenied => {
            "you may not read it; copy it to where you may, or ask for read permission"
                .to_owned()
        }
        // Opening a socket for reading says this.
        _ if error.raw_os_error() == Some(libc::ENXIO) => {
            "this is a socket; name a file that holds the log".to_owned()
        }
        _ => format!("it cannot be opened ({error}); name a readable file"),
    }
}

/// What became of a file of which no more than so many lines can be read.
pub(super) fn what_is_used(error: &io::Error, lines: u64) -> String {
    let used = match lines {
        0 => "none of its lines can be used".to_owned(),
        _ => format!("what is used ends with line {lines}"),
    };
    format!(
        "reading it failed ({error}); {used}; if it is packed, test it with its own tool, and copy \
         it again"
    )
}
