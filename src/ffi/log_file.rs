// SPDX-License-Identifier: GPL-2.0-or-later
//! Reads log files: the only file access of the crate.
//!
//! A log is read, never mapped: rotation that truncates a mapped file kills the process that
//! looks at it. It is opened without blocking, so a FIFO that nobody writes to does not hang
//! the host.

use std::ffi::OsStr;
use std::fs::{File, FileType, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};

use super::convert::escaped;
use crate::error::Error;
use crate::session::Session;

/// Bytes that are read at once.
const CHUNK: usize = 256 * 1024;

/// Gives the error log at `path` to the session. An error names the path, what is wrong with
/// it, and what to do.
pub(super) fn load(path: &[u8], session: &mut Session) -> Result<(), Error> {
    let shown = escaped(path);
    let unusable = |why: String| Error::Log { path: shown.clone(), why };
    let mut file = open(path).map_err(unusable)?;
    session.begin_error_log(&shown);
    let read = copy(&mut file, session);
    let ended = session.end_error_log();
    match read {
        Ok(()) => ended,
        Err(Stop::Read(error)) => Err(unusable(format!(
            "reading it failed part of the way ({error}); what was read is used"
        ))),
        Err(Stop::Refused(error)) => Err(error),
    }
}

enum Stop {
    Read(io::Error),
    Refused(Error),
}

fn copy(file: &mut File, session: &mut Session) -> Result<(), Stop> {
    let mut chunk = vec![0; CHUNK];
    loop {
        match file.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(len) => session.error_log_bytes(&chunk[..len]).map_err(Stop::Refused)?,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(Stop::Read(error)),
        }
    }
}

fn open(path: &[u8]) -> Result<File, String> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(OsStr::from_bytes(path))
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
    } else if kind.is_dir() {
        Some("this is a directory; name the log file in it")
    } else if kind.is_fifo() {
        Some("this is a pipe, which can be read only once; write it to a file and name that")
    } else {
        Some("this is a device or socket; name a file that holds the log")
    }
}

fn what_to_do(error: &io::Error) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn complaint(path: &str) -> String {
        match load(path.as_bytes(), &mut Session::new()) {
            Ok(()) => String::new(),
            Err(error) => error.to_string(),
        }
    }

    /// A directory that is removed with its content when the test ends.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Scratch {
            let path =
                std::env::temp_dir().join(format!("rstdiag-{}-{name}", std::process::id()));
            assert!(std::fs::create_dir_all(&path).is_ok());
            Scratch(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn what_is_no_log_is_said_in_words() {
        let scratch = Scratch::new("kinds");
        let socket = scratch.0.join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket);
        for (path, words) in [
            (scratch.0.display().to_string(), "a directory"),
            (socket.display().to_string(), "a socket"),
            ("/dev/null".to_owned(), "a device"),
            ("/nowhere/error.log".to_owned(), "no such file"),
            (format!("{}/a\nb", scratch.0.display()), r"/a\nb: there is no such file"),
            ("with\0zero".to_owned(), "cannot be opened"),
        ] {
            let said = complaint(&path);
            assert!(said.starts_with("error_log: "), "{path}: {said}");
            assert!(said.contains(words), "{path}: {said}");
        }
    }

    #[test]
    fn a_pipe_that_nobody_writes_to_does_not_hang() {
        let scratch = Scratch::new("pipe");
        let pipe = scratch.0.join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.is_ok_and(|status| status.success()));
        let said = complaint(&pipe.display().to_string());
        assert!(said.contains("a pipe"), "{said}");
    }

    #[test]
    fn a_file_that_is_not_utf8_by_name_is_read() {
        let scratch = Scratch::new("name");
        let path = scratch.0.join(OsStr::from_bytes(b"error\xff.log"));
        assert!(std::fs::write(&path, "2024/01/01 00:00:00 [info] 1#1: *1 x\n").is_ok());
        assert!(load(path.as_os_str().as_bytes(), &mut Session::new()).is_ok());
    }
}
