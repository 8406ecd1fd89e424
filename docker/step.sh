#!/bin/sh
# The steps of the Dockerfile. ROOT is empty in a build; tests/image gives a clean folder in place of /.
set -eu
root=${ROOT:-}
home=$root/opt/gemmule

debian() {
    apt-get update
    apt-get install -y --no-install-recommends "$@"
    rm -rf "$root"/var/lib/apt/lists/*
}

# From outside, so that the environment has no pip. With --no-deps: the locks are complete.
install() {
    # shellcheck disable=SC2086  # PIP_ARGS is several words
    python3 -m pip --disable-pip-version-check --python "$home/bin/python" install -q --root-user-action=ignore \
        --no-deps ${PIP_ARGS:-} "$@"
}

step() {
    case $1 in
    compiler)
        debian g++
        ;;
    environment)
        python3 -m venv --without-pip "$home"
        ;;
    packages)
        install --require-hashes -r locks/runtime.txt
        case $TORCH in
        cpu) install --require-hashes -r locks/torch-cpu.txt ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} ;;
        cuda) install --require-hashes -r locks/torch-cuda.txt ;;
        *) echo "TORCH=$TORCH: cpu or cuda" >&2; exit 2 ;;
        esac
        ;;
    application)
        install --no-build-isolation --no-index .
        ;;
    compiled) # in / so that the installed package is taken, not the sources
        (cd / && "$home/bin/python" -m model.warm && "$home/bin/python" -m model.kernels.ahead)
        ;;
    system)
        debian bash ca-certificates libgomp1 wget # KubeRay's own commands and probes need bash and wget
        ;;
    user)
        echo 'gemmule:x:10001:' >>"$root/etc/group"
        echo 'gemmule:x:10001:10001:gemmule:/tmp:/usr/sbin/nologin' >>"$root/etc/passwd"
        ;;
    *)
        echo "unknown step $1" >&2
        exit 2
        ;;
    esac
}

for name in "$@"; do step "$name"; done
