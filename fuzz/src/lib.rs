// SPDX-License-Identifier: GPL-2.0-or-later
//! What has to hold of any bytes. The fuzz targets call these functions with what a fuzzer
//! makes up, and `tests/fuzz.rs` with what fuzzers have found interesting before.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[allow(dead_code)]
#[path = "../../tests/support/builder.rs"]
pub mod builder;
mod host;
mod lines;
mod logs;
mod rules;
mod script;
mod traffic;

pub use logs::{access_line, error_line, log_format, round_trip, Random};
pub use traffic::{capture_and_logs, segments};
