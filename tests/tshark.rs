// SPDX-License-Identifier: GPL-2.0-or-later
//! The plugin in a real tshark: bad input, settings, expert infos, damaged captures.
#![cfg(feature = "wireshark")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

mod support;

use rstdiag::limits;
use rstdiag::session::Session;
use support::article;
use support::found::{by_core, by_tshark, lines};
use support::host::host;
use support::lab::{open_up, readable_dir};

/// A folder with the sample in it, for the files of these tests, too.
fn dir() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        let dir = readable_dir("tshark");
        let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/sample");
        for name in ["sample.pcap", "error.log"] {
            fs::copy(sample.join(name), dir.join(name)).unwrap();
        }
        open_up(&dir);
        dir
    })
}

fn capture() -> PathBuf {
    dir().join("sample.pcap")
}

fn sample_log() -> Vec<u8> {
    fs::read(dir().join("error.log")).unwrap()
}

/// Writes a file that the host can read.
fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir().join(name);
    fs::write(&path, bytes).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    path
}

fn options(log: &Path) -> Vec<String> {
    vec![format!("error_log:{}", log.display()), "time_zone:UTC".to_owned()]
}

/// Log lines by stream, and what tshark said on standard error.
fn told(options: &[String]) -> (usize, usize, String) {
    let found = by_tshark(&capture(), options);
    let phases = found.values().filter(|found| !found["rstdiag.phase"].is_empty()).count();
    let entries = found.values().map(|found| lines(found).len()).sum();
    let options: Vec<String> = options.iter().map(|o| format!("rstdiag.{o}")).collect();
    let capture = capture();
    let mut args = vec!["-r", capture.to_str().unwrap(), "-q", "-z", "io,stat,0"];
    options.iter().for_each(|option| args.extend(["-o", option]));
    let (_, stderr) = host().tshark(&args);
    (phases, entries, stderr)
}

/// Resets and matched entries of the sample.
const PHASES: usize = 12;
const ENTRIES: usize = 18;

#[test]
fn the_sample_needs_no_words_on_standard_error() {
    let (phases, entries, stderr) = told(&options(&dir().join("error.log")));
    assert_eq!((phases, entries), (PHASES, ENTRIES));
    assert!(!stderr.contains("rstdiag"), "{stderr}");
}

/// logrotate has cut the log in two and packed the older half; the access log lies beside it.
#[test]
fn a_folder_of_rotated_logs_is_one_log() {
    let folder = dir().join("rotated");
    fs::create_dir(&folder).unwrap();
    let log = sample_log();
    let middle = log.len() / 2;
    let cut = middle + log[middle..].iter().position(|&b| b == b'\n').unwrap() + 1;
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&log[..cut]).unwrap();
    file("rotated/error.log.2.gz", &packed.finish().unwrap());
    file("rotated/error.log.1", &log[cut..]);
    file("rotated/error.log", b"");
    file("rotated/access.log", b"192.0.2.7 - - [x] \"GET / HTTP/1.1\" 200 1\n");
    open_up(&folder);
    for path in [folder.clone(), folder.join("err*")] {
        let (phases, entries, stderr) = told(&options(&path));
        assert_eq!((phases, entries), (PHASES, ENTRIES), "{}", path.display());
        assert!(!stderr.contains("rstdiag"), "{stderr}");
    }
}

