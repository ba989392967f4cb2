#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# An archive with the built plugin, its profile and its manual.
# usage: package.sh PLUGIN SERIES
set -euo pipefail
plugin=$1 series=$2
cd "$(dirname "$0")/.."

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
name=rstdiag-$version-wireshark-$series-$(uname -m)
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT

install -D -m 644 "$plugin" "$stage/$name/plugins/$series/epan/rstdiag.so"
install -d "$stage/$name/profiles/rstdiag"
install -m 644 wireshark/profile/* "$stage/$name/profiles/rstdiag"
install -m 644 README.md CHANGELOG.md LICENSE "$stage/$name"
cp -r docs "$stage/$name"
cat >"$stage/$name/INSTALL" <<EOF
Copy plugins/$series into the folder of personal plugins, and profiles/rstdiag into the one of
profiles, that 'tshark -G folders' names:

    cp -r plugins/$series ~/.local/lib/wireshark/plugins/
    cp -r profiles/rstdiag ~/.config/wireshark/profiles/

'tshark -G plugins' then lists rstdiag.so. As root, Wireshark looks into global folders only.
EOF

mkdir -p target
tar --owner=0 --group=0 --sort=name -czf "target/$name.tar.gz" -C "$stage" "$name"
echo "target/$name.tar.gz"
