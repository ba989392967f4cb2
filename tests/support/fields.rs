// SPDX-License-Identifier: GPL-2.0-or-later
//! A verdict as text, by the names of the public interface.

use std::collections::BTreeMap;

use rstdiag::correlate::verdict::Verdict;

/// What is said of the reset's origin once all streams are known, as in [`of_stream`].
pub fn of_origin(verdict: &Verdict<'_>) -> BTreeMap<&'static str, String> {
    let form = verdict.form().map(|form| form.word().to_owned());
    let cause = verdict.cause().map(|cause| cause.row.word.to_owned());
    let answers = verdict.answers().map(|frame| frame.to_string());
    let all = [("form", form), ("cause", cause), ("answers", answers)];
    all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

/// Fields that say something about the stream itself, by name without `rstdiag.`; what is
/// absent is left out. A caveat that does not hold is absent, too.
pub fn of_stream(verdict: &Verdict<'_>) -> BTreeMap<&'static str, String> {
    let mut out = BTreeMap::new();
    let mut put = |name, value: Option<String>| {
        if let Some(value) = value {
            out.insert(name, value);
        }
    };
    let closing = verdict.first_end();
    let resets = verdict.resets();
    let caveats: Vec<_> = verdict.caveats().words().collect();
    put("phase", verdict.phase().map(|phase| phase.word().to_owned()));
    put("stage", Some(verdict.stage().word().to_owned()));
    put("transaction", Some(verdict.transaction().word().to_owned()));
    put("severity", Some(verdict.severity().word().to_owned()));
    put("close", Some(verdict.close().word().to_owned()));
    put("close.by", verdict.closed_by().map(|side| side.word().to_owned()));
    put("close.frame", closing.map(|closing| closing.at.frame.to_string()));
    put(
        "close.piggybacked",
        closing.and_then(|closing| closing.piggybacked).map(|rides| rides.to_string()),
    );
    put("reset.by", verdict.reset_by().map(|by| by.word().to_owned()));
    put("reset.frame", resets.map(|resets| resets.at.frame.to_string()));
    put("reset.count", resets.map(|resets| resets.count.to_string()));
    let text = resets.map(|resets| String::from_utf8_lossy(&resets.text).into_owned());
    put("reset.text", text.filter(|text| !text.is_empty()));
    put("idle", verdict.idle().map(|ns| format!("{}ms", ns / 1_000_000)));
    put("requests", verdict.requests().map(|count| count.to_string()));
    put("responses", verdict.responses().map(|count| count.to_string()));
    put("request", verdict.request().map(|request| request.replace(' ', ":")));
    put("status", verdict.response_status().map(|status| status.to_string()));
    put("acked", verdict.response_acked().map(|acked| acked.to_string()));
    put("missing", verdict.response_missing().map(|missing| missing.to_string()));
    put("caveats", Some(caveats.join(",")).filter(|all| !all.is_empty()));
    put("nginx_sees", verdict.nginx_sees().map(|sees| sees.to_string()));
    put("client", Some(verdict.client().to_string()));
    out
}
