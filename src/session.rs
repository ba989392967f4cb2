// SPDX-License-Identifier: GPL-2.0-or-later
//! One analysis of one capture: the public interface of the core.

use crate::correlate::verdict::Verdict;
use crate::error::Error;
use crate::tcp::segment::Segment;
use crate::time::Zone;

/// When a verdict is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// While segments are still being fed: what is decided by now.
    SoFar,
    /// Every segment has been fed, or a frame is looked at once more.
    Final,
}

/// What is known of one TCP header of one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameInfo {
    /// Number of the stream, as Wireshark counts.
    pub stream: u32,
    /// The stream has seen a FIN or RST so far.
    pub closed: bool,
    /// This is the stream's first RST.
    pub first_reset: bool,
}

/// One analysis of one capture.
#[derive(Debug, Default)]
pub struct Session {
    zone: Zone,
}

impl Session {
    /// A session with default settings.
    pub fn new() -> Session {
        Session::default()
    }

    /// Sets the zone of log times: `auto`, `local`, `UTC`, `+08:00` or an IANA name.
    pub fn set_time_zone(&mut self, text: &str) -> Result<(), Error> {
        self.zone = Zone::parse(text).ok_or_else(|| Error::Setting {
            name: "time_zone",
            value: text.to_owned(),
            expected: "auto, local, UTC, an offset such as +08:00, or a name such as Asia/Shanghai",
        })?;
        Ok(())
    }

    /// Sets how many seconds entry and packet may lie apart beyond the log's resolution.
    pub fn set_window(&mut self, _text: &str) -> Result<(), Error> {
        Ok(())
    }

    /// Takes one segment. Segments go in frame order.
    pub fn feed(&mut self, _segment: &Segment<'_>) -> Result<(), Error> {
        Ok(())
    }

    /// Begins a log file; the lines that follow belong to it.
    pub fn begin_error_log(&mut self, _path: &str) {}

    /// Takes the next bytes of the log file, split anywhere.
    pub fn error_log_bytes(&mut self, _bytes: &[u8]) -> Result<(), Error> {
        Ok(())
    }

    /// Ends the log file: its last line needs no line end. An error says what is odd about the
    /// file as a whole (empty, binary, no line that nginx wrote).
    pub fn end_error_log(&mut self) -> Result<(), Error> {
        Ok(())
    }

    /// What is known of a frame that was fed.
    pub fn frame(&self, _frame: u32, _layer: u32) -> Option<FrameInfo> {
        None
    }

    /// The verdict on the stream of a frame.
    pub fn verdict(&mut self, _frame: u32, _layer: u32, _when: When) -> Option<Verdict<'_>> {
        None
    }
}