#[test]
fn a_log_that_cannot_be_used_costs_one_message_and_nothing_else() {
    let unreadable = file("unreadable.log", b"x");
    fs::set_permissions(&unreadable, fs::Permissions::from_mode(0o000)).unwrap();
    let folder = dir().join("folder.log");
    fs::create_dir(&folder).unwrap();
    let pipe = dir().join("pipe.log");
    assert!(Command::new("mkfifo").args(["-m", "644"]).arg(&pipe).status().unwrap().success());
    let mut random = 0x2545_f491_4f6c_dd1du64;
    let binary: Vec<u8> = std::iter::repeat_with(|| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random as u8
    })
    .take(300_000)
    .collect();
    let without = dir().join("without_logs");
    fs::create_dir(&without).unwrap();
    file("without_logs/notes.txt", b"hello\n");
    open_up(&without);
    let access = b"192.0.2.7 - - [22/Nov/2026:11:54:40 +0000] \"GET / HTTP/1.1\" 200 1\n";
    let cases = [
        (dir().join("missing.log"), "there is no such file; correct the path"),
        (unreadable, "you may not read it; copy it"),
        (folder, "there is no file; name the log"),
        (
            without,
            "it holds no log of the time of the capture that nginx's error_log wrote; name",
        ),
        (PathBuf::from("/**/error.log"), "'**' would look through every folder below; name"),
        (pipe, "this is a pipe, which can be read only once; write it to a file"),
        (file("empty.log", b""), "is empty: "),
        (file("binary.log", &binary), "from line 1 on: name"),
        (file("zeros.log", &[0; 9000]), "holds no text: it is packed"),
        (file("other.log", b"Jan  1 00:00:00 host sshd[1]: hello\n"), "from line 1 on: name"),
        (file("really_access.log", access), "an access log in access_log"),
        (file("none.gz", b"\x1f\x8b\x08 and no more"), "none of its lines can be used; if"),
    ];
    for (log, words) in cases {
        let (phases, entries, stderr) = told(&options(&log));
        assert_eq!((phases, entries), (PHASES, 0), "{words}");
        judge_message(&stderr, "error_log", &log, words);
    }
}

/// Standard error has one message about a log: it names the file, and has these words.
fn judge_message(stderr: &str, setting: &str, log: &Path, words: &str) {
    let messages: Vec<&str> =
        stderr.lines().filter(|line| line.contains("rstdiag WARNING")).collect();
    assert_eq!(messages.len(), 1, "{words}: {stderr}");
    assert!(messages[0].contains(&format!("{setting}: {}: ", log.display())), "{stderr}");
    assert!(messages[0].contains(words), "{words}: {stderr}");
}

/// What can be read of a packed log is used, and the message says up to which line.
#[test]
fn a_packed_log_that_is_cut_or_damaged_is_used_as_far_as_it_goes() {
    let mut log = sample_log();
    for number in 0..20_000u32 {
        let random = number.wrapping_mul(2_654_435_761);
        let line = format!("2026/11/22 11:54:59 [notice] {random}#{random}: {random:x}\n");
        log.extend(line.bytes());
    }
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&log).unwrap();
    let (gzip, zstd) = (gzip.finish().unwrap(), zstd::encode_all(&*log, 3).unwrap());
    let half = |packed: &[u8]| packed[..packed.len() / 2].to_vec();
    let mut damaged = gzip.clone();
    damaged[gzip.len() / 2..][..200].fill(0xff);
    for (name, bytes) in
        [("cut.gz", half(&gzip)), ("damaged.gz", damaged), ("cut.zst", half(&zstd))]
    {
        let log = file(name, &bytes);
        let (phases, entries, stderr) = told(&options(&log));
        assert_eq!((phases, entries), (PHASES, ENTRIES), "{name}");
        judge_message(&stderr, "error_log", &log, "what is used ends with line ");
        judge_message(
            &stderr,
            "error_log",
            &log,
            "test it with its own tool, and copy it again",
        );
        let (_, line) = stderr.split_once("ends with line ").unwrap();
        let line: u32 = line.split(';').next().unwrap().parse().unwrap();
        assert!((1000..20_000).contains(&line), "{stderr}");
    }
}

#[test]
fn an_access_log_that_cannot_be_used_costs_one_message_and_nothing_else() {
    let log = file("some_access.log", b"1 2 3\n");
    let empty = dir().join("no_logs");
    fs::create_dir(&empty).unwrap();
    open_up(&empty);
    let good = "$connection $remote_port $msec";
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(b"1 2 1795348480.000\n").unwrap();
    let mut packed = packed.finish().unwrap();
    packed.truncate(packed.len() - 3);
    let unreadable = file("unreadable_access.log", b"x");
    fs::set_permissions(&unreadable, fs::Permissions::from_mode(0o000)).unwrap();
    for (path, format, words) in [
        (dir().join("missing_access.log"), good, "there is no such file; correct the path"),
        (unreadable, good, "you may not read it; copy it"),
        (empty, good, "there is no file; name the log"),
        (log.clone(), good, "line 1 does not match the log format at "),
        (
            dir().join("error.log"),
            good,
            "line 1 is one of an error log: name that in error_log",
        ),
        (file("access_cut.gz", &packed), good, "what is used ends with line 1; if"),
        (log.clone(), "combined", "line 1 does not match the log format at "),
        (log.clone(), "$connection $status", "the format has no time"),
        (log.clone(), "[$time_local] $request", "the format has neither $connection"),
    ] {
        let mut options = options(&dir().join("error.log"));
        options.push(format!("access_log:{}", path.display()));
        options.push(format!("access_log_format:{format}"));
        let (phases, entries, stderr) = told(&options);
        assert_eq!((phases, entries), (PHASES, ENTRIES), "{words}");
        judge_message(&stderr, "access_log", &path, words);
    }
    let mut options = options(&dir().join("error.log"));
    options.push(format!("access_log:{}", log.display()));
    options.push("access_log_format:$".to_owned());
    let (phases, entries, stderr) = told(&options);
    assert_eq!((phases, entries), (PHASES, ENTRIES));
    assert_eq!(stderr.matches("access_log_format: at character 1: ").count(), 1, "{stderr}");
}

