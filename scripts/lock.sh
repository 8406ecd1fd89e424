#!/bin/sh
# Writes locks/ anew from pyproject.toml: versions and hashes of everything, for Linux on x86-64 and Python 3.11.
set -eu
bin=${VENV:-.venv}/bin
compile="$bin/pip-compile -q --generate-hashes --strip-extras --allow-unsafe --no-annotate --no-header
         --no-emit-index-url --no-emit-find-links --no-emit-trusted-host"
$compile --extra build -o locks/runtime.txt pyproject.toml
$compile --extra build --extra dev -o locks/dev.txt pyproject.toml
# torch has locks of its own, locks/torch-cpu.txt and locks/torch-cuda.txt, since its builds are installed by choice.
"$bin/python" scripts/drop_torch.py locks/runtime.txt locks/dev.txt
