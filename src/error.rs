// SPDX-License-Identifier: GPL-2.0-or-later
//! The one error type of the core.

use std::fmt;

/// Why the core refused something. Nothing has changed when one is returned.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// A segment of an earlier frame than the last one.
    Order {
        /// The frame that was offered.
        frame: u32,
        /// The last frame that was taken.
        last: u32,
    },
    /// The bytes given as a TCP header are none.
    Header {
        /// The frame that held them.
        frame: u32,
    },
    /// A bound of [`crate::limits`] would be exceeded.
    Limit {
        /// What there are too many of.
        what: &'static str,
        /// The bound.
        limit: u64,
    },
    /// A setting that is not understood.
    Setting {
        /// Name of the preference.
        name: &'static str,
        /// Its value.
        value: String,
        /// What would be understood.
        expected: &'static str,
    },
    /// An `access_log_format` that no line can be read by.
    Format {
        /// The character of the text that it fails at, from 1.
        at: usize,
        /// What is wrong, and what to do about it.
        why: String,
    },
    /// A log that cannot be used.
    Log {
        /// Name of the preference.
        log: &'static str,
        /// The path as the user gave it.
        path: String,
        /// What is wrong, and what to do about it.
        why: String,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Order { frame, last } => {
                write!(
                    f,
                    "frame {frame} was given after frame {last}; segments go in frame order"
                )
            }
            Error::Header { frame } => write!(f, "frame {frame} holds no whole TCP header"),
            Error::Limit { what, limit } => write!(f, "more than {limit} {what}"),
            Error::Setting { name, value, expected } => {
                write!(f, "{name}: '{value}' is not understood; expected {expected}")
            }
            Error::Format { at, why } => {
                write!(f, "access_log_format: at character {at}: {why}")
            }
            Error::Log { log, path, why } => write!(f, "{log}: {path}: {why}"),
        }
    }
}

impl std::error::Error for Error {}
