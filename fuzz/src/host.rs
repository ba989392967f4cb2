// SPDX-License-Identifier: GPL-2.0-or-later
//! A host: calls what `include/rstdiag.h` declares, as `wireshark/*.c` does, and takes no other
//! answer than the header promises.

use std::ffi::CStr;
use std::ptr;

use rstdiag::abi;
use rstdiag::ffi::session as exports;

use super::script::Packet;

/// Fields that somebody looks at, not zero for each.
pub type Wanted = [u8; FIELDS];
pub const FIELDS: usize = abi::RSTDIAG_FIELD_COUNT as usize;

/// A value of a verdict, with its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    pub field: u32,
    pub group: u32,
    pub number: i64,
    pub text: String,
}

/// A session, and the memory that its answers are written to.
pub struct Host {
    session: *mut abi::rstdiag_session,
    values: Vec<abi::rstdiag_value>,
    text: Vec<u8>,
}

const NO_VALUE: abi::rstdiag_value =
    abi::rstdiag_value { field: 0, group: 0, number: 0, text_offset: 0, text_len: 0 };

impl Host {
    pub fn new() -> Host {
        let mut session = ptr::null_mut();
        // SAFETY: `session` can be written.
        let status = unsafe { exports::rstdiag_session_new(&mut session) };
        assert_eq!(status, abi::RSTDIAG_OK);
        Host { session, values: Vec::new(), text: Vec::new() }
    }

    /// Checks that a status is one of those that the header allows here.
    fn expect(&mut self, status: i32, allowed: &[i32]) -> i32 {
        if allowed.contains(&status) {
            return status;
        }
        let why = self.texts(|session, text, cap, len| {
            // SAFETY: as `texts` says.
            unsafe { exports::rstdiag_session_error(session, text, cap, len) }
        });
        // SAFETY: it takes nothing, and what it returns is static.
        let name = unsafe { CStr::from_ptr(exports::rstdiag_status_name(status)) };
        panic!("{}: {}", name.to_string_lossy(), why.unwrap_or_default());
    }

    pub fn option(&mut self, option: i32, value: &[u8]) -> i32 {
        // SAFETY: the session is alive, and the value holds as many bytes as it says.
        let status = unsafe {
            exports::rstdiag_session_option(self.session, option, value.as_ptr(), value.len())
        };
        self.expect(status, &[abi::RSTDIAG_OK, abi::RSTDIAG_E_ARGUMENT, abi::RSTDIAG_E_ORDER])
    }

    /// Feeds a packet; whether the session took it.
    pub fn feed(&mut self, packet: &Packet) -> bool {
        let address = |addr: Option<std::net::IpAddr>| {
            let mut out = abi::rstdiag_address { family: 0, reserved: [0; 3], bytes: [0; 16] };
            match addr {
                Some(std::net::IpAddr::V4(v4)) => {
                    out.family = 4;
                    out.bytes[..4].copy_from_slice(&v4.octets());
                }
                Some(std::net::IpAddr::V6(v6)) => (out.family, out.bytes) = (6, v6.octets()),
                None => {}
            }
            out
        };
        let runs: Vec<_> = packet
            .decrypted
            .iter()
            .map(|run| abi::rstdiag_bytes { data: run.as_ptr(), len: run.len() as u64 })
            .collect();
        let segment = abi::rstdiag_segment {
            frame: packet.frame,
            layer: packet.layer,
            stream: packet.stream,
            payload_len: packet.payload_len,
            time_ns: packet.time,
            src: address(packet.ends[0]),
            dst: address(packet.ends[1]),
            bytes: packet.tcp.as_ptr(),
            bytes_len: packet.tcp.len() as u32,
            ip_len: packet.ip.len() as u32,
            ip: packet.ip.as_ptr(),
            decrypted: runs.as_ptr(),
            decrypted_len: runs.len() as u32,
            reserved: 0,
        };
        // SAFETY: the session is alive, and every pointer holds as many bytes as it says.
        let status = unsafe { exports::rstdiag_session_feed(self.session, &segment) };
        // A frame can be cut within its TCP header; the script has no other fault.
        let status = self.expect(status, &[abi::RSTDIAG_OK, abi::RSTDIAG_E_HEADER]);
        status == abi::RSTDIAG_OK
    }

