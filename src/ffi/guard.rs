// SPDX-License-Identifier: GPL-2.0-or-later
//! The guard around every export: no panic passes it, and no NULL is followed.

use std::fmt;
use std::panic::{catch_unwind, AssertUnwindSafe};

use super::session::Handle;
use crate::abi;
use crate::error::Error;

/// Why a call failed. Rendered only when somebody asks, since feeding can fail on every frame.
#[derive(Debug)]
pub(super) enum Failure {
    /// A pointer is NULL; its name.
    Null(&'static str),
    /// A number or text that is not understood.
    Argument { what: &'static str, value: i64 },
    /// An option was set after the first segment.
    TooLate,
    /// The caller's memory is too small.
    Buffer { needed: usize, given: usize },
    /// The core refused.
    Core(Error),
}

impl Failure {
    pub(super) fn status(&self) -> i32 {
        match self {
            Failure::Null(_) => abi::RSTDIAG_E_NULL,
            Failure::Argument { .. } => abi::RSTDIAG_E_ARGUMENT,
            Failure::TooLate => abi::RSTDIAG_E_ORDER,
            Failure::Buffer { .. } => abi::RSTDIAG_E_BUFFER,
            Failure::Core(Error::Order { .. }) => abi::RSTDIAG_E_ORDER,
            Failure::Core(Error::Header { .. }) => abi::RSTDIAG_E_HEADER,
            Failure::Core(Error::Limit { .. }) => abi::RSTDIAG_E_LIMIT,
            Failure::Core(Error::Setting { .. } | Error::Format { .. } | Error::Log { .. }) => {
                abi::RSTDIAG_E_ARGUMENT
            }
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Null(name) => write!(f, "{name} is NULL"),
            Failure::Argument { what, value } => write!(f, "{what}: {value} is not understood"),
            Failure::TooLate => write!(f, "options are set before the first segment"),
            Failure::Buffer { needed, given } => {
                write!(f, "{needed} are needed, and there is room for {given}")
            }
            Failure::Core(error) => error.fmt(f),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Core(error)
    }
}

/// What the body of an export comes to: a status that is no failure, or a failure.
pub(super) type Answer = Result<i32, Failure>;

/// Runs the body of an export that has no session; a panic is answered with `fallback`.
pub(super) fn call<T>(fallback: T, body: impl FnOnce() -> T) -> T {
    // What a panicking body leaves half done is dropped while unwinding: nothing outlives it.
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(answer) => answer,
        Err(payload) => {
            // Dropping it could run code that panics again.
            std::mem::forget(payload);
            fallback
        }
    }
}

/// A call on a session whose pointer the caller has vouched for.
pub(super) struct Call(*mut abi::rstdiag_session);

/// Begins a call on a session.
///
/// # Safety
/// `session` is NULL, or comes from `rstdiag_session_new`, has not been freed, and no other
/// call on it runs before this one has ended.
pub(super) unsafe fn on(session: *mut abi::rstdiag_session) -> Call {
    Call(session)
}

impl Call {
    /// Runs the body of an export, and keeps why it failed.
    pub(super) fn run(self, body: impl FnOnce(&mut Handle) -> Answer) -> i32 {
        self.ask(|handle| {
            let answer = body(handle);
            let status = answer.as_ref().map_or_else(Failure::status, |status| *status);
            handle.failure = answer.err();
            status
        })
    }

    /// As [`Call::run`], for a body that asks about the last failure and must not replace it.
    pub(super) fn ask(self, body: impl FnOnce(&mut Handle) -> i32) -> i32 {
        if self.0.is_null() {
            return abi::RSTDIAG_E_NULL;
        }
        // SAFETY: not NULL, so by the promise given to `on` it is what `rstdiag_session_new`
        // made with `Box::into_raw`, and nothing else refers to it while this call runs.
        let handle = unsafe { &mut *self.0.cast::<Handle>() };
        #[cfg(debug_assertions)]
        if handle.thread != std::thread::current().id() {
            return abi::RSTDIAG_E_THREAD;
        }
        if handle.poisoned {
            return abi::RSTDIAG_E_POISONED;
        }
        // A panicking body may leave the session broken: it is poisoned and not used again.
        call(None, || Some(body(handle))).unwrap_or_else(|| {
            handle.poisoned = true;
            abi::RSTDIAG_E_PANIC
        })
    }
}

#[cfg(test)]
#[allow(clippy::panic)]
mod tests {
    use super::super::session::{rstdiag_session_free, rstdiag_session_new};
    use super::*;

    fn new_session() -> *mut abi::rstdiag_session {
        let mut out = std::ptr::null_mut();
        // SAFETY: `out` is a pointer that can be written.
        let status = unsafe { rstdiag_session_new(&mut out) };
        assert_eq!(status, abi::RSTDIAG_OK);
        out
    }

    #[test]
    fn a_panic_is_a_status_and_poisons_the_session_which_can_still_be_freed() {
        let pointer = new_session();
        // SAFETY: the session is fresh, and used by this thread alone.
        unsafe {
            assert_eq!(on(pointer).run(|_| panic!("a defect")), abi::RSTDIAG_E_PANIC);
            assert_eq!(on(pointer).run(|_| Ok(abi::RSTDIAG_OK)), abi::RSTDIAG_E_POISONED);
            assert_eq!(on(pointer).ask(|_| abi::RSTDIAG_OK), abi::RSTDIAG_E_POISONED);
            rstdiag_session_free(pointer);
        }
    }

    #[test]
    fn a_payload_that_panics_when_dropped_does_not_pass_either() {
        struct Grudge;
        impl Drop for Grudge {
            fn drop(&mut self) {
                panic!("once more");
            }
        }
        assert_eq!(call(7, || std::panic::panic_any(Grudge)), 7);
    }

    #[test]
    fn null_is_reported() {
        // SAFETY: NULL is allowed.
        let status = unsafe { on(std::ptr::null_mut()) }.run(|_| Ok(abi::RSTDIAG_OK));
        assert_eq!(status, abi::RSTDIAG_E_NULL);
    }

    #[test]
    fn the_failure_of_the_last_call_is_kept() {
        let pointer = new_session();
        // SAFETY: the session is fresh, and used by this thread alone.
        unsafe {
            let kept = |handle: &mut Handle| i32::from(handle.failure.is_some());
            let failed = on(pointer).run(|_| Err(Failure::Null("out")));
            assert_eq!(failed, abi::RSTDIAG_E_NULL);
            assert_eq!(on(pointer).ask(kept), 1);
            let status = on(pointer).run(|_| Ok(abi::RSTDIAG_NOT_FOUND));
            assert_eq!(status, abi::RSTDIAG_NOT_FOUND);
            assert_eq!(on(pointer).ask(kept), 0);
            rstdiag_session_free(pointer);
        }
    }

    #[cfg(debug_assertions)]
    #[test]
    fn another_thread_is_refused_but_may_free() {
        let address = new_session() as usize;
        let from_elsewhere = std::thread::spawn(move || {
            let pointer = address as *mut abi::rstdiag_session;
            // SAFETY: the session lives, and the thread that made it waits for this one.
            unsafe {
                let status = on(pointer).run(|_| Ok(abi::RSTDIAG_OK));
                rstdiag_session_free(pointer);
                status
            }
        });
        assert_eq!(from_elsewhere.join().ok(), Some(abi::RSTDIAG_E_THREAD));
    }
}
