// SPDX-License-Identifier: GPL-2.0-or-later
//! Every bound of the analysis, with the reason for it.
//!
//! Captures and logs are untrusted: whoever sent the traffic chose their bytes. Nothing that
//! they hold may make the host grow without bound.

/// Frames that can be looked up. A capture of this many frames is beyond what Wireshark opens.
pub const FRAMES: u32 = 1 << 30;

/// TCP streams of one capture. Each costs a few hundred bytes.
pub const STREAMS: u32 = 1 << 26;

/// Bytes of one log line that are looked at; nginx writes at most 2,048, forks 4,096. What
/// lies behind is skipped, so a binary file without line ends costs nothing.
pub const LOG_LINE: usize = 16 * 1024;

/// Entries about the end of a connection that are kept of all logs together.
pub const LOG_ENTRIES: usize = 8_000_000;

/// Places in one log line at which the context of an entry may begin. A client can put as many
/// into a URI as fit it, and each costs a look at the rest of the line; an honest line has one.
pub const LOG_CONTEXTS: usize = 32;

/// Quotation marks of one quoted part that may be the closing one. Only a client that puts the
/// words of the log's own grammar into its request needs more than one.
pub const LOG_QUOTES: usize = 16;
