// SPDX-License-Identifier: GPL-2.0-or-later
//! Access lines of a real nginx, in formats as people write them, against what the client sent
//! (`lab/access_log.py`).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::fs;
use std::path::Path;
use std::process::Command;

use rstdiag::nginx::access_end;
use rstdiag::nginx::access_reader::{AccessLine, AccessLogReader, Keeper};
use rstdiag::nginx::log_format::{LogFormat, Variable};
use rstdiag::nginx::message::Shows;
use serde_json::Value;

/// Given to nginx and to us, byte by byte.
const FORMATS: &str = r#"log_format lines '$remote_addr:$remote_port $connection $connection_requests $status $msec "$request" $upstream_addr $upstream_status "$http_user_agent" $request_id';
log_format object escape=json '{"t":"$time_iso8601", "m":$msec,' '"s":"$status","r":"$request","ua":"$http_user_agent","ref":"$http_referer","user":"$remote_user","up":"$upstream_addr","ups":"$upstream_status","port":$remote_port,"sent":$bytes_sent,"xff":"$http_x_forwarded_for"}';
log_format bare escape=none $msec|${remote_port}|$request_uri|$http_user_agent|$status|$request_id|$server_addr:$server_port;
log_format tight "$remote_addr$status $request_time$bytes_sent\t\"$http_referer\" [$time_local] $body_bytes_sent $request_length $upstream_status $upstream_response_time $upstream_addr $pipe";
log_format named escape=json '{"upstream_addr":"$upstream_addr","status":$status,"request":"$request","remote_port":"$remote_port","http_user_agent":"$http_user_agent","msec":$msec,"upstream_status":"$upstream_status","http_referer":"$http_referer","remote_user":"$remote_user","bytes_sent":$bytes_sent,"more":{"n":[1,"}"]},"request_id":"$request_id"}';
"#;

/// The values that the truth has.
const TOLD: [Variable; 19] = [
    Variable::RemoteAddr,
    Variable::RemotePort,
    Variable::ServerAddr,
    Variable::ServerPort,
    Variable::ConnectionRequests,
    Variable::Status,
    Variable::BytesSent,
    Variable::BodyBytesSent,
    Variable::RequestLength,
    Variable::Request,
    Variable::RequestUri,
    Variable::RequestId,
    Variable::HttpReferer,
    Variable::HttpUserAgent,
    Variable::HttpXForwardedFor,
    Variable::RemoteUser,
    Variable::UpstreamAddr,
    Variable::UpstreamStatus,
    Variable::TimeLocal,
];

struct Check<'t> {
    name: &'t str,
    truth: &'t [Value],
    /// The variables of the format.
    variables: Vec<Variable>,
    values: usize,
    absent: usize,
}

impl Keeper for Check<'_> {
    fn keep(&mut self, line: AccessLine<'_>) {
        let Check { name, truth, .. } = *self;
        let entry = line.entry;
        let truth = &truth[line.number as usize - 1];
        let shown = entry.raw.escape_ascii();
        let stamp = entry.time().expect("a time");
        let (before, after) =
            (truth["before"].as_f64().unwrap(), truth["after"].as_f64().unwrap());
        let at = stamp.instant as f64 / 1e9;
        let early = before - stamp.resolution as f64 / 1e9;
        assert!(
            (early - 0.001..=after).contains(&at),
            "{name}: {before} {at} {after}: {shown}"
        );
        for variable in TOLD.into_iter().filter(|told| self.variables.contains(told)) {
            let Some(was) = truth[variable.name()].as_str() else { continue };
            let is = entry.value(variable).unwrap_or_default();
            let is: String = is.iter().map(|&b| char::from(b)).collect();
            if is.is_empty() && !was.is_empty() {
                self.absent += 1;
            } else {
                assert_eq!(is, was, "{name}: ${} of {shown}", variable.name());
                self.values += 1;
            }
        }
        let upstreams = truth["upstream_addr"].as_str().unwrap();
        if self.variables.contains(&Variable::UpstreamAddr) {
            let attempts = entry.attempts();
            assert_eq!(attempts.len(), upstreams.matches("127.").count(), "{shown}");
            let passes = upstreams.matches(" : ").count();
            assert_eq!(attempts.last().map_or(0, |last| last.pass), passes, "{shown}");
            if let Some(last) = attempts.last() {
                assert_eq!((last.peer.is_some(), last.status), (true, Some(200)), "{shown}");
            }
        }
        let told = matches!(truth["status"].as_str(), Some("400" | "444"));
        let tells = access_end::classify(&entry).filter(|end| end.shows != Shows::CutAnswer);
        assert_eq!(tells.is_some(), told, "{shown}");
    }
}

#[test]
fn lines_of_a_real_nginx_are_what_the_client_sent() {
    // SAFETY: takes nothing, changes nothing, cannot fail.
    if unsafe { libc::geteuid() } != 0 {
        eprintln!("SKIPPED: the lab makes a network namespace, which takes root");
        return;
    }
    let dir = std::env::temp_dir().join(format!("rstdiag-access-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    let formats = dir.join("formats");
    fs::write(&formats, FORMATS).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab/access_log.py");
    let out = Command::new("unshare")
        .args(["--net", "python3"])
        .args([script.as_path(), &dir, &formats])
        .output()
        .expect("unshare");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let truth: Vec<Value> =
        serde_json::from_slice(&fs::read(dir.join("truth.json")).unwrap()).unwrap();
    assert!(truth.len() >= 10);
    let directives = FORMATS.lines().map(|line| {
        let name = line.split(' ').nth(1).unwrap();
        (name, if name == "named" { "json" } else { line }, line)
    });
    let combined = "$remote_addr - $remote_user [$time_local] \"$request\" $status \
                    $body_bytes_sent \"$http_referer\" \"$http_user_agent\"";
    for (name, text, holds) in directives.chain([("combined", "combined", combined)]) {
        let log = fs::read(dir.join(format!("{name}.log"))).unwrap();
        let variables = LogFormat::parse(holds).unwrap();
        let variables = variables.parts().iter().filter_map(|part| match part {
            rstdiag::nginx::log_format::Part::Variable(name) => Variable::of(name.as_bytes()),
            _ => None,
        });
        let variables = variables.collect();
        let mut check = Check { name, truth: &truth, variables, values: 0, absent: 0 };
        let mut reader = AccessLogReader::new(LogFormat::parse(text).unwrap());
        log.chunks(100).for_each(|piece| reader.push(piece, &mut check));
        let counts = reader.finish(&mut check);
        assert_eq!(reader.complaint(), None, "{name}");
        assert_eq!(counts.entries, truth.len() as u64, "{name}");
        println!("{name}: {} values, {} left out", check.values, check.absent);
        assert!(check.absent as u64 <= counts.ambiguous * 2, "{name}: {}", check.absent);
        assert!(check.values >= 5 * check.absent && check.values > 40, "{name}");
    }
    fs::remove_dir_all(&dir).unwrap();
}
