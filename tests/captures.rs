// SPDX-License-Identifier: GPL-2.0-or-later
//! Captures as they are, through a real tshark.
//!
//! The cases of `tests/data/streams`, each with addresses of its own, make one capture. It has
//! to mean the same whatever the link layer, the tunnel and the settings of the host, and
//! wherever it was taken.
#![cfg(feature = "wireshark")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

mod support;

use pcap_file::DataLink;
use support::builder::{self, Capture, Frame, Talk};
use support::cases::{self, Case};
use support::found::{rows, Found};
use support::host::{open_up, readable_dir};
use support::wrap::{self, Wrapping};

fn file(name: &str) -> PathBuf {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| readable_dir("captures")).join(name)
}

/// The talk of a case: nobody else has its addresses, and it has ended when the next begins.
fn talk(index: usize, version: u8) -> Talk {
    let host = format!("{}.{}", index / 200, index % 200 + 1);
    let talk = Talk::between(&format!("10.1.{host}:40000"), &format!("10.2.{host}:80"));
    let talk = Talk { start: talk.start + index as i64 * 10_000_000_000_000, ..talk };
    match version {
        6 => talk.over_v6(),
        _ => talk,
    }
}

/// A case, and its number, which its addresses and times follow from.
type Numbered = (usize, Case);

/// A capture of cases.
#[derive(Default)]
struct Taken {
    frames: Vec<Frame>,
    /// By case: name, and the frames on which its own frames, in their order, are shown.
    cases: Vec<(String, Vec<u32>)>,
}

impl Taken {
    /// Takes these cases; `show` makes of a case's frames those that the capture has, and tells
    /// which of them show the case's own.
    fn of<'a>(
        cases: impl Iterator<Item = &'a Numbered>,
        version: u8,
        show: impl Fn(&[Frame]) -> (Vec<Frame>, Vec<usize>),
    ) -> Taken {
        let mut taken = Taken::default();
        for (index, case) in cases {
            let frames = Capture::of(&talk(*index, version), &case.script).frames();
            let (shown, at) = show(&frames);
            let numbers = at.iter().map(|at| (taken.frames.len() + at + 1) as u32).collect();
            taken.frames.extend(shown);
            taken.cases.push((case.name.clone(), numbers));
        }
        taken
    }

    fn write(&self, name: &str, link: DataLink) -> PathBuf {
        let path = file(&format!("{name}.pcap"));
        builder::write_as(&path, link, &self.frames);
        open_up(path.parent().unwrap());
        path
    }

    /// What tshark shows of each case, with the numbers of the case's own frames, and what is
    /// wrong with that.
    fn seen(&self, path: &Path, more: &[&str]) -> (BTreeMap<String, Found>, String) {
        let args = [&["-2", "-Y", "tcp"], more].concat();
        let rows = rows(path, &[], &args);
        let by_frame: BTreeMap<u32, (u32, Found)> =
            rows.into_iter().map(|(stream, frame, found)| (frame, (stream, found))).collect();
        let (mut out, mut wrong) = (BTreeMap::new(), String::new());
        for (name, numbers) in &self.cases {
            let Some(first) = by_frame.get(&numbers[0]) else {
                let _ = writeln!(wrong, "  {name}: no segment on frame {}", numbers[0]);
                continue;
            };
            for number in numbers {
                if by_frame.get(number) != Some(first) {
                    let _ = writeln!(wrong, "  {name}: frame {number} shows something else");
                }
            }
            let mut found = first.1.clone();
            for field in ["rstdiag.close.frame", "rstdiag.reset.frame", "rstdiag.reset.answers"]
            {
                for value in found.get_mut(field).into_iter().flatten() {
                    let number = numbers.iter().position(|n| n.to_string() == *value);
                    *value = number.map_or(format!("{value}?"), |n| (n + 1).to_string());
                }
            }
            out.insert(name.clone(), found);
        }
        (out, wrong)
    }
}

/// A field as the cases name it and write its value.
fn value(found: &Found, field: &str) -> String {
    let name = match field {
        "caveats" => "rstdiag.caveat".to_owned(),
        "status" | "acked" | "missing" => format!("rstdiag.response.{field}"),
        _ => format!("rstdiag.{field}"),
    };
    let value = found.get(name.as_str()).unwrap_or_else(|| panic!("{name} is asked for"));
    let value = value.join(",");
    match (field, value.as_str()) {
        (_, "") => "-".to_owned(),
        ("acked" | "nginx_sees" | "close.piggybacked", "1") => "true".to_owned(),
        ("acked" | "nginx_sees" | "close.piggybacked", "0") => "false".to_owned(),
        ("request", _) => value.replace(' ', ":"),
        ("idle", _) => format!("{:.0}ms", value.parse::<f64>().unwrap() * 1000.0),
        _ => value,
    }
}

