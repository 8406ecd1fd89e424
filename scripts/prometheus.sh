#!/bin/sh
# Prometheus and promtool out of Debian's package, unpacked into the user's cache; nothing is installed or started.
# usage: scripts/prometheus.sh   prints the folder; needs a Debian or Ubuntu with a package list (apt-get update)
set -eu
folder="${XDG_CACHE_HOME:-$HOME/.cache}/gemmule/prometheus"
if ! [ -x "$folder/promtool" ]; then
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    chmod 755 "$work" # apt fetches as a user of its own
    (cd "$work" && apt-get download -qq prometheus >/dev/null && dpkg-deb --extract prometheus_*.deb unpacked)
    mkdir -p "$folder"
    mv "$work/unpacked/usr/bin/prometheus" "$folder/"
    mv "$work/unpacked/usr/bin/promtool" "$folder/" # last: it is what is looked for
fi
"$folder/promtool" --version >/dev/null 2>&1 || { echo "$folder/promtool does not run" >&2; exit 1; }
echo "$folder"
