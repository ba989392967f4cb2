// SPDX-License-Identifier: GPL-2.0-or-later
//! The exports. What each one promises stands in `include/rstdiag.h`.

use std::borrow::Cow;
use std::ffi::{c_char, CStr};
use std::time::Instant;

use super::convert::{self, Values};
use super::guard::{self, Answer, Failure};
use super::logs::Logs;
use crate::abi;
use crate::correlate::report::Report;
use crate::error::Error;
use crate::limits;
use crate::session::{LogKind, Session, When};
use crate::time::CaptureTime;

/// The format of access logs that nobody has given one for, as in nginx.
const DEFAULT_FORMAT: &str = "combined";

/// What an `rstdiag_session` of the header is.
pub(super) struct Handle {
    core: Session,
    /// Path of the error log until the first segment makes us read it.
    error_log: Vec<u8>,
    /// The same of the access log.
    access_log: Vec<u8>,
    /// Whether the format of access logs can be used, once one is given.
    is_format_good: Option<bool>,
    logs: Logs,
    /// When to look whether the logs have grown.
    look_at: Instant,
    /// A segment has been taken.
    fed: bool,
    notices: Vec<String>,
    /// The report that was worked out last.
    report: Report,
    /// Scratch of `rstdiag_session_values`, kept so that showing a frame allocates nothing.
    values: Values,
    /// Why the last call failed.
    pub(super) failure: Option<Failure>,
    pub(super) poisoned: bool,
    #[cfg(debug_assertions)]
    pub(super) thread: std::thread::ThreadId,
}

impl Handle {
    fn new() -> Handle {
        Handle {
            core: Session::new(),
            error_log: Vec::new(),
            access_log: Vec::new(),
            is_format_good: None,
            logs: Logs::default(),
            look_at: Instant::now(),
            fed: false,
            notices: Vec::new(),
            report: Report::default(),
            values: Values::default(),
            failure: None,
            poisoned: false,
            #[cfg(debug_assertions)]
            thread: std::thread::current().id(),
        }
    }

    fn notice(&mut self, error: &Error) {
        if self.notices.len() < limits::NOTICES {
            self.notices.push(convert::escaped(error.to_string().as_bytes()));
        }
    }

