// SPDX-License-Identifier: GPL-2.0-or-later
//! What has to hold of any traffic, and of any traffic with any logs: played twice, once with
//! questions all the while, and once with none before the end.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;

use rstdiag::abi;

use super::host::{Host, Value, Wanted, FIELDS};
use super::lines::{self, Line};
use super::rules::{self, Captured, Claims};
use super::script::{self, Input, Step};

/// Takes a script of segments.
pub fn segments(data: &[u8]) {
    let steps = script::play(&mut Input(data));
    run(&[], steps, None);
}

/// Takes settings, and a script of segments and lines of logs.
pub fn capture_and_logs(data: &[u8]) {
    let mut input = Input(data);
    let options = lines::options(&mut input);
    let steps = script::play(&mut input);
    let logs = Logs::before(&steps);
    run(&options, steps, Some(logs));
}

/// Two logs in a folder of their own.
struct Logs {
    folder: PathBuf,
}

impl Logs {
    /// The logs as they are when the capture is opened: with what stands before the first
    /// [`Step::Grow`].
    fn before(steps: &[Step]) -> Logs {
        let name =
            format!("rstdiag-fuzz-{}-{:?}", std::process::id(), std::thread::current().id());
        let logs = Logs { folder: std::env::temp_dir().join(name) };
        fs::create_dir_all(&logs.folder).expect("a folder");
        for is_access in [false, true] {
            File::create(logs.path(is_access)).expect("a log");
        }
        logs.append(steps);
        logs
    }

    fn path(&self, is_access: bool) -> PathBuf {
        self.folder.join(if is_access { "access.log" } else { "error.log" })
    }

    /// Writes the lines that stand before the next [`Step::Grow`].
    fn append(&self, steps: &[Step]) {
        let lines = steps.iter().take_while(|step| !matches!(step, Step::Grow));
        let lines: Vec<&Line> = lines
            .filter_map(|step| if let Step::Line(line) = step { Some(line) } else { None })
            .collect();
        for is_access in [false, true] {
            let mut log =
                File::options().append(true).open(self.path(is_access)).expect("a log");
            for line in lines.iter().filter(|line| line.is_access == is_access) {
                log.write_all(&line.text).expect("a line");
            }
        }
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Fields of which packets alone decide.
fn of_packets() -> Wanted {
    let mut wanted = [0; FIELDS];
    for field in [
        abi::RSTDIAG_FIELD_PHASE,
        abi::RSTDIAG_FIELD_SEVERITY,
        abi::RSTDIAG_FIELD_TRANSACTION,
        abi::RSTDIAG_FIELD_RESET_BY,
        abi::RSTDIAG_FIELD_CAUSE,
        abi::RSTDIAG_FIELD_EVIDENCE,
    ] {
        wanted[field as usize] = 1;
    }
    wanted
}

/// The values of wanted fields among all.
fn only<'v>(values: &'v [Value], wanted: &Wanted) -> Vec<&'v Value> {
    values.iter().filter(|value| wanted[value.field as usize] != 0).collect()
}

fn run(options: &[(i32, &str)], steps: Vec<Step>, logs: Option<Logs>) {
    let mut hosts = [Host::new(), Host::new()];
    for host in &mut hosts {
        for (option, value) in options {
            host.option(*option, value.as_bytes());
        }
        if let Some(logs) = &logs {
            let path = |is_access| logs.path(is_access).to_string_lossy().into_owned();
            host.option(abi::RSTDIAG_OPTION_ERROR_LOG, path(false).as_bytes());
            host.option(abi::RSTDIAG_OPTION_ACCESS_LOG, path(true).as_bytes());
        }
    }
    let [asked, silent] = &mut hosts;
    let mut captured = Captured::default();
    for (index, step) in steps.iter().enumerate() {
        match step {
            Step::Packet(packet) => {
                let taken = asked.feed(packet);
                assert_eq!(taken, silent.feed(packet));
                if taken {
                    captured.add(packet);
                    first_visit(asked, packet.frame, packet.layer);
                }
            }
            Step::Ask(what) => ask(asked, &captured, *what),
            Step::Report => asked.report().iter().for_each(|part| rules::check_part(part)),
            Step::Grow => {
                if let Some(logs) = &logs {
                    logs.append(&steps[index + 1..]);
                    // Who asks for a report waits for what was added, so both know it now.
                    assert_eq!(asked.report(), silent.report(), "the report while it grows");
                }
            }
            Step::Line(_) => {}
        }
    }
    in_the_end(asked, silent, &captured);
}

/// What a host asks of a frame that it dissects for the first time.
fn first_visit(host: &mut Host, frame: u32, layer: u32) {
    let known = host.frame(frame, layer).expect("a frame that was fed");
    if known.flags & abi::RSTDIAG_FRAME_CLOSED != 0 {
        host.values(frame, layer, abi::RSTDIAG_SO_FAR, None).expect("a verdict");
    }
}

/// Asks something in the midst.
fn ask(host: &mut Host, captured: &Captured, what: u8) {
    let places: Vec<_> = captured.places().collect();
    let Some(&(frame, layer, _)) = places.get(usize::from(what & 0x1f) % places.len().max(1))
    else {
        assert!(host.values(1, 0, abi::RSTDIAG_FINAL, None).is_none());
        return;
    };
    let wanted = of_packets();
    let (when, wanted) = match what >> 5 {
        0 => (abi::RSTDIAG_SO_FAR, None),
        1 => (abi::RSTDIAG_SO_FAR, Some(&wanted)),
        2 => (abi::RSTDIAG_FINAL, Some(&wanted)),
        _ => (abi::RSTDIAG_FINAL, None),
    };
    assert!(host.values(frame, layer, when, wanted).is_some());
    assert!(host.values(u32::MAX, layer, when, wanted).is_none());
    assert!(host.frame(frame, u32::MAX).is_none());
}

/// Asks everything when all has been fed: forwards of the one, backwards of the other.
fn in_the_end(asked: &mut Host, silent: &mut Host, captured: &Captured) {
    assert_eq!(asked.notices(), silent.notices());
    // Verdicts between frames may leave what all streams tell out of date; a report does not.
    let report = asked.report();
    assert_eq!(report, silent.report());
    let verdict = |host: &mut Host, (frame, layer, stream): (u32, u32, u32), when| {
        let known = host.frame(frame, layer).expect("a frame that was fed");
        assert_eq!(known.stream, stream);
        host.values(frame, layer, when, None).expect("a verdict")
    };
    for when in [abi::RSTDIAG_FINAL, abi::RSTDIAG_SO_FAR] {
        let forwards: Vec<_> =
            captured.places().map(|place| verdict(asked, place, when)).collect();
        let mut backwards: Vec<_> =
            captured.places().rev().map(|place| verdict(silent, place, when)).collect();
        backwards.reverse();
        assert_eq!(forwards, backwards, "the order of questions matters");

        let wanted = of_packets();
        let mut claims = Claims::new();
        let mut of_streams = BTreeMap::new();
        for ((frame, layer, stream), values) in captured.places().zip(&forwards) {
            let first = *of_streams.entry(stream).or_insert(values);
            assert_eq!(first, values, "one stream, two verdicts");
            rules::check(stream, values, captured, &mut claims);
            let few = asked.values(frame, layer, when, Some(&wanted)).expect("a verdict");
            let few: Vec<_> = few.iter().collect();
            assert_eq!(few, only(values, &wanted), "who asks for less gets other values");
        }
    }
    assert_eq!(report, asked.report());
    report.iter().for_each(|part| rules::check_part(part));
}