/// What is seen otherwise than the cases want.
fn complaints<'a>(
    cases: impl Iterator<Item = &'a Numbered>,
    seen: &BTreeMap<String, Found>,
) -> String {
    let mut out = String::new();
    for (_, case) in cases {
        for (field, want) in case.wanted() {
            let got = value(&seen[&case.name], field);
            // Addresses are the capture's own.
            if field != "client" && got != want {
                let _ = writeln!(out, "  {}: {field}: wanted {want}, got {got}", case.name);
            }
        }
    }
    out
}

/// Sentences with frame numbers of the capture.
const SENTENCES: &[&str] = &["rstdiag.summary", "rstdiag.evidence"];

/// What one capture shows otherwise than another one of the same cases, save these fields.
fn differences(
    one: &BTreeMap<String, Found>,
    other: &BTreeMap<String, Found>,
    save: &[&str],
) -> String {
    let mut out = String::new();
    for (name, found) in other {
        for (field, got) in found.iter().filter(|(field, _)| !save.contains(field)) {
            let want = &one[name][field];
            if got != want {
                let _ = writeln!(out, "  {name}: {field}: {want:?} became {got:?}");
            }
        }
    }
    out
}

fn is_cut(case: &Case) -> bool {
    case.script.contains("snaplen")
}

/// Every case over this version of IP that a capture without copies can show.
fn numbered(applies: impl Fn(&Case) -> bool) -> Vec<Numbered> {
    (0..).zip(cases::all()).filter(|(_, case)| applies(case)).collect()
}

/// The cases as they were captured, with nothing around them: what there is to compare with.
fn plain(version: u8) -> (PathBuf, Vec<Numbered>, Taken, BTreeMap<String, Found>) {
    let cases = numbered(|case| version == 4 || !case.has_copies());
    let taken = Taken::of(cases.iter(), version, |frames| {
        (frames.to_vec(), (0..frames.len()).collect())
    });
    let path = taken.write(&format!("plain{version}"), DataLink::ETHERNET);
    let (seen, wrong) = taken.seen(&path, &[]);
    let wrong = wrong + &complaints(cases.iter(), &seen);
    assert!(wrong.is_empty(), "{wrong}");
    (path, cases, taken, seen)
}

#[test]
fn every_wrapping_means_the_same() {
    let mut report = String::new();
    for version in [4, 6] {
        let (_, cases, _, plain) = plain(version);
        for wrapping in wrap::ALL.iter().filter(|wrapping| wrapping.version == version) {
            let Wrapping { name, whole, args, .. } = *wrapping;
            // What is put together again is not shown where a part is cut, and has no
            // identification.
            let applies = |(_, case): &&Numbered| whole || !is_cut(case) && !case.has_copies();
            let taken = Taken::of(cases.iter().filter(applies), version, |frames| {
                let (mut shown, mut at) = (Vec::new(), Vec::new());
                for frame in frames {
                    shown.extend(wrapping.frames(frame));
                    at.push(shown.len() - 1);
                }
                (shown, at)
            });
            let path = taken.write("wrapped", wrapping.link);
            let (seen, wrong) = taken.seen(&path, args);
            let wrong =
                wrong + &differences(&plain, &seen, if whole { &[] } else { SENTENCES });
            if !wrong.is_empty() {
                let _ = write!(report, "{name}\n{wrong}");
            }
        }
    }
    assert!(report.is_empty(), "{report}");
}

#[test]
fn settings_of_the_host_change_nothing() {
    let settings: &[&[&str]] = &[
        &["-o", "tcp.relative_sequence_numbers:FALSE"],
        &["-o", "tcp.analyze_sequence_numbers:FALSE"],
        &["-o", "tcp.desegment_tcp_streams:FALSE"],
        &["-o", "tcp.reassemble_out_of_order:TRUE"],
        &["-o", "tcp.check_checksum:TRUE"],
        &["-o", "tcp.no_subdissector_on_error:FALSE"],
        &["-o", "tcp.calculate_timestamps:FALSE"],
        &["-o", "ip.check_checksum:TRUE"],
        &["-o", "ip.defragment:FALSE"],
        &["-o", "tcp.summary_in_tree:FALSE"],
        &["-d", "tcp.port==80,data"],
        &["-d", "tcp.port==80,tls"],
        &["--disable-protocol", "http"],
        &["--disable-protocol", "tls"],
    ];
    let (path, _, taken, plain) = plain(4);
    let mut report = String::new();
    for more in settings {
        let (seen, wrong) = taken.seen(&path, more);
        let wrong = wrong + &differences(&plain, &seen, &[]);
        if !wrong.is_empty() {
            let _ = write!(report, "{more:?}\n{wrong}");
        }
    }
    assert!(report.is_empty(), "{report}");
}

