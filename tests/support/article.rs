// SPDX-License-Identifier: GPL-2.0-or-later
//! The case that this plugin was written for, rebuilt: a payment service notifies an nginx by
//! POST, gets its 200, acknowledges it, and resets. Nginx logs each reset it learns of.
//!
//! The five log lines are the published ones, word for word. The capture holds what the text
//! around them tells: resets in the handshake and in the teardown that nginx never learns of,
//! two transactions with different URIs in the second of the first line, and later two pairs
//! of transactions that only the order of connection numbers tells apart.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::builder::{Capture, Talk};

/// 2015-12-01 15:49:00 +08:00, in nanoseconds.
const MINUTE: i64 = 1_448_956_140_000_000_000;

/// The zone of the log.
pub const ZONE: &str = "+08:00";

const SERVER: &str = "10.4.36.100:80";

/// What kind of connection a talk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The third packet is RST+ACK.
    Handshake,
    /// FIN, then RST with sequence number 2, without any data.
    Teardown,
    /// The same, and the capture joins it late.
    LateTeardown,
    /// A POST to `.../weixin/...`, its 200, and two RSTs.
    Weixin,
    /// A POST to `.../app/...`, its 200, and one RST.
    App,
    /// A whole exchange and an orderly close.
    Orderly,
}

/// Seconds after 15:49:00 at which a connection is opened, the client's port, its kind,
/// seconds that its response takes, and the line of the log about it.
pub const TALKS: &[(f64, u16, Kind, f64, Option<u64>)] = &[
    (42.10, 35_001, Kind::Teardown, 0.0, None),
    (43.00, 35_002, Kind::LateTeardown, 0.0, None),
    (44.20, 35_003, Kind::Handshake, 0.0, None),
    (47.20, 35_004, Kind::Orderly, 0.3, None),
    (47.90, 35_005, Kind::Handshake, 0.0, None),
    (48.05, 35_006, Kind::App, 0.2, None),
    (48.10, 35_007, Kind::Handshake, 0.0, None),
    (48.15, 35_008, Kind::Weixin, 0.4, Some(1)),
    (48.30, 35_009, Kind::Teardown, 0.0, None),
    (48.60, 35_010, Kind::Orderly, 0.1, None),
    (53.10, 35_011, Kind::App, 1.6, Some(3)),
    (53.60, 35_012, Kind::App, 0.6, Some(2)),
    (54.10, 35_013, Kind::Handshake, 0.0, None),
    (54.40, 35_014, Kind::Teardown, 0.0, None),
    (57.70, 35_015, Kind::App, 0.5, Some(4)),
    (57.80, 35_016, Kind::App, 0.9, Some(5)),
    (58.20, 35_017, Kind::Orderly, 0.2, None),
    (58.50, 35_018, Kind::Handshake, 0.0, None),
];

/// The capture, taken at the client.
pub fn capture() -> Capture {
    let mut capture = Capture::default();
    for &(at, port, kind, takes, _) in TALKS {
        let client = format!("10.255.252.31:{port}");
        let start = MINUTE + (at * 1e9) as i64;
        let talk = Talk { start, ..Talk::between(&client, SERVER) };
        capture.play(&talk, &script(kind, takes));
    }
    capture
}

/// Writes the capture into this directory; the log lies with the sources.
pub fn files(directory: &Path) -> (PathBuf, PathBuf) {
    // Tests run at the same time, and none should find half a file: the first one writes it.
    static WRITTEN: Mutex<bool> = Mutex::new(false);
    let path = directory.join("article.pcap");
    let mut written = WRITTEN.lock().expect("no test failed in here");
    if !std::mem::replace(&mut *written, true) {
        capture().write(&path);
    }
    drop(written);
    let log = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/article/error.log");
    (path, log)
}

fn script(kind: Kind, takes: f64) -> String {
    let end = match kind {
        Kind::Handshake => return "c S\ns S.\nc R. seq=1 ack=1".to_owned(),
        Kind::Teardown => return "open\nc F. +0.02\ns .\nc R seq=2".to_owned(),
        Kind::LateTeardown => return "open drop\nc F. +0.02\ns .\nc R seq=2".to_owned(),
        Kind::Weixin => "c R. +0.0002\nc R. +0.001",
        Kind::App => "c R. +0.0002",
        Kind::Orderly => "c F.\ns F.\nc .",
    };
    let part = if kind == Kind::Weixin { "weixin" } else { "app" };
    let body = "out_trade_no=2015120100001&trade_status=TRADE_SUCCESS";
    let length = body.len();
    format!(
        r#"open
        c "POST /WebPageAlipay/{part}/notify_url.htm HTTP/1.1\r\nHost: manager.example.com\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {length}\r\n\r\n{body}"
        s .
        s "HTTP/1.1 200 OK\r\nServer: nginx\r\nContent-Type: text/html\r\nContent-Length: 7\r\n\r\nsuccess" +{takes}
        c . +0.04
        {end}"#
    )
}