#[test]
fn bad_lines_cost_nothing_but_themselves() {
    let good = sample_log();
    let good = good.split_inclusive(|byte| *byte == b'\n');
    let long = vec![b'x'; 1 << 20];
    let cut =
        &b"2026/11/22 11:54:40 [info] 7#7: *2 recv() failed (104: Connection reset by"[..];
    let bad: [&[u8]; 7] = [
        &long,
        cut,
        b"\xff\xfe\x00\x80 recv() failed (104: Connection reset by peer)",
        b"2026/13/45 99:99:99 [info] 7#7: *2 recv() failed (104: Connection reset by peer)",
        b"2026/11/22 11:54:40 [info] 7#7: *99999999999999999999 recv() failed (104: x)",
        b"",
        b"2026/11/22 11:54:40 [info] 7#7: *2 recv() failed (104: x), client: \xff, server: ",
    ];
    let mut log = Vec::new();
    let mut numbers = Vec::new();
    let mut line = 0;
    for (index, entry) in good.enumerate() {
        log.extend_from_slice(bad[index % bad.len()]);
        log.push(b'\n');
        log.extend_from_slice(entry);
        line += 2;
        numbers.push(line);
    }
    let found = by_tshark(&capture(), &options(&file("mixed.log", &log)));
    let mut told: Vec<u64> = found.values().flat_map(lines).collect();
    told.sort_unstable();
    assert_eq!(told, numbers);
}

/// The published case gives the same through tshark as through the replay.
#[test]
fn the_published_case_is_the_same_in_tshark() {
    let (capture, log) = article::files(dir());
    open_up(dir());
    let options =
        vec![format!("error_log:{}", log.display()), format!("time_zone:{}", article::ZONE)];
    let mut session = Session::new();
    session.set_time_zone(article::ZONE).unwrap();
    support::read_log(&mut session, &log);
    support::replay(&mut session, &capture);
    let found = by_tshark(&capture, &options);
    assert_eq!(found, by_core(&mut session));
    assert_eq!(found.values().flat_map(lines).count(), 5);
}

/// A line that stands there more often than is shown: it is shown so often, and the rest is
/// summed up.
#[test]
fn what_is_not_shown_of_many_entries_is_summed_up() {
    let log = sample_log();
    let mut lines_of_log = log.split_inclusive(|byte| *byte == b'\n');
    let idle =
        lines_of_log.find(|line| line.ends_with(b"10.77.1.40 closed keepalive connection\n"));
    let many = file("many.log", &idle.unwrap().repeat(limits::SHOWN + 4));
    let found = by_tshark(&capture(), &options(&many));
    let shown: Vec<u64> = (1..=limits::SHOWN as u64).collect();
    let mut summed_up = found.values().filter(|found| !found["rstdiag.log.more"].is_empty());
    let stream = summed_up.next().expect("a stream with more entries than are shown");
    assert!(stream["rstdiag.client"][0].starts_with("10.77.1.40:"), "{stream:?}");
    assert_eq!(stream["rstdiag.log.more"], ["4"]);
    assert_eq!(lines(stream), shown);
    assert_eq!(summed_up.next(), None);
}

