// SPDX-License-Identifier: GPL-2.0-or-later
//! Which log entry is about which stream, and what both together mean.

pub mod verdict;
