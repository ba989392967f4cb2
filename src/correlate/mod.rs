// SPDX-License-Identifier: GPL-2.0-or-later
//! Which log entry is about which stream, and what both together mean.

pub mod access;
pub mod agreement;
mod arrivals;
pub mod assign;
pub mod cause;
pub mod chain;
pub mod clock;
pub mod coverage;
mod crowd;
mod doubt;
pub mod events;
pub mod evidence;
pub mod fit;
pub mod legs;
pub mod matcher;
mod numbers;
mod order;
mod pace;
mod process;
pub mod reasons;
pub mod report;
mod shares;
pub mod store;
pub mod strangers;
mod summary;
pub mod survey;
pub mod verdict;