    /// The notice of this index; those about the whole capture are behind the others.
    fn notice_at(&mut self, index: usize, when: When) -> Option<Cow<'_, str>> {
        match (index.checked_sub(self.notices.len()), when) {
            (None, _) => self.notices.get(index).map(|text| Cow::Borrowed(text.as_str())),
            (Some(_), When::SoFar) => None,
            (Some(behind), When::Final) => {
                let error = self.core.useless_logs().into_iter().nth(behind)?;
                Some(Cow::Owned(convert::escaped(error.to_string().as_bytes())))
            }
        }
    }

    fn option(&mut self, option: i32, value: &[u8]) -> Answer {
        if self.fed {
            return Err(Failure::TooLate);
        }
        // No setting but the path understands anything else than UTF-8.
        let text = || {
            std::str::from_utf8(value).map_or_else(|_| convert::escaped(value), str::to_owned)
        };
        let set = match option {
            abi::RSTDIAG_OPTION_TIME_ZONE => self.core.set_time_zone(&text()),
            abi::RSTDIAG_OPTION_CLOCK_OFFSET => self.core.set_clock_offset(&text()),
            abi::RSTDIAG_OPTION_WINDOW => self.core.set_window(&text()),
            abi::RSTDIAG_OPTION_NGINX_ADDRESSES => self.core.set_nginx_addresses(&text()),
            abi::RSTDIAG_OPTION_ERROR_LOG => {
                self.error_log = value.to_vec();
                Ok(())
            }
            abi::RSTDIAG_OPTION_ACCESS_LOG => {
                self.access_log = value.to_vec();
                Ok(())
            }
            abi::RSTDIAG_OPTION_ACCESS_LOG_FORMAT => {
                let set = self.core.set_access_log_format(&text());
                self.is_format_good = Some(set.is_ok());
                set
            }
            _ => return Err(Failure::Argument { what: "option", value: i64::from(option) }),
        };
        if let Err(error) = set {
            self.notice(&error);
            return Err(error.into());
        }
        Ok(abi::RSTDIAG_OK)
    }

    fn read_logs(&mut self, begin: CaptureTime) {
        // As the log's clock shows it.
        let begin = begin.plus(self.core.clock_offset().saturating_neg());
        self.core.begin_at(begin);
        let error_log = std::mem::take(&mut self.error_log);
        if !error_log.is_empty() {
            self.read_log(LogKind::Error, &error_log, begin);
        }
        let access_log = std::mem::take(&mut self.access_log);
        if !access_log.is_empty() {
            self.read_access_log(&access_log, begin);
        }
        self.look_at = Instant::now() + self.logs.rest(self.core.log_entries());
    }

    fn read_log(&mut self, kind: LogKind, path: &[u8], begin: CaptureTime) {
        let notices = self.logs.load(kind, path, begin, &mut self.core);
        notices.iter().for_each(|notice| self.notice(notice));
    }

    fn read_access_log(&mut self, path: &[u8], begin: CaptureTime) {
        // A format that is refused has been told of.
        let is_usable = self
            .is_format_good
            .unwrap_or_else(|| self.core.set_access_log_format(DEFAULT_FORMAT).is_ok());
        if !is_usable {
            return;
        }
        match self.core.access_log_lacks() {
            Some(why) => self.notice(&Error::Log {
                log: LogKind::Access.name(),
                path: convert::escaped(path),
                why: why.to_owned(),
            }),
            None => self.read_log(LogKind::Access, path, begin),
        }
    }

    /// A live capture goes on while nginx writes: the logs are looked at now and then, and not
    /// for long.
    fn follow_logs(&mut self) {
        if Instant::now() >= self.look_at {
            self.read_growth(limits::LOG_GROWTH);
        }
    }

    /// Reads up to `room` bytes that were added to the logs.
    fn read_growth(&mut self, room: u64) {
        if !self.logs.is_empty() {
            self.logs.follow(room, &mut self.core);
            self.look_at = Instant::now() + self.logs.rest(self.core.log_entries());
        }
    }
}

/// What somebody who asks knows of the capture.
fn moment(when: i32) -> Result<When, Failure> {
    match when {
        abi::RSTDIAG_SO_FAR => Ok(When::SoFar),
        abi::RSTDIAG_FINAL => Ok(When::Final),
        _ => Err(Failure::Argument { what: "when", value: i64::from(when) }),
    }
}

/// Memory of the caller that an answer is written to, and where its length goes.
struct Room<T> {
    out: *mut T,
    cap: usize,
    len: *mut usize,
}

