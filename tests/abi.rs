// SPDX-License-Identifier: GPL-2.0-or-later
//! Runs the tests of `tests/c/abi_test.c`, one by one and by their names there.

#![allow(clippy::panic)]

// The library under test: C finds its exports.
use rstdiag as _;

const SOURCE: &str = include_str!("c/abi_test.c");

macro_rules! c_tests {
    ($($name:ident)*) => {
        mod c {
            use std::ffi::c_char;

            #[link(name = "rstdiag_abi_test", kind = "static")]
            extern "C" {
                $(pub fn $name() -> *const c_char;)*
            }
        }

        $(
            #[test]
            fn $name() {
                // SAFETY: it takes nothing, and keeps what it shares between calls per thread.
                let failed = unsafe { c::$name() };
                if !failed.is_null() {
                    // SAFETY: not NULL, so it is a string literal of the C source.
                    let failed = unsafe { std::ffi::CStr::from_ptr(failed) };
                    panic!("{}", failed.to_string_lossy());
                }
            }
        )*

        #[test]
        fn every_c_test_is_run() {
            let run = [$(stringify!($name)),*];
            let written: Vec<_> = SOURCE
                .lines()
                .filter_map(|line| line.trim_start_matches("SESSION_").strip_prefix("TEST("))
                .filter_map(|line| line.strip_suffix(')'))
                .collect();
            assert_eq!(written, run);
        }
    };
}

c_tests! {
    shapes_have_no_hidden_padding
    field_identifiers_count_from_zero
    statuses_have_names
    version_is_that_of_the_header
    null_pointers_are_reported
    null_is_fine_where_there_are_no_bytes
    unknown_numbers_are_refused
    options_come_before_segments
    bytes_that_are_no_tcp_header_are_refused
    an_ip_header_that_is_none_is_done_without
    decrypted_records_have_to_be_there
    errors_are_told_until_a_call_succeeds
    a_value_that_is_not_understood_is_a_notice
    a_log_that_cannot_be_read_is_a_notice_and_no_failure
    a_notice_needs_room
    notices_are_bounded
    a_report_comes_in_parts
    frames_that_were_not_fed_are_not_found
    verdict_of_a_reset
    an_earlier_frame_is_refused_and_changes_nothing
}
