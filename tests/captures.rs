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
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::OnceLock;

mod support;

use pcap_file::DataLink;
use support::builder::{self, Capture, Frame, Talk};
use support::cases::{self, Case};
use support::found::{self, rows, Found};
use support::host::host;
use support::lab::{open_up, readable_dir};
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
        self.seen_with(path, &[], more)
    }

    /// The same with these preferences of the plugin.
    fn seen_with(
        &self,
        path: &Path,
        options: &[String],
        more: &[&str],
    ) -> (BTreeMap<String, Found>, String) {
        let args = [&["-2", "-Y", "tcp"], more].concat();
        let rows = rows(path, options, &args);
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
            out.insert(name.clone(), renumbered(&first.1, numbers));
        }
        (out, wrong)
    }

    /// What tshark shows on each of the cases' own frames in one pass, by case and number.
    fn passing(
        &self,
        path: &Path,
        options: &[String],
        more: &[&str],
    ) -> BTreeMap<String, Found> {
        let args = [&["-Y", "tcp"], more].concat();
        let by_frame: BTreeMap<u32, Found> = rows(path, options, &args)
            .into_iter()
            .map(|(_, frame, found)| (frame, found))
            .collect();
        let mut out = BTreeMap::new();
        for (name, numbers) in &self.cases {
            for (index, number) in (1..).zip(numbers) {
                let found = by_frame.get(number).map(|found| renumbered(found, numbers));
                out.insert(format!("{name}, frame {index}"), found.unwrap_or_default());
            }
        }
        out
    }
}

