#!/bin/sh
# Prometheus' own promtool out of Debian's package, unpacked into the user's cache; nothing is installed.
# usage: scripts/promtool.sh   prints the path; needs a Debian or Ubuntu with a package list (apt-get update)
set -eu
folder="${XDG_CACHE_HOME:-$HOME/.cache}/gemmule/promtool"
tool="$folder/usr/bin/promtool"
if ! [ -x "$tool" ]; then
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    chmod 755 "$work" # apt fetches as a user of its own
    (cd "$work" && apt-get download -qq prometheus >/dev/null && dpkg-deb --extract prometheus_*.deb unpacked)
    mkdir -p "$folder/usr/bin"
    mv "$work/unpacked/usr/bin/promtool" "$tool"
fi
"$tool" --version >/dev/null 2>&1 || { echo "$tool does not run" >&2; exit 1; }
echo "$tool"
