// SPDX-License-Identifier: GPL-2.0-or-later
//! A large error log, and a session that reads it as the host's does: by its path.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::ptr;

use rstdiag::abi;
use rstdiag::ffi::session as call;

use crate::traffic::START;

/// Bytes of the log.
const SIZE: usize = 1_000_000_000;

/// Writes a log a tenth of whose lines are about resets; returns how many those are.
pub fn write_log(path: &Path) -> u64 {
    let mut out = BufWriter::new(File::create(path).unwrap());
    let (mut bytes, mut resets) = (0, 0);
    for number in 0u64.. {
        if bytes >= SIZE {
            break;
        }
        let seconds = number / 500;
        let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
        let what = match number % 10 {
            0 => "recv() failed (104: Connection reset by peer) while reading response header from \
                  upstream",
            1..=3 => "open() \"/srv/www/missing.png\" failed (2: No such file or directory)",
            4..=6 => "access forbidden by rule",
            _ => "an upstream response is buffered to a temporary file /var/cache/nginx/7 while \
                  reading upstream",
        };
        resets += u64::from(number % 10 == 0);
        let page = number % 9973;
        let line = format!(
            "2026/01/01 {hour:02}:{minute:02}:{second:02} [error] 7#7: *{number} {what}, client: \
             198.51.100.{}, server: shop.example.com, request: \"GET /shop/item/{page} HTTP/1.1\", \
             upstream: \"http://192.0.2.90:8080/shop/item/{page}\", host: \"shop.example.com\"\n",
            number % 254,
        );
        bytes += line.len();
        out.write_all(line.as_bytes()).unwrap();
    }
    // Or the disk is still being written to while it is measured.
    out.into_inner().unwrap().sync_all().unwrap();
    resets
}

/// A session that has read the log.
pub struct Reader(*mut abi::rstdiag_session);

impl Reader {
    pub fn new(log: &Path) -> Reader {
        let mut session = ptr::null_mut();
        // SAFETY: a pointer to write to.
        assert_eq!(unsafe { call::rstdiag_session_new(&mut session) }, abi::RSTDIAG_OK);
        let reader = Reader(session);
        let path = log.to_str().unwrap();
        for (option, value) in
            [(abi::RSTDIAG_OPTION_TIME_ZONE, "UTC"), (abi::RSTDIAG_OPTION_ERROR_LOG, path)]
        {
            // SAFETY: a session, and as many bytes as are said.
            let set = unsafe {
                call::rstdiag_session_option(session, option, value.as_ptr(), value.len())
            };
            assert_eq!(set, abi::RSTDIAG_OK);
        }
        // The log is read when the first segment comes.
        let mut syn = [0; 20];
        (syn[12], syn[13]) = (5 << 4, 2);
        // SAFETY: all zero is a valid segment.
        let zero: abi::rstdiag_segment = unsafe { std::mem::zeroed() };
        let segment = abi::rstdiag_segment {
            frame: 1,
            time_ns: START,
            bytes: syn.as_ptr(),
            bytes_len: syn.len() as u32,
            ..zero
        };
        // SAFETY: a session, and a segment that points to as many bytes as it says.
        let fed = unsafe { call::rstdiag_session_feed(session, &segment) };
        assert_eq!(fed, abi::RSTDIAG_OK);
        reader
    }

    /// The first part of the report, which says what was read.
    pub fn summary(&self) -> String {
        let mut parts = 0;
        let mut text = vec![0; 1 << 16];
        let mut len = 0;
        // SAFETY: a session, a number to write to, and as much room as is said.
        let status = unsafe {
            assert_eq!(call::rstdiag_session_report(self.0, &mut parts), abi::RSTDIAG_OK);
            call::rstdiag_session_report_part(
                self.0,
                0,
                text.as_mut_ptr(),
                text.len(),
                &mut len,
            )
        };
        assert_eq!(status, abi::RSTDIAG_OK);
        String::from_utf8(text[..len].to_vec()).unwrap()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // SAFETY: a session that is freed once.
        unsafe { call::rstdiag_session_free(self.0) };
    }
}
