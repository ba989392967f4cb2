// SPDX-License-Identifier: GPL-2.0-or-later
//! What Wireshark looks for when it loads the plugin.
//!
//! These symbols are Rust's because a `cdylib` exports none that C defines
//! (<https://github.com/rust-lang/rfcs/issues/2771>). They hold no logic.

#![allow(non_upper_case_globals)]

use std::ffi::c_int;

use crate::abi;

extern "C" {
    /// In wireshark/register.c.
    fn rstdiag_register();
}

/// Version of the plugin, as Wireshark shows it.
#[no_mangle]
pub static plugin_version: [u8; abi::RSTDIAG_VERSION.len()] = *abi::RSTDIAG_VERSION;

/// Major version of the Wireshark that the glue was compiled for; no other loads it.
#[no_mangle]
pub static plugin_want_major: c_int = number(env!("RSTDIAG_WIRESHARK_MAJOR"));

/// Minor version of the same.
#[no_mangle]
pub static plugin_want_minor: c_int = number(env!("RSTDIAG_WIRESHARK_MINOR"));

/// Registers the plugin.
#[no_mangle]
pub extern "C" fn plugin_register() {
    // SAFETY: it takes nothing and gives nothing back; Wireshark calls this once, from the
    // thread that loads plugins, as rstdiag_register asks.
    unsafe { rstdiag_register() }
}

/// What kind of plugin this is: a dissector (`WS_PLUGIN_DESC_DISSECTOR`). From Wireshark 4.4 on.
#[no_mangle]
pub extern "C" fn plugin_describe() -> u32 {
    1
}

/// The number that `digits` are, while compiling.
const fn number(digits: &str) -> c_int {
    let digits = digits.as_bytes();
    let mut number = 0;
    let mut at = 0;
    while at < digits.len() {
        number = number * 10 + (digits[at] - b'0') as c_int;
        at += 1;
    }
    number
}
