// SPDX-License-Identifier: GPL-2.0-or-later
//! The boundary as generated from `include/rstdiag.h`, and nothing else.

include!(concat!(env!("OUT_DIR"), "/abi.rs"));
