// SPDX-License-Identifier: GPL-2.0-or-later
//! What nginx logged: byte parsers without I/O, and the tables of what its messages mean.
//!
//! ```text
//! bytes of a file --> reader --line--> error_log --entry--> message --> End
//! bytes of a file --> access_reader --line--> access_log --> AccessEntry
//!                                             log_format
//! ```
//!
//! [`reader`] splits a file into lines, takes off what syslog or a container runtime put before
//! them ([`prefix`]), and passes over those that cannot be about the end of a connection;
//! [`error_log`] takes a line apart, and [`message`] says what happened to which of nginx's two
//! connections. [`access_reader`] and [`access_log`] do the same for access logs, whose lines are
//! what [`log_format`] compiles. Nothing here knows packets.

pub mod access_end;
pub mod access_log;
pub mod access_reader;
pub mod error_log;
pub mod log_format;
pub mod message;
pub mod prefix;
mod quoted;
pub mod reader;
mod single;
