// SPDX-License-Identifier: GPL-2.0-or-later
//! Files as they lie about on real hosts, and what rotation does with them.

// A test that cannot go on says so by a panic.
#![allow(clippy::expect_used)]

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::process::Command;

use flate2::write::GzEncoder;
use flate2::Compression;

use super::*;

/// A directory that is removed with its content when the test ends.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("rstdiag-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).expect("a directory");
        Scratch(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, bytes).expect("a file");
        path
    }

    fn append(&self, name: &str, bytes: &[u8]) {
        let mut file = OpenOptions::new().append(true).open(self.path(name)).expect("a file");
        file.write_all(bytes).expect("an appended file");
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// An entry about a reset, of this day in November 2026 and this connection.
fn entry(day: u32, connection: u32) -> String {
    format!(
        "2026/11/{day:02} 10:00:00 [info] 1#1: *{connection} recv() failed (104: Connection reset \
         by peer) while waiting for request, client: 192.0.2.7, server: 0.0.0.0:80\n"
    )
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).expect("in memory");
    encoder.finish().expect("in memory")
}

/// The capture begins on the first of November 2026.
const BEGIN: CaptureTime = CaptureTime(1_793_491_200_000_000_000);

struct Loaded {
    session: Session,
    logs: Logs,
    notices: Vec<String>,
}

fn load(path: &Path) -> Loaded {
    let mut session = Session::new();
    session.begin_at(BEGIN);
    let mut logs = Logs::default();
    let path = path.as_os_str().as_bytes();
    let notices = logs.load(LogKind::Error, path, BEGIN, &mut session);
    Loaded { session, logs, notices: notices.iter().map(ToString::to_string).collect() }
}

impl Loaded {
    /// Connection, file name and line of each entry, in the order of reading.
    fn entries(&mut self) -> Vec<(u64, String, u64)> {
        let store = self.session.log();
        let indices = 0..store.count();
        let entries = indices.map(|index| store.entry(index).expect("an entry"));
        entries
            .map(|entry| {
                let name = entry.file.rsplit('/').next().expect("a name").to_owned();
                (
                    entry.parts().and_then(|parts| parts.connection).expect("a number"),
                    name,
                    entry.line,
                )
            })
            .collect()
    }

    fn follow(&mut self) -> Vec<(u64, String, u64)> {
        self.logs.follow(limits::LOG_GROWTH, &mut self.session);
        self.entries()
    }
}

fn found(entries: &[(u64, &str, u64)]) -> Vec<(u64, String, u64)> {
    entries.iter().map(|&(number, file, line)| (number, file.to_owned(), line)).collect()
}