impl<T: Copy> Room<T> {
    /// Refuses NULLs; `names` are those of the two pointers in the header.
    fn new(
        out: *mut T,
        cap: usize,
        len: *mut usize,
        names: [&'static str; 2],
    ) -> Result<Room<T>, Failure> {
        if out.is_null() && cap != 0 {
            return Err(Failure::Null(names[0]));
        }
        if len.is_null() {
            return Err(Failure::Null(names[1]));
        }
        Ok(Room { out, cap, len })
    }

    /// Tells the length of the answer, and whether there is room for it.
    ///
    /// # Safety
    /// `len` can be written.
    unsafe fn tell(&self, answer: &[T]) -> Result<(), Failure> {
        // SAFETY: as this function's own.
        unsafe { self.len.write(answer.len()) };
        if answer.len() > self.cap {
            return Err(Failure::Buffer { needed: answer.len(), given: self.cap });
        }
        Ok(())
    }

    /// Copies the answer.
    ///
    /// # Safety
    /// `out` has room for `cap` elements, and `tell` found it enough.
    unsafe fn copy(&self, answer: &[T]) {
        if !answer.is_empty() {
            // SAFETY: `cap` is not 0, so `out` is not NULL; it has the room by this function's
            // own promise, and the caller's memory is not the session's.
            unsafe { self.out.copy_from_nonoverlapping(answer.as_ptr(), answer.len()) };
        }
    }

    /// Tells the length of the answer, and copies it if there is room.
    ///
    /// # Safety
    /// `len` can be written, and `out` has room for `cap` elements.
    unsafe fn give(&self, answer: &[T]) -> Result<(), Failure> {
        // SAFETY: as this function's own.
        unsafe { self.tell(answer) }?;
        // SAFETY: as this function's own, and the answer fits.
        unsafe { self.copy(answer) };
        Ok(())
    }
}

/// Makes a session.
///
/// # Safety
/// `out` is NULL or can be written.
#[no_mangle]
pub unsafe extern "C" fn rstdiag_session_new(out: *mut *mut abi::rstdiag_session) -> i32 {
    guard::call(abi::RSTDIAG_E_PANIC, || {
        if out.is_null() {
            return abi::RSTDIAG_E_NULL;
        }
        let handle = Box::into_raw(Box::new(Handle::new()));
        // SAFETY: not NULL, and by the caller's promise it can be written.
        unsafe { out.write(handle.cast()) };
        abi::RSTDIAG_OK
    })
}

/// Ends a session.
///
/// # Safety
/// `session` is NULL, or comes from `rstdiag_session_new` and has not been freed.
#[no_mangle]
pub unsafe extern "C" fn rstdiag_session_free(session: *mut abi::rstdiag_session) {
    guard::call((), || {
        if !session.is_null() {
            // SAFETY: not NULL, so by the caller's promise it is the pointer that
            // `Box::into_raw` gave in `rstdiag_session_new`, and is given back once.
            drop(unsafe { Box::from_raw(session.cast::<Handle>()) });
        }
    });
}

/// Sets an option.
///
/// # Safety
/// `session` is as `guard::on` asks; `value` is NULL or holds `value_len` bytes.
#[no_mangle]
pub unsafe extern "C" fn rstdiag_session_option(
    session: *mut abi::rstdiag_session,
    option: i32,
    value: *const u8,
    value_len: usize,
) -> i32 {
    // SAFETY: the caller's promise about the session.
    unsafe { guard::on(session) }.run(|handle| {
        // SAFETY: the caller's promise about the value.
        let value = unsafe { convert::bytes(value, value_len, "value") }?;
        handle.option(option, value)
    })
}

/// Takes one segment.
///
/// # Safety
/// `session` is as `guard::on` asks; `segment` is NULL or points to one whose own pointers
/// hold as many bytes as it says.
#[no_mangle]
pub unsafe extern "C" fn rstdiag_session_feed(
    session: *mut abi::rstdiag_session,
    segment: *const abi::rstdiag_segment,
) -> i32 {
    // SAFETY: the caller's promise about the session.
    unsafe { guard::on(session) }.run(|handle| {
        // SAFETY: NULL, or by the caller's promise a segment that nobody writes to meanwhile.
        let raw = unsafe { segment.as_ref() }.ok_or(Failure::Null("segment"))?;
        // SAFETY: the caller's promise about the pointers in it.
        let decrypted = unsafe { convert::runs(raw.decrypted, raw.decrypted_len) }?;
        // SAFETY: the same.
        let segment = unsafe { convert::segment(raw, &decrypted) }?;
        if !handle.fed {
            handle.fed = true;
            handle.read_logs(segment.time);
        }
        handle.core.feed(&segment)?;
        Ok(abi::RSTDIAG_OK)
    })
}

/// Tells what is known of a frame.
///
/// # Safety
/// `session` is as `guard::on` asks; `out` is NULL or can be written.
#[no_mangle]
pub unsafe extern "C" fn rstdiag_session_frame(
    session: *mut abi::rstdiag_session,
    frame: u32,
    layer: u32,
    out: *mut abi::rstdiag_frame,
) -> i32 {
    // SAFETY: the caller's promise about the session.
    unsafe { guard::on(session) }.run(|handle| {
        if out.is_null() {
            return Err(Failure::Null("out"));
        }
        let Some(info) = handle.core.frame(frame, layer) else {
            return Ok(abi::RSTDIAG_NOT_FOUND);
        };
        // SAFETY: not NULL, and by the caller's promise it can be written.
        unsafe { out.write(convert::frame(info)) };
        Ok(abi::RSTDIAG_OK)
    })
}

/// Writes the verdict on the stream of a frame.
///
/// # Safety
/// `session` is as `guard::on` asks; `wanted` is NULL or holds `RSTDIAG_FIELD_COUNT` bytes;
/// `values` and `text` are NULL or have room for as many elements as is said; the lengths are
/// NULL or can be written.
#[no_mangle]
pub unsafe extern "C" fn rstdiag_session_values(
    session: *mut abi::rstdiag_session,
    frame: u32,
    layer: u32,
    when: i32,
    wanted: *const u8,
    values: *mut abi::rstdiag_value,
    values_cap: usize,
    values_len: *mut usize,
    text: *mut u8,
    text_cap: usize,
    text_len: *mut usize,
) -> i32 {
    // SAFETY: the caller's promise about the session.
    unsafe { guard::on(session) }.run(|handle| {
        let values = Room::new(values, values_cap, values_len, ["values", "values_len"])?;
        let text = Room::new(text, text_cap, text_len, ["text", "text_len"])?;
        let when = moment(when)?;
        // SAFETY: NULL, or by the caller's promise as many bytes as there are fields.
        let wanted = unsafe { wanted.cast::<convert::Wanted>().as_ref() };
        let wanted = wanted.unwrap_or(&convert::EVERY_FIELD);
        let verdict = match convert::is_log_wanted(wanted) {
            true => {
                handle.follow_logs();
                handle.core.verdict(frame, layer, when)
            }
            false => handle.core.verdict_of_packets(frame, layer, when),
        };
        let Some(verdict) = verdict else { return Ok(abi::RSTDIAG_NOT_FOUND) };
        let found = &mut handle.values;
        found.fill(&verdict, wanted)?;
        // SAFETY: the caller's promise about the lengths.
        let fits = unsafe { [values.tell(&found.values), text.tell(&found.text)] };
        for fit in fits {
            fit?;
        }
        // SAFETY: the caller's promise about the room, which both fit in.
        unsafe {
            values.copy(&found.values);
            text.copy(&found.text);
        }
        Ok(abi::RSTDIAG_OK)
    })
}

/// Writes one notice.
///
/// # Safety
/// `session` is as `guard::on` asks; `text` is NULL or has room for `text_cap` bytes;
/// `text_len` is NULL or can be written.
#[no_mangle]
pub unsafe extern "C" fn rstdiag_session_notice(
    session: *mut abi::rstdiag_session,
    index: usize,
    when: i32,
    text: *mut u8,
    text_cap: usize,
    text_len: *mut usize,
) -> i32 {
    // SAFETY: the caller's promise about the session.
    unsafe { guard::on(session) }.run(|handle| {
        let text = Room::new(text, text_cap, text_len, ["text", "text_len"])?;
        let Some(notice) = handle.notice_at(index, moment(when)?) else {
            return Ok(abi::RSTDIAG_NOT_FOUND);
        };
        // SAFETY: the caller's promise about the text and its length.
        unsafe { text.give(notice.as_bytes()) }?;
        Ok(abi::RSTDIAG_OK)
    })
}

/// Works out the report.
///
/// # Safety
/// `session` is as `guard::on` asks; `parts` is NULL or can be written.
#[no_mangle]
pub unsafe extern "C" fn rstdiag_session_report(
    session: *mut abi::rstdiag_session,
    parts: *mut usize,
) -> i32 {
    // SAFETY: the caller's promise about the session.
    unsafe { guard::on(session) }.run(|handle| {
        if parts.is_null() {
            return Err(Failure::Null("parts"));
        }
        // Who asks for all that is known waits for it.
        handle.read_growth(u64::MAX);
        handle.report = handle.core.report();
        // SAFETY: not NULL, and by the caller's promise it can be written.
        unsafe { parts.write(handle.report.parts.len()) };
        Ok(abi::RSTDIAG_OK)
    })
}

/// Writes one part of the report.
///
/// # Safety
/// As for [`rstdiag_session_notice`].
#[no_mangle]
pub unsafe extern "C" fn rstdiag_session_report_part(
    session: *mut abi::rstdiag_session,
    index: usize,
    text: *mut u8,
    text_cap: usize,
    text_len: *mut usize,
) -> i32 {
    // SAFETY: the caller's promise about the session.
    unsafe { guard::on(session) }.run(|handle| {
        let room = Room::new(text, text_cap, text_len, ["text", "text_len"])?;
        let Handle { core, report, .. } = handle;
        let Some(part) = report.parts.get(index) else { return Ok(abi::RSTDIAG_NOT_FOUND) };
        let lines = core.report_lines(part);
        let lines = lines.iter().map(|line| convert::escaped(line.as_bytes()) + "\n");
        // SAFETY: the caller's promise about the text and its length.
        unsafe { room.give(lines.collect::<String>().as_bytes()) }?;
        Ok(abi::RSTDIAG_OK)
    })
}

/// Writes why the last call failed; does not count as a call itself.
///
/// # Safety
/// As for [`rstdiag_session_notice`].
#[no_mangle]
pub unsafe extern "C" fn rstdiag_session_error(
    session: *mut abi::rstdiag_session,
    text: *mut u8,
    text_cap: usize,
    text_len: *mut usize,
) -> i32 {
    // SAFETY: the caller's promise about the session.
    unsafe { guard::on(session) }.ask(|handle| {
        let room = match Room::new(text, text_cap, text_len, ["text", "text_len"]) {
            Ok(room) => room,
            Err(failure) => return failure.status(),
        };
        let Some(failure) = &handle.failure else {
            return abi::RSTDIAG_NOT_FOUND;
        };
        let why = convert::escaped(failure.to_string().as_bytes());
        // SAFETY: the caller's promise about the text and its length.
        let given = unsafe { room.give(why.as_bytes()) };
        given.map_or_else(|failure| failure.status(), |()| abi::RSTDIAG_OK)
    })
}

/// Name of a status.
///
/// # Safety
/// Nothing is asked of the caller: it is unsafe as all that the header declares.
#[no_mangle]
pub unsafe extern "C" fn rstdiag_status_name(status: i32) -> *const c_char {
    guard::call(c"unknown".as_ptr(), || {
        let name: &'static CStr = match status {
            abi::RSTDIAG_OK => c"RSTDIAG_OK",
            abi::RSTDIAG_NOT_FOUND => c"RSTDIAG_NOT_FOUND",
            abi::RSTDIAG_E_NULL => c"RSTDIAG_E_NULL",
            abi::RSTDIAG_E_ARGUMENT => c"RSTDIAG_E_ARGUMENT",
            abi::RSTDIAG_E_ORDER => c"RSTDIAG_E_ORDER",
            abi::RSTDIAG_E_LIMIT => c"RSTDIAG_E_LIMIT",
            abi::RSTDIAG_E_BUFFER => c"RSTDIAG_E_BUFFER",
            abi::RSTDIAG_E_HEADER => c"RSTDIAG_E_HEADER",
            abi::RSTDIAG_E_PANIC => c"RSTDIAG_E_PANIC",
            abi::RSTDIAG_E_POISONED => c"RSTDIAG_E_POISONED",
            abi::RSTDIAG_E_THREAD => c"RSTDIAG_E_THREAD",
            _ => c"unknown",
        };
        name.as_ptr()
    })
}

/// Version of the plugin.
///
/// # Safety
/// Nothing is asked of the caller: it is unsafe as all that the header declares.
#[no_mangle]
pub unsafe extern "C" fn rstdiag_version() -> *const c_char {
    guard::call(c"unknown".as_ptr(), || abi::RSTDIAG_VERSION.as_ptr().cast())
}
