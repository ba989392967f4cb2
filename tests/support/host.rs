// SPDX-License-Identifier: GPL-2.0-or-later
//! Real tshark and sharkd with the plugin that this build made.
//!
//! Run as root, Wireshark ignores `WIRESHARK_PLUGIN_DIR` and loads nothing from it, and every
//! test would pass by testing nothing. So the host runs as another user, from a folder that
//! this user can read, and no test goes on before tshark has listed the plugin.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

pub use super::lab::{is_root, open_up, readable_dir};

/// The user that the host runs as, where the tests run as root: nobody.
const NOBODY: &str = "65534";

/// A folder that the host can read, with the plugin in it.
pub struct Host {
    dir: PathBuf,
}

/// The host, set up once for all tests of a program.
pub fn host() -> &'static Host {
    static HOST: OnceLock<Host> = OnceLock::new();
    HOST.get_or_init(|| {
        let host = Host { dir: readable_dir("host") };
        let epan = host.dir.join("plugins").join(version()).join("epan");
        fs::create_dir_all(&epan).unwrap();
        fs::copy(plugin(), epan.join("rstdiag.so")).unwrap();
        open_up(&host.dir);
        let listed = host.run("tshark", &["-G", "plugins"], "");
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        assert!(listed.contains("rstdiag.so"), "tshark does not list the plugin:\n{listed}");
        host
    })
}

/// Cargo builds the plugin beside the tests that need it.
pub fn plugin() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let plugin = tests.with_file_name("librstdiag.so");
    assert!(plugin.exists(), "{} was not built", plugin.display());
    plugin
}

/// The part of Wireshark's version that names its plugin folder.
pub fn version() -> String {
    let out = Command::new("tshark").arg("--version").output().expect("tshark is installed");
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let number =
        text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    let mut parts = number.expect("a version").split('.');
    format!("{}.{}", parts.next().unwrap(), parts.next().unwrap())
}

impl Host {
    /// A call of a program of the host, with the plugin or with none at all.
    pub fn command(&self, program: &str, args: &[&str], plugin: bool) -> Command {
        let mut command = Command::new("setpriv");
        if is_root() {
            command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]);
        }
        let plugins = if plugin { "plugins" } else { "no-plugins" };
        command
            .arg(program)
            .args(args)
            .env("WIRESHARK_PLUGIN_DIR", self.dir.join(plugins))
            .env("HOME", self.dir.join("home"))
            .env("TZ", "UTC");
        command
    }

    /// Runs a program of the host.
    pub fn run(&self, program: &str, args: &[&str], input: &str) -> Output {
        let mut child = self
            .command(program, args, true)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    /// Runs tshark and expects it to end well; returns what it printed.
    pub fn tshark(&self, args: &[&str]) -> (String, String) {
        let out = self.run("tshark", args, "");
        let stderr = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(out.status.success(), "tshark {args:?}: {}\n{stderr}", out.status);
        (String::from_utf8_lossy(&out.stdout).into_owned(), stderr)
    }

    /// Rows of fields, each field with all of its values. `options` are preferences of the
    /// plugin as `name:value`; `-2` and filters go to `more`.
    pub fn fields(
        &self,
        capture: &Path,
        options: &[String],
        more: &[&str],
        fields: &[&str],
    ) -> Vec<Vec<Vec<String>>> {
        let mut args = vec!["-n", "-r", capture.to_str().unwrap(), "-T", "fields"];
        args.extend(["-E", "separator=\u{1e}", "-E", "aggregator=\u{1f}"]);
        let options: Vec<String> = options.iter().map(|o| format!("rstdiag.{o}")).collect();
        options.iter().for_each(|option| args.extend(["-o", option]));
        args.extend(more);
        fields.iter().for_each(|field| args.extend(["-e", field]));
        let (out, _) = self.tshark(&args);
        let values = |text: &str| match text {
            "" => Vec::new(),
            _ => text.split('\u{1f}').map(str::to_owned).collect(),
        };
        out.lines().map(|line| line.split('\u{1e}').map(values).collect()).collect()
    }

    /// Asks sharkd, one request after the other; returns the results.
    pub fn sharkd(&self, requests: &[(&str, Value)]) -> Vec<Value> {
        let mut input = String::new();
        for (id, (method, params)) in requests.iter().enumerate() {
            let request = serde_json::json!({
                "jsonrpc": "2.0", "id": id + 1, "method": method, "params": params,
            });
            input.push_str(&format!("{request}\n"));
        }
        let out = self.run("sharkd", &["-"], &input);
        let out = String::from_utf8_lossy(&out.stdout).into_owned();
        let answers = out.lines().filter(|line| line.starts_with('{'));
        let answers: Vec<Value> = answers.map(|a| serde_json::from_str(a).unwrap()).collect();
        assert_eq!(answers.len(), requests.len(), "{out}");
        answers
            .into_iter()
            .map(|mut answer| {
                assert!(answer.get("error").is_none(), "{answer}");
                answer["result"].take()
            })
            .collect()
    }
}