/// Two capture points in one file, one of them behind a router: other addresses of the link,
/// and a time to live that is less by one. What one side sends at a stretch passes the second
/// point when all of it has passed the first one.
#[test]
fn two_capture_points_show_one_connection() {
    let (_, cases, _, plain) = plain(4);
    let mut report = String::new();
    for stretch in [1, 2, 5] {
        let applies = |(_, case): &&Numbered| {
            // Linux answers two segments by the same RST twice. One that is alone in the capture
            // and bears no identification cannot be told from that.
            !case.has_copies() && case.name != "only the refusal is in the capture"
        };
        let taken = Taken::of(cases.iter().filter(applies), 4, |frames| {
            let sender = |frame: &Frame| frame.bytes[11];
            let (mut shown, mut at) = (Vec::new(), Vec::new());
            let together =
                |a: &Frame, b: &Frame| sender(a) == sender(b) && b.time - a.time < 100_000_000;
            for one_way in frames.chunk_by(together) {
                for burst in one_way.chunks(stretch) {
                    at.extend(shown.len()..shown.len() + burst.len());
                    shown.extend(burst.iter().cloned());
                    shown.extend(burst.iter().map(wrap::routed));
                }
            }
            (shown, at)
        });
        let path = taken.write("points", DataLink::ETHERNET);
        let (seen, wrong) = taken.seen(&path, &[]);
        // A RST answers a segment and its copy alike.
        let save = [SENTENCES, &["rstdiag.reset.answers"]].concat();
        let wrong = wrong + &differences(&plain, &seen, &save);
        if !wrong.is_empty() {
            let _ = write!(report, "{stretch} at a stretch\n{wrong}");
        }
    }
    assert!(report.is_empty(), "{report}");
}

/// Runs a tool of Wireshark on captures, as the host's user.
fn tool(program: &str, args: &[&str]) {
    let out = Command::new(program).args(args).output().unwrap();
    assert!(
        out.status.success(),
        "{program} {args:?}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
}

#[test]
fn the_format_of_the_file_does_not_matter() {
    let (path, _, taken, plain) = plain(4);
    let mut report = String::new();
    let from = path.to_str().unwrap();
    for (name, args) in [
        ("nano.pcapng", &["-F", "pcapng"][..]),
        ("micro.pcap", &["-F", "pcap"]),
        ("nano.pcap", &["-F", "nsecpcap"]),
        ("modified.pcap", &["-F", "modpcap"]),
        ("snoop", &["-F", "snoop"]),
        ("netmon.cap", &["-F", "netmon2"]),
        ("shifted.pcapng", &["-F", "pcapng", "-t", "-3600"]),
    ] {
        let to = file(name);
        tool("editcap", &[args, &[from, to.to_str().unwrap()]].concat());
        open_up(to.parent().unwrap());
        let (seen, wrong) = taken.seen(&to, &[]);
        let wrong = wrong + &differences(&plain, &seen, &[]);
        if !wrong.is_empty() {
            let _ = write!(report, "{name}\n{wrong}");
        }
    }
    assert!(report.is_empty(), "{report}");
}

/// Whoever takes a capture twice gets every frame twice.
#[test]
fn a_capture_merged_with_itself_is_one() {
    let (path, cases, _, plain) = plain(4);
    let merged = file("merged.pcapng");
    let path = path.to_str().unwrap();
    tool("mergecap", &["-w", merged.to_str().unwrap(), path, path]);
    open_up(merged.parent().unwrap());
    let applies = |(_, case): &&Numbered| {
        !case.has_copies() && case.name != "only the refusal is in the capture"
    };
    // The same frames, of which each is followed by itself.
    let all = Taken::of(cases.iter(), 4, |frames| {
        let at = (0..frames.len()).map(|index| 2 * index).collect();
        (frames.iter().flat_map(|frame| [frame.clone(), frame.clone()]).collect(), at)
    });
    let kept: Vec<_> = cases.iter().filter(applies).map(|(_, case)| &case.name).collect();
    let cases = all.cases.into_iter().filter(|(name, _)| kept.contains(&name)).collect();
    let (seen, wrong) = Taken { frames: Vec::new(), cases }.seen(&merged, &[]);
    let wrong = wrong + &differences(&plain, &seen, SENTENCES);
    assert!(wrong.is_empty(), "{wrong}");
}

/// Frames that were cut later tell less, and nothing else.
#[test]
fn a_capture_that_is_cut_later_never_lies() {
    let (path, cases, taken, plain) = plain(4);
    for snaplen in ["96", "68", "160"] {
        let cut = file("cut.pcapng");
        tool("editcap", &["-s", snaplen, path.to_str().unwrap(), cut.to_str().unwrap()]);
        open_up(cut.parent().unwrap());
        let (seen, mut wrong) = taken.seen(&cut, &[]);
        for (_, case) in cases.iter().filter(|(_, case)| !is_cut(case)) {
            let (whole, cut) = (&plain[&case.name], &seen[&case.name]);
            for field in ["phase", "stage", "transaction"] {
                let (whole, cut) = (value(whole, field), value(cut, field));
                if cut != whole && cut != "unknown" {
                    let _ = writeln!(wrong, "  {}: {field}: {whole} became {cut}", case.name);
                }
            }
            for field in ["close", "close.by", "close.frame", "reset.by", "reset.frame"] {
                let (whole, cut) = (value(whole, field), value(cut, field));
                if cut != whole {
                    let _ = writeln!(wrong, "  {}: {field}: {whole} became {cut}", case.name);
                }
            }
        }
        assert!(wrong.is_empty(), "snaplen {snaplen}\n{wrong}");
    }
}
