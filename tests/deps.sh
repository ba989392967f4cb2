#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Installs the Debian or Ubuntu packages that are missing for: build, test, gui.
set -euo pipefail

packages=()
for use in "$@"; do
    case "$use" in
    build) packages+=(gcc libc6-dev pkg-config libclang-dev libwireshark-dev wireshark-dev tshark) ;;
    test) packages+=(python3 nginx wrk libnginx-mod-stream libnginx-mod-mail tcpdump \
        iproute2 nftables openssl curl nghttp2-client util-linux wireshark-common \
        rsyslog redis-server postgresql openssh-server mosquitto vsftpd netcat-openbsd \
        python3-aiosmtpd clang-format shellcheck) ;;
    gui) packages+=(wireshark xvfb xdotool imagemagick fonts-dejavu-core) ;;
    *) echo "deps.sh: what is '$use'? Known: build, test, gui" >&2; exit 2 ;;
    esac
done

# What distributions have may be too old, and then fails over the lock file, in words about that.
needed=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' "$(dirname "$0")/../Cargo.toml")
found=$(cargo --version 2>/dev/null | cut -d' ' -f2) || true
if [ "$(printf '%s\n' "$needed" "${found:-0}" | sort -V | head -n 1)" != "$needed" ]; then
    echo "rstdiag is built with Rust $needed or later, and cargo here is ${found:-not installed}:" \
        "install it from https://rustup.rs" >&2
    exit 1
fi

missing=()
for package in "${packages[@]}"; do
    dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

as_root=()
[ "$(id -u)" = 0 ] || as_root=(sudo)
echo "installing: ${missing[*]}"
# Servers come with the packages of the tests, which start their own: nothing is to start now.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
    "${as_root[@]}" chmod 755 "$policy"
    trap '"${as_root[@]}" rm -f "$policy"' EXIT
fi
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    "${missing[@]}" >/dev/null