/// What was found, with the numbers that a case's frames have in the case.
fn renumbered(found: &Found, numbers: &[u32]) -> Found {
    let mut found = found.clone();
    for field in ["rstdiag.close.frame", "rstdiag.reset.frame", "rstdiag.reset.answers"] {
        for value in found.get_mut(field).into_iter().flatten() {
            let number = numbers.iter().position(|n| n.to_string() == *value);
            *value = number.map_or(format!("{value}?"), |n| (n + 1).to_string());
        }
    }
    found
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
            // Addresses are the capture's own, and so is what other connections of it tell.
            if ["client", "form", "answers", "cause"].contains(&field) {
                continue;
            }
            let got = value(&seen[&case.name], field);
            if got != want {
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
    let cases = numbered(|case| match version {
        4 => !case.script.contains("v6\n"),
        _ => !case.has_copies(),
    });
    let taken = Taken::of(cases.iter(), version, |frames| {
        (frames.to_vec(), (0..frames.len()).collect())
    });
    // Tests run at once, and each reads its own.
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let path = taken.write(&format!("plain{version}-{number}"), DataLink::ETHERNET);
    let (seen, wrong) = taken.seen(&path, &[]);
    let wrong = wrong + &complaints(cases.iter(), &seen);
    assert!(wrong.is_empty(), "{wrong}");
    (path, cases, taken, seen)
}

/// What nginx logs about clients that reset, by phase: in front of the client, and behind it.
const LOGGED: &[(&str, &str, &str)] = &[
    ("before_request", "recv() failed (104: Connection reset by peer) while waiting for request, client: ", ", server: h"),
    ("during_request", "recv() failed (104: Connection reset by peer) while reading client request headers, client: ", ", server: h"),
    ("awaiting_response", "epoll_wait() reported that client prematurely closed connection, so upstream connection is closed too (104: Connection reset by peer) while sending request to upstream, client: ", ", server: h, upstream: \"http://192.0.2.9:80/\""),
    ("during_response", "client prematurely closed connection (104: Connection reset by peer) while sending response to client, client: ", ", server: h"),
    ("after_response", "client ", " closed keepalive connection (104: Connection reset by peer)"),
];

/// An error log of the nginx that the cases' clients have reset, and the setting that names it.
fn log_of(taken: &Taken, version: u8, seen: &BTreeMap<String, Found>) -> Vec<String> {
    let mut log = String::new();
    for (number, (name, numbers)) in (1..).zip(&taken.cases) {
        let found = &seen[name];
        let by_client = found["rstdiag.reset.by"] == ["client"];
        let words = LOGGED.iter().find(|(phase, ..)| found["rstdiag.phase"] == [*phase]);
        let Some((_, before, behind)) = words.filter(|_| by_client) else { continue };
        let reset: usize = found["rstdiag.reset.frame"][0].parse().unwrap();
        let time = taken.frames[numbers[reset - 1] as usize - 1].time;
        let time = chrono::DateTime::from_timestamp_nanos(time).format("%Y/%m/%d %H:%M:%S");
        let (client, _) = found["rstdiag.client"][0].rsplit_once(':').unwrap();
        let client = client.trim_matches(['[', ']']);
        let _ = writeln!(log, "{time} [info] 7#7: *{number} {before}{client}{behind}");
    }
    let path = file(&format!("error{version}.log"));
    std::fs::write(&path, log).unwrap();
    open_up(path.parent().unwrap());
    vec![format!("error_log:{}", path.display()), "time_zone:UTC".to_owned()]
}

/// Of so many cases one is looked at in one pass, too.
const SOME: usize = 6;

/// In two passes and in one, with what nginx logged.
#[test]
fn every_wrapping_means_the_same() {
    let mut report = String::new();
    for version in [4, 6] {
        let (path, cases, taken, plain) = plain(version);
        let log = log_of(&taken, version, &plain);
        let (plain, _) = taken.seen_with(&path, &log, &[]);
        let matched = plain.values().filter(|found| !found::lines(found).is_empty()).count();
        assert!(matched > 20, "{matched} entries are matched");
        let passing = taken.passing(&path, &log, &[]);
        let of_version = wrap::ALL.iter().filter(|wrapping| wrapping.version == version);
        for (number, wrapping) in of_version.enumerate() {
            let Wrapping { name, whole, args, .. } = *wrapping;
            // What is put together again is not shown where a part is cut, and has no
            // identification.
            let applies = |(_, case): &&Numbered| whole || !is_cut(case) && !case.has_copies();
            let wrap = |frames: &[Frame]| {
                let (mut shown, mut at) = (Vec::new(), Vec::new());
                for frame in frames {
                    shown.extend(wrapping.frames(frame));
                    at.push(shown.len() - 1);
                }
                (shown, at)
            };
            let save = if whole { &[] } else { SENTENCES };
            let taken = Taken::of(cases.iter().filter(applies), version, wrap);
            let path = taken.write("wrapped", wrapping.link);
            let (seen, wrong) = taken.seen_with(&path, &log, args);
            let mut wrong = wrong + &differences(&plain, &seen, save);
            // One pass takes frames as two do, and differs in what it can know of them.
            let some = cases.iter().filter(applies).skip(number % SOME).step_by(SOME);
            let taken = Taken::of(some, version, wrap);
            let path = taken.write("some", wrapping.link);
            wrong += &differences(&passing, &taken.passing(&path, &log, args), SENTENCES);
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
    let (path, _, mut taken, plain) = plain(4);
    // Where no dissector is named for the port, the host's own for VNC finds itself by heuristics,
    // and begins another stream in the middle of the connection.
    taken.cases.retain(|(name, _)| !name.starts_with("VNC"));
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
            // mergecap goes by the time stamps.
            !case.has_copies()
                && !case.script.contains("stamp=")
                && case.name != "only the refusal is in the capture"
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
                    let passed = burst.iter().map(|frame| frame.time).max().unwrap();
                    let later = |frame| Frame { time: passed, ..wrap::routed(frame) };
                    shown.extend(burst.iter().map(later));
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

/// Runs a tool of Wireshark on captures.
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
        // mergecap goes by the time stamps.
        !case.has_copies()
            && !case.script.contains("stamp=")
            && case.name != "only the refusal is in the capture"
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

/// Every packet on three interfaces of different kinds, as the host of a bridge or of a VLAN sees
/// it: tagged, with the kernel's own header, and inside of a tunnel.
#[test]
fn several_interfaces_show_one_connection() {
    for (version, kinds) in [
        (4, ["802.1Q", "Linux cooked 2", "VXLAN"]),
        (6, ["IPv6: 802.1Q", "IPv6: Linux cooked 2", "IPv6: VXLAN"]),
    ] {
        let (_, cases, _, plain) = plain(version);
        let applies = |(_, case): &&Numbered| {
            // mergecap goes by the time stamps.
            let is_odd = case.has_copies() || case.script.contains("stamp=");
            // A capture of IPv6 is known to make copies by those of a SYN, once it shows that.
            // Nor does a second RST of the same numbers differ from a copy.
            let shows_copies = version == 4
                || !case.want.contains("mid_stream")
                    && !case.script.contains("c S late=")
                    && !case.name.starts_with("two RSTs of");
            !is_odd && shows_copies && case.name != "only the refusal is in the capture"
        };
        let files = kinds.map(|kind| {
            let wrapping = wrap::ALL.iter().find(|wrapping| wrapping.name == kind).unwrap();
            let taken = Taken::of(cases.iter().filter(applies), version, |frames| {
                let shown: Vec<_> =
                    frames.iter().flat_map(|frame| wrapping.frames(frame)).collect();
                let at = (0..shown.len()).collect();
                (shown, at)
            });
            taken.write(&kind.replace("IPv6: ", "6 "), wrapping.link)
        });
        let merged = file("interfaces.pcapng");
        let mut args = vec!["-w", merged.to_str().unwrap()];
        args.extend(files.iter().map(|file| file.to_str().unwrap()));
        tool("mergecap", &args);
        open_up(merged.parent().unwrap());
        let three = Taken::of(cases.iter().filter(applies), version, |frames| {
            let shown =
                frames.iter().flat_map(|frame| std::iter::repeat_n(frame.clone(), kinds.len()));
            (shown.collect(), (0..frames.len()).map(|index| kinds.len() * index).collect())
        });
        let (seen, wrong) = three.seen(&merged, &[]);
        let wrong = wrong + &differences(&plain, &seen, SENTENCES);
        assert!(wrong.is_empty(), "IPv{version}\n{wrong}");
    }
}

/// What a card or a kernel joins before it is captured (LRO, GRO), and what it cuts only behind
/// that (TSO): segments of one side that follow each other are one, whose length IP cannot tell
/// where it is beyond 65535 bytes.
#[test]
fn joined_segments_mean_the_same() {
    let mut report = String::new();
    for version in [4, 6] {
        let (_, cases, _, plain) = plain(version);
        // What is joined was sent at once, and there are no copies of it.
        let joins = |case: &Case| {
            ["seq=", "late=", "stamp=", "again", "lost", "drop", "snaplen", "+"]
                .iter()
                .all(|word| !case.script.contains(word))
                && !case.has_copies()
        };
        let taken =
            Taken::of(cases.iter().filter(|(_, case)| joins(case)), version, |frames| {
                let (mut shown, mut at) = (Vec::<Frame>::new(), Vec::new());
                for frame in frames {
                    match shown.last_mut().and_then(|last| wrap::joined(last, frame)) {
                        Some(whole) => *shown.last_mut().unwrap() = whole,
                        None => shown.push(frame.clone()),
                    }
                    at.push(shown.len() - 1);
                }
                (shown, at)
            });
        let is_joined = |numbers: &[u32]| numbers.windows(2).any(|pair| pair[0] == pair[1]);
        let joined = taken.cases.iter().filter(|(_, numbers)| is_joined(numbers)).count();
        assert!(joined > 10, "{joined}");
        let path = taken.write("joined", DataLink::ETHERNET);
        let (seen, wrong) = taken.seen(&path, &["-o", "ipv6.tso_support:TRUE"]);
        let save = [
            SENTENCES,
            &["rstdiag.close.frame", "rstdiag.reset.frame", "rstdiag.reset.answers"],
        ]
        .concat();
        report += &(wrong + &differences(&plain, &seen, &save));
    }
    assert!(report.is_empty(), "{report}");
}

/// Where the kernel sends more than 65535 bytes at once (BIG TCP), IPv4 says 0, and IPv6 so, too, or
/// it has an option for that.
#[test]
fn frames_may_be_longer_than_ip_counts() {
    let scripts = [80_000, 90_000].map(|promised| {
        let head = format!("open\nc GET:/a\ns 200:{promised} x*40000\n");
        head + "s x*40000\nc .\nc GET:/b\ns 200:70000 x*35000\ns x*34999\nc .\nc R.\n"
    });
    for script in scripts {
        for (version, jumbo) in [(4, false), (6, false), (6, true)] {
            let talk = talk(0, version);
            let plain = Capture::of(&talk, &script).frames();
            let mut long = Vec::<Frame>::new();
            for frame in &plain {
                match long.last().and_then(|last| wrap::joined(last, frame)) {
                    Some(whole) => *long.last_mut().unwrap() = whole,
                    None => long.push(frame.clone()),
                }
            }
            let longest = long.iter().map(|frame| frame.bytes.len()).max();
            assert!(longest > Some(80_000));
            if jumbo {
                long = long.iter().map(wrap::jumbogram).collect();
            }
            let found = [("plain_long", &plain), ("long", &long)].map(|(name, frames)| {
                let path = file(&format!("{name}{version}{jumbo}.pcap"));
                builder::write(&path, frames);
                open_up(path.parent().unwrap());
                let seen =
                    rows(&path, &[], &["-2", "-Y", "tcp", "-o", "ipv6.tso_support:TRUE"]);
                let seen = seen.into_iter().last().expect("the RST").2;
                ["phase", "transaction", "request", "missing", "responses", "caveats", "idle"]
                    .map(|field| value(&seen, field))
            });
            assert_eq!(found[0], found[1], "IPv{version}, jumbogram: {jumbo}");
            assert_ne!(found[0][0], "-");
        }
    }
}

/// What a capture that shows less tells otherwise: phases, the transaction and the kind of close may
/// only become unknown, and who closed first untold, as a FIN may be among bytes that are missing.
fn lies(whole: &Found, less: &Found, name: &str) -> String {
    let mut out = String::new();
    let fields = [
        ("phase", Some("unknown")),
        ("stage", Some("unknown")),
        ("transaction", Some("unknown")),
        ("close", Some("unknown")),
        ("close.by", Some("-")),
        ("close.frame", Some("-")),
        ("reset.by", None),
        ("reset.frame", None),
    ];
    for (field, untold) in fields {
        let (whole, less) = (value(whole, field), value(less, field));
        if less != whole && Some(less.as_str()) != untold {
            let _ = writeln!(out, "  {name}: {field}: {whole} became {less}");
        }
    }
    out
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
        // Without its first line, a message does not tell which side sent it.
        // Nor does a length tell of the field behind the cut that overrides it, which no sender
        // may put beside it.
        let untold = ["told apart late", "chunked beside a length"];
        let tells = |case: &Case| untold.iter().all(|name| !case.name.contains(name));
        for (_, case) in cases.iter().filter(|(_, case)| !is_cut(case) && tells(case)) {
            // What is not seen at all is in `wrong`.
            if let Some(seen) = seen.get(&case.name) {
                wrong += &lies(&plain[&case.name], seen, &case.name);
            }
        }
        assert!(wrong.is_empty(), "snaplen {snaplen}\n{wrong}");
    }
}

/// The same holds where the host does not put fragments together. It shows the first one as a
/// segment, or as none at all.
#[test]
fn fragments_that_are_left_alone_never_lie() {
    let (_, cases, _, plain) = plain(4);
    // Where the end of the data is not known, neither is where its FIN stands; that a RST had
    // no effect is seen by what follows it; a message without its first line does not tell who
    // sent it; and data that nobody acknowledged need not have been sent in full.
    let unknowable = [
        "rides on",
        "exchange goes on",
        "a RST without effect",
        "told apart late",
        "AWS ELB resets at once",
        "the other direction is not in the capture",
    ];
    let applies = |(_, case): &&Numbered| {
        !is_cut(case)
            && !case.has_copies()
            && !unknowable.iter().any(|part| case.name.contains(part))
    };
    let fragments = wrap::ALL.iter().find(|w| w.name == "IPv4 fragments").unwrap();
    let taken = Taken::of(cases.iter().filter(applies), 4, |frames| {
        let (mut shown, mut at) = (Vec::new(), Vec::new());
        for frame in frames {
            at.push(shown.len());
            shown.extend(fragments.frames(frame));
        }
        (shown, at)
    });
    let path = taken.write("fragments", DataLink::ETHERNET);
    let (seen, mut wrong) = taken.seen(&path, &["-o", "ip.defragment:FALSE"]);
    for (name, found) in &seen {
        wrong += &lies(&plain[name], found, name);
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// A capture that comes through a pipe is read once.
#[test]
fn a_capture_may_come_through_a_pipe() {
    let (path, ..) = plain(4);
    let args = ["-n", "-T", "fields", "-e", "rstdiag.phase", "-e", "rstdiag.reset.frame"];
    let (want, _) = host().tshark(&[&["-r", path.to_str().unwrap()], &args[..]].concat());
    let piped = host()
        .command("tshark", &[&["-r", "-"], &args[..]].concat(), true)
        .stdin(std::fs::File::open(&path).unwrap())
        .stdout(Stdio::piped())
        .output()
        .unwrap();
    assert!(want.contains("after_response"));
    assert_eq!(String::from_utf8_lossy(&piped.stdout), want);
}

/// The frames of a talk, with errors of a router behind each of them that quote it.
fn with_errors(talk: &Talk, script: &str, error: impl Fn(&Frame) -> Frame) -> Vec<Frame> {
    let frames = Capture::of(talk, script).frames();
    frames.iter().flat_map(|frame| [frame.clone(), error(frame)]).collect()
}

const EXCHANGE: &str = "open\nc GET:/a\ns 200:10 x*10\nc .\nc R.";

/// What is shown of frames of Ethernet: stream and frame of each item of the plugin's.
fn shown(name: &str, frames: &[Frame], more: &[&str]) -> Vec<[Vec<String>; 5]> {
    let path = file(&format!("{name}.pcap"));
    builder::write(&path, frames);
    open_up(path.parent().unwrap());
    let fields = [
        "frame.number",
        "tcp.stream",
        "rstdiag.phase",
        "rstdiag.reset.frame",
        "rstdiag.request",
    ];
    let rows = host().fields(&path, &[], &[&["-2"], more].concat(), &fields);
    rows.into_iter().map(|row| row.try_into().unwrap()).collect()
}

/// A TCP header that an ICMP error quotes is no segment, not even where it is a RST.
#[test]
fn quoted_headers_are_no_segments() {
    let v6 = Talk::default().over_v6();
    let v4 = Talk::default();
    let captures = [
        ("ICMP, 8 bytes", with_errors(&v4, EXCHANGE, |frame| wrap::unreachable(frame, 8))),
        ("ICMP, a header", with_errors(&v4, EXCHANGE, |frame| wrap::unreachable(frame, 20))),
        ("ICMP, all", with_errors(&v4, EXCHANGE, |frame| wrap::unreachable(frame, 9999))),
        ("ICMPv6", with_errors(&v6, EXCHANGE, wrap::unreachable_v6)),
    ];
    for (name, frames) in captures {
        for row in shown("icmp", &frames, &[]) {
            let [frame, _, phase, reset, request] = row;
            let frame: usize = frame[0].parse().unwrap();
            let none: Vec<String> = Vec::new();
            // Frames of an error stand behind those that it quotes, and show nothing.
            let want = match frame % 2 {
                0 => [none.clone(), none.clone(), none],
                _ => [vec!["after_response".into()], vec!["13".into()], vec!["GET /a".into()]],
            };
            assert_eq!([phase, reset, request], want, "{name}, frame {frame}");
        }
    }
    // Nor do they make a stream: only the errors are in the capture.
    let mut errors = with_errors(&v4, EXCHANGE, |frame| wrap::unreachable(frame, 9999));
    errors = errors.into_iter().skip(1).step_by(2).collect();
    for [frame, _, phase, ..] in shown("errors", &errors, &[]) {
        assert!(phase.is_empty(), "frame {frame:?}");
    }
}

/// Addresses and ports that are used again make a new stream.
#[test]
fn a_second_connection_of_the_same_ports_is_another_stream() {
    let first = Talk::default();
    let second = Talk { start: first.start + 5_000_000_000, isn: [7, 8], ..first.clone() };
    let mut capture = Capture::of(&first, EXCHANGE);
    capture.play(&second, "open\nc GET:/b\ns R.");
    for [frame, stream, phase, reset, request] in shown("reused", &capture.frames(), &[]) {
        let first = frame[0].parse::<u32>().unwrap() <= 7;
        let want = match first {
            true => ["0", "after_response", "7", "GET /a"],
            false => ["1", "awaiting_response", "12", "GET /b"],
        };
        let got = [stream, phase, reset, request].concat();
        assert_eq!(got, want, "frame {frame:?}");
    }
}

/// Two TCP headers in one frame: a remote capture (RPCAP) that carries a connection within its
/// own. Each has its own subtree, and neither's RST is the other's.
#[test]
fn a_connection_within_a_connection_has_its_own_verdict() {
    let inner = Capture::of(&Talk::between("10.7.0.1:41000", "10.7.0.2:80"), EXCHANGE).frames();
    let mut script = "open\n".to_owned();
    for (number, frame) in (1u32..).zip(&inner) {
        let length = frame.bytes.len() as u32;
        // Header: version, packet, value, length. Then seconds, microseconds, two lengths, number.
        let head = [[0, 7, 0, 0], (length + 20).to_be_bytes()];
        let packet = [1, 0, length, length, number].map(u32::to_be_bytes);
        let bytes = [head.as_flattened(), packet.as_flattened(), &frame.bytes].concat();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let _ = writeln!(script, "s hex:{hex}\nc .");
    }
    script += "c F.\ns F.\nc .\n";
    let outer =
        Capture::of(&Talk::between("10.8.0.1:42000", "10.8.0.2:2002"), &script).frames();
    let rows = shown("rpcap", &outer, &["-o", "rpcap.linktype:1", "-Y", "tcp.stream==1"]);
    assert_eq!(rows.len(), inner.len());
    for [frame, stream, phase, reset, request] in rows {
        // Only the inner one was reset, and its RST rides on the last of these frames.
        let last = (3 + 2 * inner.len() - 1).to_string();
        let got = [stream, phase, reset, request].concat();
        assert_eq!(got, ["0", "1", "after_response", &last, "GET /a"], "frame {frame:?}");
    }
}
