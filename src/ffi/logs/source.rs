// SPDX-License-Identifier: GPL-2.0-or-later
//! Opens one log file, packed or not, and says in words why that cannot be done.
//!
//! A file is opened without blocking, so that a FIFO that nobody writes to does not hang the
//! host. How it is packed is told by its first bytes, not by its name.

use std::fs::{File, FileType, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

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
    Plain(File),
    Packed(Box<dyn Read>),
}

impl Source {
    /// Opens a file; the error says what is wrong, and what to do.
    pub(super) fn open(path: &Path) -> Result<Source, String> {
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
        let most = limits::LOG_UNPACKED
            .saturating_add(metadata.len().saturating_mul(limits::LOG_UNPACKED_RATIO));
        let text = if magic.starts_with(b"\x1f\x8b") {
            Text::Packed(Box::new(Bounded { inner: MultiGzDecoder::new(file), left: most }))
        } else if magic.starts_with(b"\x28\xb5\x2f\xfd") {
            let unusable = |error: io::Error| format!("it cannot be unpacked ({error})");
            let mut decoder = zstd::Decoder::new(file).map_err(unusable)?;
            decoder.window_log_max(limits::LOG_ZSTD_WINDOW).map_err(unusable)?;
            Text::Packed(Box::new(Bounded { inner: decoder, left: most }))
        } else {
            Text::Plain(file)
        };
        Ok(Source { text, identity: identity(&metadata), written: written(&metadata) })
    }

    pub(super) fn is_plain(&self) -> bool {
        matches!(self.text, Text::Plain(_))
    }

    /// Whether the text begins so, if it is not packed; what has been read does not matter.
    pub(super) fn begins_with(&self, head: &[u8]) -> bool {
        let Text::Plain(file) = &self.text else { return false };
        let mut begin = vec![0; head.len()];
        file.read_exact_at(&mut begin, 0).is_ok() && begin == head
    }

    /// Passes over so many bytes; tells whether there are as many.
    pub(super) fn skip(&mut self, bytes: u64) -> bool {
        match &mut self.text {
            Text::Plain(file) => {
                let end = file.metadata().map(|metadata| metadata.len());
                let offset = i64::try_from(bytes).unwrap_or(i64::MAX);
                let place = file.seek(SeekFrom::Current(offset));
                place.is_ok_and(|place| end.is_ok_and(|end| place <= end))
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
            Text::Plain(file) => file.read(buffer),
            Text::Packed(text) => text.read(buffer),
        }
    }
}

/// When a file was last written to, in seconds and nanoseconds.
pub(super) fn written(metadata: &Metadata) -> (i64, i64) {
    (metadata.mtime(), metadata.mtime_nsec())
}

/// Text of which no more than so much can be meant.
pub(super) struct Bounded<R> {
    pub(super) inner: R,
    /// Bytes that may still come.
    pub(super) left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.inner.read(buffer)?;
        self.left = self
            .left
            .checked_sub(len as u64)
            .ok_or_else(|| io::Error::other("it unpacks to more than a log would"))?;
        Ok(len)
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
