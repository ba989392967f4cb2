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
    /// Takes these cases; `show` makes of one frame those that the capture has of it, and
    /// tells which of them shows it.
    fn of<'a>(
        cases: impl Iterator<Item = &'a Numbered>,
        version: u8,
        show: impl Fn(&Frame) -> (Vec<Frame>, usize),
    ) -> Taken {
        let mut taken = Taken::default();
        for (index, case) in cases {
            let mut numbers = Vec::new();
            for frame in Capture::of(&talk(*index, version), &case.script).frames() {
                let (shown, at) = show(&frame);
                numbers.push((taken.frames.len() + at + 1) as u32);
                taken.frames.extend(shown);
            }
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

/// Fields that say the same when only the capture differs: those that count frames do so in
/// the case's own numbers, and sentences with frame numbers are left out unless `verbatim`.
fn differences(
    one: &BTreeMap<String, Found>,
    other: &BTreeMap<String, Found>,
    verbatim: bool,
) -> String {
    let mut out = String::new();
    for (name, found) in other {
        for (field, got) in found {
            let want = &one[name][field];
            let numbered = ["rstdiag.summary", "rstdiag.evidence"].contains(field);
            if got != want && (verbatim || !numbered) {
                let _ = writeln!(out, "  {name}: {field}: {want:?} became {got:?}");
            }
        }
    }
    out
}

fn is_cut(case: &Case) -> bool {
    case.script.contains("snaplen")
}

#[test]
fn every_wrapping_means_the_same() {
    let cases: Vec<Numbered> = (0..).zip(cases::all()).collect();
    let mut report = String::new();
    for version in [4, 6] {
        let applies = |(_, case): &&Numbered| version == 4 || !case.has_copies();
        let plain = Taken::of(cases.iter().filter(applies), version, |f| (vec![f.clone()], 0));
        let path = plain.write(&format!("plain{version}"), DataLink::ETHERNET);
        let (plain, wrong) = plain.seen(&path, &[]);
        report += &wrong;
        report += &complaints(cases.iter().filter(applies), &plain);
        for wrapping in wrap::ALL.iter().filter(|wrapping| wrapping.version == version) {
            let Wrapping { name, whole, args, .. } = *wrapping;
            // What is put together again is not shown where a part is cut, and has no
            // identification.
            let applies = |case: &&Numbered| {
                applies(case) && (whole || !is_cut(&case.1) && !case.1.has_copies())
            };
            let taken = Taken::of(cases.iter().filter(applies), version, |frame| {
                let frames = wrapping.frames(frame);
                let last = frames.len() - 1;
                (frames, last)
            });
            let path = taken.write("wrapped", wrapping.link);
            let (seen, wrong) = taken.seen(&path, args);
            let differences = differences(&plain, &seen, whole);
            if !wrong.is_empty() || !differences.is_empty() {
                let _ = write!(report, "{name}\n{wrong}{differences}");
            }
        }
    }
    assert!(report.is_empty(), "{report}");
}
