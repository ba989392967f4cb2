// SPDX-License-Identifier: GPL-2.0-or-later
//! rstdiag explains how TCP connections end, and which nginx log entry is about it.
//!
//! # Map
//!
//! ```text
//! Wireshark --frame--> wireshark/extract.c --> ffi --> session --> tcp        (what happened)
//! log file  --bytes--> ffi::logs           --> ffi --> session --> nginx      (what was logged)
//!                                                      session --> correlate  (which belongs to which)
//! Wireshark <--items-- wireshark/present.c <-- ffi <-- session <-- verdict
//! ```
//!
//! [`tcp`], [`nginx`], [`correlate`] and [`session`] are the core. They are pure: no files, no
//! Wireshark, no C. [`ffi`] is the boundary that `include/rstdiag.h` describes, and the only
//! place that reads files. Imports run one way, from the top of this list to its bottom:
//! `ffi`, `session`, `correlate`, `tcp` and `nginx`, then [`archive`], [`time`], [`limits`],
//! [`error`].

#![deny(unsafe_code)]

pub mod archive;
pub mod correlate;
pub mod error;
pub mod limits;
pub mod nginx;
pub mod session;
pub mod tcp;
pub mod time;

#[allow(unsafe_code, missing_docs, non_camel_case_types, non_upper_case_globals, dead_code)]
pub mod abi;
#[allow(unsafe_code)]
pub mod ffi;
#[cfg(feature = "wireshark")]
#[allow(unsafe_code)]
pub mod plugin;