#[test]
fn a_setting_that_is_not_understood_is_reported_once() {
    let log = dir().join("error.log");
    let mut options = options(&log);
    options[1] = "time_zone:Mars/Olympus".to_owned();
    // The host's own zone is UTC here, so that the default finds the entries, too.
    let (phases, entries, stderr) = told(&options);
    assert_eq!((phases, entries), (PHASES, ENTRIES));
    assert_eq!(stderr.matches("Mars/Olympus").count(), 1, "{stderr}");
    assert!(stderr.contains("Asia/Shanghai"), "the message says what would do: {stderr}");
    options[1] = "time_zone:UTC".to_owned();
    options.push("nginx_addresses:10.0.0.2, nginx".to_owned());
    let (phases, entries, stderr) = told(&options);
    assert_eq!((phases, entries), (PHASES, ENTRIES));
    assert_eq!(stderr.matches("10.0.0.2, nginx").count(), 1, "{stderr}");
}

#[test]
fn zone_and_window_decide_what_is_near() {
    let log = dir().join("error.log");
    let entries = |zone: &str, window: &str| {
        let mut options = options(&log);
        options[1] = format!("time_zone:{zone}");
        options.push(format!("window:{window}"));
        told(&options).1
    };
    assert_eq!(entries("UTC", "2"), ENTRIES);
    assert_eq!(entries("+08:00", "2"), 0);
    assert_eq!(entries("Asia/Shanghai", "2"), 0);
    assert!(entries("+08:00", "28800") > 0, "eight hours");
}

/// A zone or an offset that is understood and is not the log's makes the log useless, and so does
/// the log of another day: that is told once, with the times, however tshark is asked.
#[test]
fn a_log_of_another_time_is_reported_once() {
    let log = dir().join("error.log");
    let access = file(
        "another_access.log",
        b"192.0.2.7 - - [22/Nov/2026:01:00:00 +0000] \"GET / HTTP/1.1\" 200 1 \"-\" \"-\"\n",
    );
    let with = |more: &[&str]| {
        let mut options = options(&log);
        options.extend(more.iter().map(|&option| option.to_owned()));
        options
    };
    let access = format!("access_log:{}", access.display());
    for (options, words) in [
        (
            with(&["time_zone:+08:00"]),
            ["error_log: ", " entries is of the time of the capture"],
        ),
        (with(&["time_zone:Asia/Shanghai"]), ["(the log is taken to be ", "correct time_zone"]),
        (with(&["clock_offset:3600"]), ["they are from 2026/11/22 11:54:4", "clock_offset"]),
        (with(&[&access]), ["access_log: ", "none of its 1 entries is of the time of the"]),
    ] {
        let given: Vec<String> = options.iter().map(|o| format!("rstdiag.{o}")).collect();
        let asks: [&[&str]; 6] = [
            &["-T", "fields", "-e", "frame.number"],
            &["-T", "fields", "-e", "rstdiag.log"],
            &["-2", "-T", "fields", "-e", "rstdiag.log"],
            &["-T", "json"],
            &["-q", "-z", "io,stat,0"],
            &["-q", "-z", "rstdiag,report"],
        ];
        for ask in asks {
            let capture = capture();
            let mut args = [&["-n", "-r", capture.to_str().unwrap()], ask].concat();
            given.iter().for_each(|option| args.extend(["-o", option]));
            let (_, stderr) = host().tshark(&args);
            let told: Vec<&str> =
                stderr.lines().filter(|line| line.contains("rstdiag WARNING")).collect();
            assert_eq!(told.len(), 1, "{options:?} {ask:?}: {stderr}");
            assert!(words.iter().all(|words| told[0].contains(words)), "{}", told[0]);
        }
        // Where frames are shown once more, it stands on the first one.
        let fields = ["frame.number", "_ws.expert.message"];
        let rows =
            host().fields(&capture(), &options, &["-2", "-Y", "rstdiag.notice"], &fields);
        assert_eq!(rows.len(), 1, "{rows:?}");
        let told =
            |text: &String| text.contains(" is of the time of the capture; name the log");
        assert!(rows[0][1].iter().any(told), "{rows:?}");
    }
}

