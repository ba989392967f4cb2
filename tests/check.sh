#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Everything that has to hold: what `make test` runs, and CI.
set -euo pipefail
cd "$(dirname "$0")/.."

step() { printf '\n== %s\n' "$*"; }

step "format"
cargo fmt --check
cargo fmt --check --manifest-path fuzz/Cargo.toml
clang-format --dry-run -Werror include/*.h wireshark/*.[ch] tests/c/*.c

step "scripts"
shellcheck .ci/run tests/*.sh tests/gui/*.sh

# Among the lints is the one that knows what the oldest compiler in Cargo.toml lacks.
step "lints, with Wireshark and without"
RSTDIAG_WERROR=1 cargo clippy --locked --all-targets -- -D warnings
cargo clippy --locked --all-targets --no-default-features -- -D warnings

step "lints of the fuzz targets"
# They are not linked, so libFuzzer, which this names, need not be there.
CUSTOM_LIBFUZZER_PATH=/libfuzzer.a \
    cargo clippy --locked --manifest-path fuzz/Cargo.toml --all-targets -- -D warnings

step "documentation"
RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --quiet

# tests/dependencies.rs asks the same of the crates in the plugin, on any machine. The list of
# advisories is on another host, which not every machine reaches.
step "terms and origin of the dependencies"
if command -v cargo-deny >/dev/null; then
    cargo deny --locked check bans licenses sources
    cargo deny --locked fetch db && cargo deny --locked check advisories
else
    echo "there is no cargo-deny here (cargo install cargo-deny)"
fi

step "the C code with AddressSanitizer and UndefinedBehaviorSanitizer"
tests/sanitize.sh

step "the tests, built"
cargo test --profile checked --locked --lib --tests --no-run

step "all tests, with the installed Wireshark: $(tshark --version 2>/dev/null | head -n 1)"
results=$(mktemp)
trap 'rm -f "$results"' EXIT
status=0
TIMEFORMAT=$'\nprocessor time of all tests: %U s user, %S s system; %R s went by'
time cargo test --profile checked --locked --lib --tests --no-fail-fast 2>&1 | tee "$results" || status=$?

step "totals"
awk '
    $1 == "Running" { program = $2 == "unittests" ? $3 : $2 }
    /^test result: / { print $0 "; " program; programs++; passed += $4; failed += $6; ignored += $8 }
    END {
        printf "test result: %s. %d passed; %d failed; %d ignored; all %d programs\n",
            failed ? "FAILED" : "ok", passed, failed, ignored, programs
    }' "$results"
exit "$status"
