// SPDX-License-Identifier: GPL-2.0-or-later
//! The boundary that `include/rstdiag.h` describes, around [`crate::session`].
//!
//! `guard` turns panics and NULLs into statuses and is the first thing in every export,
//! `session` has the exports, `convert` translates shapes, and `logs` reads files.

mod convert;
mod guard;
mod logs;
pub mod session;

/// An array has one element type: these do not compile when the header declares a function
/// otherwise than we define it, or declares one that we don't.
macro_rules! same_as_in_the_header {
    ($($name:ident)*) => {
        $(const _: () = { let _ = [crate::abi::$name, session::$name]; };)*
    };
}

same_as_in_the_header! {
    rstdiag_session_new
    rstdiag_session_free
    rstdiag_session_option
    rstdiag_session_feed
    rstdiag_session_frame
    rstdiag_session_values
    rstdiag_session_notice
    rstdiag_session_report
    rstdiag_session_report_part
    rstdiag_session_error
    rstdiag_status_name
    rstdiag_version
}