    pub fn frame(&mut self, frame: u32, layer: u32) -> Option<abi::rstdiag_frame> {
        let mut out = abi::rstdiag_frame { stream: 0, flags: 0 };
        // SAFETY: the session is alive, and `out` can be written.
        let status =
            unsafe { exports::rstdiag_session_frame(self.session, frame, layer, &mut out) };
        let status = self.expect(status, &[abi::RSTDIAG_OK, abi::RSTDIAG_NOT_FOUND]);
        (status == abi::RSTDIAG_OK).then_some(out)
    }

    /// The values of a frame's verdict, in room that is made as large as the session asks for.
    pub fn values(
        &mut self,
        frame: u32,
        layer: u32,
        when: i32,
        wanted: Option<&Wanted>,
    ) -> Option<Vec<Value>> {
        let mut needed = None;
        loop {
            let (mut values_len, mut text_len) = (usize::MAX, usize::MAX);
            // SAFETY: the session is alive, `wanted` has a byte for each field, and the room is
            // as large as it says.
            let status = unsafe {
                exports::rstdiag_session_values(
                    self.session,
                    frame,
                    layer,
                    when,
                    wanted.map_or(ptr::null(), |wanted| wanted.as_ptr()),
                    self.values.as_mut_ptr(),
                    self.values.len(),
                    &mut values_len,
                    self.text.as_mut_ptr(),
                    self.text.len(),
                    &mut text_len,
                )
            };
            match self.expect(
                status,
                &[abi::RSTDIAG_OK, abi::RSTDIAG_NOT_FOUND, abi::RSTDIAG_E_BUFFER],
            ) {
                abi::RSTDIAG_OK => {
                    assert!(needed.is_none_or(|it| it == (values_len, text_len)));
                    let text = &self.text[..text_len];
                    let value = |raw: &abi::rstdiag_value| {
                        let start = raw.text_offset as usize;
                        let text = &text[start..start + raw.text_len as usize];
                        Value {
                            field: raw.field,
                            group: raw.group,
                            number: raw.number,
                            text: std::str::from_utf8(text).expect("UTF-8").to_owned(),
                        }
                    };
                    return Some(self.values[..values_len].iter().map(value).collect());
                }
                abi::RSTDIAG_E_BUFFER => {
                    assert!(values_len > self.values.len() || text_len > self.text.len());
                    assert!(
                        needed.replace((values_len, text_len)).is_none(),
                        "asked for twice"
                    );
                    self.values.resize(values_len.max(self.values.len()), NO_VALUE);
                    self.text.resize(text_len.max(self.text.len()), 0);
                }
                _ => return None,
            }
        }
    }

    /// A text in room that is made as large as the session asks for. The call is given the
    /// session, which is alive, room for a text and its size, and where its length goes.
    fn texts(
        &mut self,
        call: impl Fn(*mut abi::rstdiag_session, *mut u8, usize, *mut usize) -> i32,
    ) -> Option<String> {
        for _ in 0..2 {
            let mut len = usize::MAX;
            match call(self.session, self.text.as_mut_ptr(), self.text.len(), &mut len) {
                abi::RSTDIAG_OK => {
                    let text = std::str::from_utf8(&self.text[..len]).expect("UTF-8");
                    return Some(text.to_owned());
                }
                abi::RSTDIAG_E_BUFFER => {
                    assert!(len > self.text.len());
                    self.text.resize(len, 0);
                }
                _ => return None,
            }
        }
        panic!("room that was asked for does not suffice");
    }

    pub fn notices(&mut self) -> Vec<String> {
        let notice = |index| {
            self.texts(|session, text, cap, len| {
                // SAFETY: as `texts` says.
                unsafe {
                    exports::rstdiag_session_notice(
                        session,
                        index,
                        abi::RSTDIAG_FINAL,
                        text,
                        cap,
                        len,
                    )
                }
            })
        };
        (0..).map_while(notice).collect()
    }

    /// The report, part by part.
    pub fn report(&mut self) -> Vec<String> {
        let mut parts = usize::MAX;
        // SAFETY: the session is alive, and `parts` can be written.
        let status = unsafe { exports::rstdiag_session_report(self.session, &mut parts) };
        self.expect(status, &[abi::RSTDIAG_OK]);
        let part = |index| {
            self.texts(|session, text, cap, len| {
                // SAFETY: as `texts` says.
                unsafe { exports::rstdiag_session_report_part(session, index, text, cap, len) }
            })
        };
        let report: Vec<_> = (0..).map_while(part).collect();
        assert_eq!(report.len(), parts);
        report
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // SAFETY: the session is alive, and nobody uses it from here on.
        unsafe { exports::rstdiag_session_free(self.session) };
    }
}