/// The sample's log by clocks of other zones, or off by seconds: the same entries are found.
#[test]
fn zone_and_skew_are_found_by_the_host_too() {
    let log = fs::read_to_string(dir().join("error.log")).unwrap();
    for shift in [8 * 3600, -(3 * 3600 + 1800), 5 * 3600 + 2700 + 40] {
        let shifted: String = log
            .lines()
            .map(|line| {
                let (time, rest) = line.split_at(19);
                let time = chrono::NaiveDateTime::parse_from_str(time, "%Y/%m/%d %H:%M:%S");
                let time = time.unwrap() + chrono::TimeDelta::seconds(shift);
                format!("{}{rest}\n", time.format("%Y/%m/%d %H:%M:%S"))
            })
            .collect();
        let mut options = options(&file("shifted.log", shifted.as_bytes()));
        options[1] = "time_zone:auto".to_owned();
        assert_eq!(told(&options).1, ENTRIES, "{shift} s");
        options.push("clock_offset:soon".to_owned());
        assert!(told(&options).2.contains("clock_offset: 'soon' is not understood"));
    }
}

#[test]
fn expert_infos_follow_the_severity_in_every_pass() {
    let capture = capture();
    let found = by_tshark(&capture, &options(&dir().join("error.log")));
    for (severity, level) in
        [("harmless", "0x00400000"), ("warning", "0x00600000"), ("failure", "0x00800000")]
    {
        let mut frames: Vec<&str> = found
            .values()
            .filter(|found| found["rstdiag.severity"] == [severity])
            .filter_map(|found| found["rstdiag.reset.frame"].first().map(String::as_str))
            .collect();
        frames.sort_by_key(|frame| frame.parse::<u32>().unwrap());
        assert!(!frames.is_empty(), "{severity}");
        let filter = format!("rstdiag.reset.{severity}");
        for passes in [&["-2"][..], &[]] {
            let more = [passes, &["-Y", &filter]].concat();
            let fields = ["frame.number", "_ws.expert.message", "_ws.expert.severity"];
            let rows =
                host().fields(&capture, &options(&dir().join("error.log")), &more, &fields);
            let shown: Vec<&str> = rows.iter().map(|row| row[0][0].as_str()).collect();
            assert_eq!(shown, frames, "{severity} {passes:?}");
            for row in &rows {
                let level: u64 = u64::from_str_radix(&level[2..], 16).unwrap();
                let levels = row[2].iter().map(|n| n.parse::<u64>().unwrap());
                assert!(levels.clone().any(|shown| shown == level), "{severity}: {:?}", row[2]);
                assert!(row[1]
                    .iter()
                    .any(|message| message.contains("reset") || message.contains("refused")));
            }
        }
    }
}

/// Without anybody who looks at the tree, expert infos still come.
#[test]
fn the_expert_statistics_list_every_reset() {
    let capture = capture();
    for passes in [&["-2"][..], &[]] {
        let args =
            [&["-r", capture.to_str().unwrap(), "-q", "-z", "expert"][..], passes].concat();
        let (out, _) = host().tshark(&args);
        let listed: usize = out
            .lines()
            .filter(|line| line.contains("RSTDIAG"))
            .map(|line| line.split_whitespace().next().unwrap().parse::<usize>().unwrap())
            .sum();
        assert_eq!(listed, PHASES, "{passes:?}\n{out}");
    }
}

#[test]
fn a_damaged_capture_never_crashes_the_host() {
    let good = fs::read(capture()).unwrap();
    let log = dir().join("error.log");
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = |below: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 33) as usize % below
    };
    for round in 0..60 {
        let mut bytes = good.clone();
        if round % 3 == 0 {
            bytes.truncate(24 + next(good.len() - 24));
        } else {
            for _ in 0..1 + next(200) {
                let at = 24 + next(bytes.len() - 24);
                bytes[at] = next(256) as u8;
            }
        }
        let damaged = file("damaged.pcap", &bytes);
        let log = format!("rstdiag.error_log:{}", log.display());
        let two: &[&str] = if round % 2 == 0 { &["-2"] } else { &[] };
        let args = ["-n", "-r", damaged.to_str().unwrap(), "-V", "-o", &log, "-Y", "rstdiag"];
        let out = host().run("tshark", &[&args[..], two].concat(), "");
        assert!(out.status.signal().is_none(), "round {round}: {}", out.status);
        let stderr = String::from_utf8_lossy(&out.stderr);
        assert!(!stderr.contains("defect"), "round {round}: {stderr}");
    }
}