#[test]
fn what_is_no_log_is_said_in_words() {
    let scratch = Scratch::new("kinds");
    let socket = scratch.path("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket);
    let empty = scratch.path("empty");
    fs::create_dir(&empty).expect("a directory");
    let foreign = scratch.path("foreign");
    fs::create_dir(&foreign).expect("a directory");
    scratch.write("foreign/access.log", b"192.0.2.7 - - [x] \"GET / HTTP/1.1\" 200 1\n");
    let xz = scratch.write("error.log.xz", b"\xfd7zXZ\0\0");
    for (path, words) in [
        (socket.display().to_string(), "a socket"),
        ("/dev/null".to_owned(), "a device"),
        ("/nowhere/error.log".to_owned(), "no such file"),
        (format!("{}/a\nb", scratch.0.display()), r"/a\nb: there is no such file"),
        ("with\0zero".to_owned(), "cannot be opened"),
        (empty.display().to_string(), "there is no file"),
        (foreign.display().to_string(), "it holds no log"),
        (format!("{}/*.none", scratch.0.display()), "there is no file"),
        (format!("{}/[", scratch.0.display()), "no pattern"),
        (xz.display().to_string(), "packed with xz"),
    ] {
        let said = load(Path::new(&path)).notices;
        assert_eq!(said.len(), 1, "{path}: {said:?}");
        assert!(said[0].starts_with("error_log: "), "{path}: {said:?}");
        assert!(said[0].contains(words), "{path}: {said:?}");
    }
}

#[test]
fn a_pipe_that_nobody_writes_to_does_not_hang() {
    let scratch = Scratch::new("pipe");
    let pipe = scratch.path("pipe");
    let made = Command::new("mkfifo").arg(&pipe).status();
    assert!(made.is_ok_and(|status| status.success()));
    assert!(load(&pipe).notices[0].contains("a pipe"));
    // In a directory it is nobody's mistake.
    scratch.write("error.log", entry(2, 1).as_bytes());
    let mut loaded = load(&scratch.0);
    assert!(loaded.notices.is_empty(), "{:?}", loaded.notices);
    assert_eq!(loaded.entries(), found(&[(1, "error.log", 1)]));
}

#[test]
fn a_file_that_is_not_utf8_by_name_is_read() {
    let scratch = Scratch::new("name");
    let path = scratch.path("x").with_file_name(OsStr::from_bytes(b"error\xff[1].log"));
    fs::write(&path, entry(2, 1)).expect("a file");
    assert_eq!(load(&path).entries().len(), 1);
}

#[test]
fn rotated_files_are_read_in_the_order_of_time() {
    for names in [
        ["error.log.3.gz", "error.log.2.zst", "error.log.1", "error.log"],
        ["error.log-20261102.gz", "error.log-20261103", "error.log-20261104", "error.log"],
    ] {
        let scratch = Scratch::new(names[0]);
        for (day, name) in (2..).zip(names) {
            let text = entry(day, day * 10) + &entry(day, day * 10 + 1);
            let bytes = match name.rsplit('.').next() {
                // Several members, as `cat a.gz b.gz` makes them.
                Some("gz") => {
                    [gzip(&entry(day, day * 10)), gzip(&entry(day, day * 10 + 1))].concat()
                }
                Some("zst") => zstd::encode_all(text.as_bytes(), 3).expect("in memory"),
                _ => text.into_bytes(),
            };
            scratch.write(name, &bytes);
        }
        scratch.write("access.log", b"192.0.2.7 - - [x] \"GET / HTTP/1.1\" 200 1\n");
        scratch.write("core", &[0; 9000]);
        symlink(scratch.path("error.log"), scratch.path("current")).expect("a link");
        let expected: Vec<_> = (2..6u64)
            .zip(names)
            .flat_map(|(day, name)| [(day * 10, name, 1), (day * 10 + 1, name, 2)])
            .collect();
        let pattern = scratch.path("error*");
        for path in [&scratch.0, &pattern] {
            let mut loaded = load(path);
            assert!(loaded.notices.is_empty(), "{:?}", loaded.notices);
            let mut entries = loaded.entries();
            // Which of the two names of one file is taken does not matter.
            entries
                .iter_mut()
                .filter(|e| e.1 == "current")
                .for_each(|e| e.1 = "error.log".into());
            assert_eq!(entries, found(&expected), "{}", path.display());
        }
        // One file is that file.
        assert_eq!(load(&scratch.path(names[0])).entries(), found(&expected[..2]));
    }
}

#[test]
fn a_damaged_file_loses_nothing_else() {
    let scratch = Scratch::new("damaged");
    scratch.write("error.log", entry(9, 9).as_bytes());
    let text: String = (0..20_000).map(|number| entry(2, number)).collect();
    let packed = zstd::encode_all(text.as_bytes(), 1).expect("in memory");
    for (name, bytes) in [("error.log.1.gz", gzip(&text)), ("error.log.1.zst", packed)] {
        let path = scratch.write(name, &bytes[..bytes.len() * 3 / 4]);
        let mut loaded = load(&scratch.0);
        let entries = loaded.entries();
        assert!(entries.len() > 1000, "{name}: {}", entries.len());
        assert_eq!(entries.last(), Some(&(9, "error.log".to_owned(), 1)));
        assert_eq!(loaded.notices.len(), 1, "{:?}", loaded.notices);
        assert!(
            loaded.notices[0].contains(name)
                && loaded.notices[0].contains(&format!("with line {}", entries.len() - 1))
        );
        fs::remove_file(path).expect("a file");
    }
}

#[test]
fn what_lies_long_before_the_capture_is_left_out() {
    let scratch = Scratch::new("old");
    let october = entry(2, 1).replace("2026/11/02", "2026/10/02");
    let path = scratch.write("error.log.1", october.as_bytes());
    scratch.write("error.log", (october.clone() + &entry(2, 2)).as_bytes());
    let expected = found(&[(2, "error.log", 2)]);
    assert_eq!(load(&scratch.0).entries(), expected);
    assert!(load(&path).notices[0].contains("before the capture"));
    // A time that was given to it in October says the same; one of the year 1970 says nothing.
    for (seconds, read) in [(1_791_000_000, 0), (0, 1)] {
        let time = std::time::UNIX_EPOCH + Duration::from_secs(seconds);
        let file = File::options().write(true).open(&path).expect("a file");
        file.set_modified(time).expect("another time");
        let folder = scratch.0.as_os_str().as_bytes();
        let found = Place::new(LogKind::Error, folder, BEGIN).files(&Session::new());
        assert_eq!(found.files.len(), 1 + read, "{seconds}");
    }
}

#[test]
fn a_log_that_grows_is_followed_through_rotation() {
    let scratch = Scratch::new("rename");
    scratch.write("error.log", (entry(2, 1) + &entry(2, 2)).as_bytes());
    let mut loaded = load(&scratch.path("error.log"));
    assert_eq!(loaded.entries().len(), 2);
    assert_eq!(loaded.follow().len(), 2);
    // A line that is not whole yet waits for its rest.
    let whole = entry(3, 3);
    scratch.append("error.log", &whole.as_bytes()[..50]);
    assert_eq!(loaded.follow().len(), 2);
    scratch.append("error.log", &whole.as_bytes()[50..]);
    let expected = [(1, "error.log", 1), (2, "error.log", 2), (3, "error.log", 3)];
    assert_eq!(loaded.follow(), found(&expected));
    // logrotate: rename, create, and nginx writes to the old one until it reopens its logs.
    fs::rename(scratch.path("error.log"), scratch.path("error.log.1")).expect("a rename");
    scratch.append("error.log.1", entry(3, 4).as_bytes());
    let moved = [(1, "error.log.1", 1), (2, "error.log.1", 2), (3, "error.log.1", 3)];
    let mut expected = [&moved[..], &[(4, "error.log.1", 4)]].concat();
    assert_eq!(loaded.follow(), found(&expected));
    scratch.write("error.log", entry(4, 5).as_bytes());
    scratch.append("error.log.1", entry(4, 6).as_bytes());
    expected.extend([(6, "error.log.1", 5), (5, "error.log", 1)]);
    assert_eq!(loaded.follow(), found(&expected));
    // A second rotation, which packs the first one's file.
    scratch.write("error.log.2.gz", &gzip("gone"));
    fs::remove_file(scratch.path("error.log.1")).expect("a file");
    fs::rename(scratch.path("error.log"), scratch.path("error.log.1")).expect("a rename");
    scratch.write("error.log", (entry(5, 7) + &entry(5, 8)).as_bytes());
    expected[5].1 = "error.log.1";
    expected.extend([(7, "error.log", 1), (8, "error.log", 2)]);
    assert_eq!(loaded.follow(), found(&expected));
    assert_eq!(loaded.logs.followed.len(), 2);
}

#[test]
fn a_log_that_is_copied_and_truncated_is_followed() {
    let scratch = Scratch::new("copytruncate");
    scratch.write("error.log", (entry(2, 1) + &entry(2, 2)).as_bytes());
    let mut loaded = load(&scratch.0);
    scratch.write("error.log", b"");
    assert_eq!(loaded.follow().len(), 2);
    scratch.append("error.log", entry(3, 3).as_bytes());
    let expected = [(1, "error.log", 1), (2, "error.log", 2), (3, "error.log", 1)];
    assert_eq!(loaded.follow(), found(&expected));
    // The file disappears, and another one comes.
    fs::remove_file(scratch.path("error.log")).expect("a file");
    assert_eq!(loaded.follow().len(), 3);
    scratch.write("error.log", entry(4, 4).as_bytes());
    assert_eq!(loaded.follow().last(), Some(&(4, "error.log".to_owned(), 1)));
}

/// On it rests whether a reset that has no entry is later than the log.
#[test]
fn the_report_tells_how_far_a_log_has_grown() {
    let scratch = Scratch::new("span");
    scratch.write("error.log", entry(2, 1).as_bytes());
    let mut loaded = load(&scratch.0);
    scratch.append("error.log", entry(3, 2).as_bytes());
    scratch.write("error-2.log", entry(4, 3).as_bytes());
    loaded.follow();
    let report = loaded.session.report();
    let lines: Vec<_> =
        report.parts.iter().flat_map(|part| loaded.session.report_lines(part)).collect();
    let spans: Vec<&str> =
        lines.iter().map(|line| line.trim()).filter(|line| line.starts_with("2026/")).collect();
    let day = |from, to| format!("2026/11/{from:02} 10:00:00 to 2026/11/{to:02} 10:00:00");
    assert_eq!(spans, [day(2, 3), day(4, 4)]);
}

/// What a copy holds and was not read before, as logrotate's `copytruncate` leaves it, is read.
#[test]
fn what_was_copied_before_it_was_read_is_not_lost() {
    for folder in [false, true] {
        let scratch = Scratch::new(&format!("copied-{folder}"));
        scratch.write("error.log", (entry(2, 1) + &entry(2, 2)).as_bytes());
        let mut loaded =
            load(&if folder { scratch.0.clone() } else { scratch.path("error.log") });
        scratch.append("error.log", entry(3, 3).as_bytes());
        fs::copy(scratch.path("error.log"), scratch.path("error.log.1")).expect("a copy");
        // It has grown again, to its old length, or beyond it.
        scratch.write("error.log", (entry(4, 4) + &entry(4, 5)).as_bytes());
        let mut expected = vec![(1, "error.log.1", 1), (2, "error.log.1", 2)];
        expected.extend([(3, "error.log.1", 3), (4, "error.log", 1), (5, "error.log", 2)]);
        assert_eq!(loaded.follow(), found(&expected), "folder: {folder}");
        // The next time, the older copy is packed.
        scratch.append("error.log", entry(5, 6).as_bytes());
        scratch.write("error.log.2.gz", &gzip(&[1, 2, 3].map(|n| entry(2, n)).concat()));
        fs::copy(scratch.path("error.log"), scratch.path("error.log.1")).expect("a copy");
        scratch.write("error.log", b"");
        expected[..3].iter_mut().for_each(|entry| entry.1 = "error.log.1");
        let read: Vec<u64> = loaded.follow().iter().map(|entry| entry.0).collect();
        assert_eq!(read, [1, 2, 3, 4, 5, 6], "folder: {folder}");
        assert_eq!(loaded.follow().last(), Some(&(6, "error.log.1".to_owned(), 3)));
    }
}

/// logrotate's `compress` without `delaycompress`, and then its next rotation.
#[test]
fn a_log_that_was_packed_at_once_is_read_to_its_end() {
    type Pack = fn(&str) -> Vec<u8>;
    let zstd: Pack = |text| zstd::encode_all(text.as_bytes(), 3).expect("in memory");
    for (ending, pack) in [("gz", gzip as Pack), ("zst", zstd)] {
        for folder in [false, true] {
            let scratch = Scratch::new(&format!("packed-{ending}-{folder}"));
            let log = scratch.write("error.log", (entry(2, 1) + &entry(2, 2)).as_bytes());
            let mut loaded = load(if folder { &scratch.0 } else { &log });
            let packed = format!("error.log.1.{ending}");
            fs::remove_file(&log).expect("a file");
            scratch.write(&packed, &pack(&[1, 2, 3].map(|n| entry(2, n)).concat()));
            scratch.write("error.log", entry(4, 4).as_bytes());
            let packed = packed.as_str();
            let mut expected = vec![(1, packed, 1), (2, packed, 2), (3, packed, 3)];
            expected.push((4, "error.log", 1));
            assert_eq!(loaded.follow(), found(&expected), "{packed}, folder: {folder}");
            let older = format!("error.log.2.{ending}");
            fs::rename(scratch.path(packed), scratch.path(&older)).expect("a rename");
            expected[..3].iter_mut().for_each(|entry| entry.1 = &older);
            assert_eq!(loaded.follow(), found(&expected), "{older}, folder: {folder}");
        }
    }
}

/// A log that begins otherwise than before is another one, however long it is.
#[test]
fn a_log_that_has_grown_again_is_not_taken_for_its_rest() {
    let scratch = Scratch::new("again");
    scratch.write("error.log", entry(2, 1).as_bytes());
    let mut loaded = load(&scratch.path("error.log"));
    let mut expected = vec![(1, "error.log", 1)];
    // As long as before, then longer.
    for text in [entry(3, 2), entry(3, 3) + &entry(3, 4)] {
        scratch.write("error.log", text.as_bytes());
        let number = expected.len() as u64 + 1;
        expected.push((number, "error.log", 1));
        expected.extend((number == 3).then_some((4, "error.log", 2)));
        assert_eq!(loaded.follow(), found(&expected));
        assert_eq!(loaded.follow(), found(&expected));
    }
}

#[test]
fn logs_that_appear_later_are_read_once() {
    for pattern in ["", "*rror*"] {
        let scratch = Scratch::new(if pattern.is_empty() { "later" } else { "later-glob" });
        scratch.write("error.log", entry(2, 1).as_bytes());
        scratch.write("access.log", b"192.0.2.7 - - [x] \"GET / HTTP/1.1\" 200 1\n");
        let mut loaded = load(&scratch.path(pattern));
        let mut expected = vec![(1, "error.log", 1)];
        assert_eq!(loaded.follow(), found(&expected));
        // A second server gets a log of its own, empty at first, and is logged to.
        scratch.write("error-2.log", b"");
        assert_eq!(loaded.follow(), found(&expected));
        scratch.append("error-2.log", &entry(3, 2).as_bytes()[..9]);
        assert_eq!(loaded.follow(), found(&expected));
        scratch.append("error-2.log", &entry(3, 2).as_bytes()[9..]);
        expected.push((2, "error-2.log", 1));
        assert_eq!(loaded.follow(), found(&expected));
        // Rotation: `create`, and nginx goes on in the old log until it reopens its logs.
        fs::rename(scratch.path("error.log"), scratch.path("error.log.1")).expect("a rename");
        scratch.write("error.log", b"");
        scratch.append("error.log.1", entry(3, 3).as_bytes());
        expected[0].1 = "error.log.1";
        expected.push((3, "error.log.1", 2));
        assert_eq!(loaded.follow(), found(&expected));
        scratch.append("error.log", entry(4, 4).as_bytes());
        scratch.append("error-2.log", entry(4, 5).as_bytes());
        expected.extend([(5, "error-2.log", 2), (4, "error.log", 1)]);
        assert_eq!(loaded.follow(), found(&expected));
        // Two rotations between two looks, the first of a log that was never seen under its
        // first name; a copy that somebody made; and other files.
        fs::rename(scratch.path("error.log.1"), scratch.path("error.log.3")).expect("a rename");
        fs::rename(scratch.path("error.log"), scratch.path("error.log.2")).expect("a rename");
        scratch.write("error.log.1", entry(5, 6).as_bytes());
        scratch.write("error.log", entry(6, 7).as_bytes());
        fs::copy(scratch.path("error-2.log"), scratch.path("error-2.log.bak")).expect("a copy");
        scratch.write("terror.bin", &[0; 9000]);
        symlink(scratch.path("error.log"), scratch.path("error.now")).expect("a link");
        expected[0].1 = "error.log.3";
        expected[2].1 = "error.log.3";
        expected[4].1 = "error.log.2";
        expected.extend([(6, "error.log.1", 1), (7, "error.log", 1)]);
        for _ in 0..2 {
            let mut entries = loaded.follow();
            let linked = entries.iter_mut().filter(|entry| entry.1 == "error.now");
            linked.for_each(|entry| entry.1 = "error.log".to_owned());
            assert_eq!(entries, found(&expected));
        }
    }
}

/// What there was nothing of when the capture began.
#[test]
fn a_log_that_was_named_before_it_was_there_is_read() {
    let scratch = Scratch::new("awaited");
    for (name, file) in [("awaited.log", "awaited.log"), ("folder", "folder/error.log")] {
        fs::create_dir_all(scratch.path("folder")).expect("a directory");
        let mut loaded = load(&scratch.path(name));
        assert_eq!(loaded.notices.len(), 1, "{:?}", loaded.notices);
        assert_eq!(loaded.follow(), []);
        scratch.write(file, entry(2, 1).as_bytes());
        let name = file.rsplit('/').next().expect("a name");
        assert_eq!(loaded.follow(), found(&[(1, name, 1)]));
    }
}

#[test]
fn only_the_newest_of_many_logs_are_followed() {
    let scratch = Scratch::new("many");
    let many = limits::LOGS_FOLLOWED as u64 + 6;
    for number in 1..=many {
        let stamp = format!("10:{:02}:{:02}", number / 60, number % 60);
        let text = entry(2, number as u32).replace("10:00:00", &stamp);
        scratch.write(&format!("error-{number}.log"), text.as_bytes());
    }
    let mut loaded = load(&scratch.0);
    assert_eq!(loaded.entries().len() as u64, many);
    assert_eq!(loaded.logs.followed.len(), limits::LOGS_FOLLOWED);
    scratch.append("error-1.log", entry(3, 1).as_bytes());
    scratch.append(&format!("error-{many}.log"), entry(3, many as u32).as_bytes());
    scratch.write("error-0.log", entry(4, 1000).as_bytes());
    let numbers: Vec<u64> = loaded.follow().iter().map(|entry| entry.0).collect();
    assert_eq!(numbers[many as usize..], [many, 1000]);
    assert_eq!(loaded.follow().len(), numbers.len());
    assert_eq!(loaded.logs.followed.len(), limits::LOGS_FOLLOWED);
}

/// Access logs are followed in the same way.
#[test]
fn access_logs_that_appear_later_are_read_once() {
    let line = |connection: u32, day: i64| {
        format!(
            "{connection} {}.500 4{connection} 499\n",
            BEGIN.0 / 1_000_000_000 + day * 86_400
        )
    };
    let scratch = Scratch::new("accesses");
    let text: String = (1..=5).map(|number| entry(2, number)).collect();
    let log = scratch.write("error.log", text.as_bytes());
    let mut loaded = load(&log);
    let format = "$connection $msec $remote_port $status";
    loaded.session.set_access_log_format(format).expect("a format");
    scratch.write("access.log", line(1, 1).as_bytes());
    let folder = scratch.0.as_os_str().as_bytes();
    let said = loaded.logs.load(LogKind::Access, folder, BEGIN, &mut loaded.session);
    assert_eq!(said, []);
    let mut count = || {
        loaded.follow();
        loaded.session.log().accesses().count()
    };
    assert_eq!(count(), 1);
    fs::rename(scratch.path("access.log"), scratch.path("access.log.1")).expect("a rename");
    scratch.append("access.log.1", line(2, 1).as_bytes());
    scratch.write("access.log", line(3, 1).as_bytes());
    assert_eq!(count(), 3);
    scratch.write("access-2.log", line(4, 1).as_bytes());
    assert_eq!(count(), 4);
    scratch.write("access.log.1.gz", &gzip(&[1, 2, 5].map(|n| line(n, 1)).concat()));
    fs::remove_file(scratch.path("access.log.1")).expect("a file");
    assert_eq!(count(), 5);
    assert_eq!(count(), 5);
}

#[test]
fn a_log_that_ended_within_a_line_goes_on_behind_it() {
    let scratch = Scratch::new("torn");
    let (one, two) = (entry(2, 1), entry(2, 2));
    scratch.write("error.log", (one.clone() + two.trim_end()).as_bytes());
    let mut loaded = load(&scratch.path("error.log"));
    assert_eq!(loaded.entries().len(), 2);
    scratch.append("error.log", format!(" more\n{}", entry(2, 3)).as_bytes());
    assert_eq!(loaded.follow().last(), Some(&(3, "error.log".to_owned(), 3)));
}

#[test]
fn an_empty_log_is_waited_for() {
    let scratch = Scratch::new("empty-log");
    scratch.write("error.log", b"");
    scratch.write("error.log.1", entry(2, 1).as_bytes());
    let mut loaded = load(&scratch.0);
    assert!(loaded.notices.is_empty(), "{:?}", loaded.notices);
    scratch.append("error.log", entry(3, 2).as_bytes());
    assert_eq!(loaded.follow(), found(&[(1, "error.log.1", 1), (2, "error.log", 1)]));
}

#[test]
fn a_bomb_takes_no_memory() {
    let scratch = Scratch::new("bomb");
    let zeros = vec![0; 1 << 20];
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    (0..100).for_each(|_| encoder.write_all(&zeros).expect("in memory"));
    let path = scratch.write("error.log.gz", &encoder.finish().expect("in memory"));
    let before = peak_memory();
    let said = load(&path).notices;
    assert!(peak_memory() - before < 64 << 10, "KiB beyond {before}");
    assert!(said[0].contains("no text"), "{said:?}");
}

#[test]
fn packed_logs_are_bounded_together() {
    // Each may unpack to a multiple of its size, and all of them to so much beyond that.
    let slack = source::Slack::new(1000);
    let unpack = |bytes| {
        let inner = std::io::repeat(b'\n');
        let bounded = source::Bounded { inner, own: 100, slack: slack.clone() };
        bounded.take(bytes).read_to_end(&mut Vec::new()).is_ok()
    };
    assert!(unpack(600) && unpack(600), "500 beyond each");
    assert!(unpack(100) && !unpack(101), "nothing is left to any beyond its own");

    // A hundred logs of an entry and 300 KB of empty lines, which are packed to some 500 bytes.
    let scratch = Scratch::new("bombs");
    for number in 0..100 {
        let text = entry(1, number) + &"\n".repeat(300_000);
        scratch.write(&format!("error.log.{number}.gz"), &gzip(&text));
    }
    let mut session = Session::new();
    session.begin_at(BEGIN);
    let mut logs = Logs { slack: source::Slack::new(1_000_000), ..Logs::default() };
    let notices =
        logs.load(LogKind::Error, scratch.0.as_os_str().as_bytes(), BEGIN, &mut session);
    let told = notices.first().expect("a notice").to_string();
    assert!(told.contains("100 times their size") && told.contains("1024 MiB"), "{told}");
    assert!((90..100).contains(&notices.len()), "{} are cut", notices.len());
}

#[test]
fn holes_are_passed_over() {
    let scratch = Scratch::new("holes");
    let path = scratch.write("error.log", entry(1, 1).as_bytes());
    let file = fs::OpenOptions::new().append(true).open(&path).expect("the log");
    let before = file.metadata().expect("its length").len();
    file.set_len(4 << 30).expect("a hole");
    let append = |text: &str| (&file).write_all(text.as_bytes()).expect("some room");
    append(&format!("\n{}", entry(1, 2)));

    let mut source = source::Source::open(&path, &source::Slack::default()).expect("the log");
    // What is added while it is read is for the next time.
    append(&entry(1, 3));
    let (mut block, mut reads, mut len) = (vec![0; 64 << 10], 0, 0);
    while let Ok(some @ 1..) = source.read(&mut block) {
        reads += 1;
        len += some as u64 + source.passed();
    }
    assert_eq!(len, (4 << 30) + 1 + entry(1, 2).len() as u64);
    assert!(reads < 100, "{reads} reads of {before} bytes and a hole");

    let mut loaded = load(&path);
    let wanted = found(&[(1, "error.log", 1), (2, "error.log", 3), (3, "error.log", 4)]);
    assert_eq!(loaded.entries(), wanted);
    append(&entry(1, 4));
    assert_eq!(loaded.follow().last(), found(&[(4, "error.log", 5)]).first());
}

/// The most memory that this process ever had, in KiB.
fn peak_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a line");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
