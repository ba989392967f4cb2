#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Everything that has to hold: what `make test` runs, and CI.
set -euo pipefail
cd "$(dirname "$0")/.."

step() { printf '\n== %s\n' "$*"; }

step "format"
cargo fmt --check

step "lints, with Wireshark and without"
RSTDIAG_WERROR=1 cargo clippy --locked --all-targets -- -D warnings
cargo clippy --locked --all-targets --no-default-features -- -D warnings

step "documentation"
RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --quiet

step "the core alone, without Wireshark"
cargo test --locked --no-default-features --lib --tests

step "all, with the installed Wireshark: $(tshark --version 2>/dev/null | head -n 1)"
cargo test --locked --lib --tests
