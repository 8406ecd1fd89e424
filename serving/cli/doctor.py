"""`gemmule doctor`: is everything here that a start needs, and if not, the cure in one sentence."""

import importlib.metadata
import os
import platform
import shutil
import socket
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from cluster.config import SizeConfig
from model.op_cache import built_op
from serving.config import Settings

_PROCESS_BYTES: Final = 600 * 2**20  # a replica or rank that has imported torch and transformers
_CLUSTER_BYTES: Final = 900 * 2**20  # Ray and Serve without the replicas (measured: 657 MiB)


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    ok: bool
    detail: str
    cure: str
    needed: bool = True  # False: a warning only


def machine_checks(settings: Settings) -> list[Check]:
    """Everything that can be known before anything is started; nothing is changed and torch is not loaded."""
    server = settings.server
    return [
        _python(),
        _compiler(settings),
        *(_package(name) for name in ("ray", "torch", "transformers", "deepspeed", "grpcio", "fastapi")),
        _memory(settings),
        _shm(),
        _port("REST port", server.host, server.http_port, "--http-port"),
        _port("gRPC port", "::" if socket.has_ipv6 else server.host, server.grpc_port, "--grpc-port"),
        *(_source(f"source of {size}", config) for size, config in settings.cluster.sizes.items()),
        _temp(),
    ]


def _python() -> Check:
    version = platform.python_version()
    ok = (3, 11) <= sys.version_info[:2] < (3, 13)
    return Check("Python", ok, f"{version}", "install Python 3.11 or 3.12")


def _compiler(settings: Settings) -> Check:
    sharded = any(config.tensor_parallel > 1 for config in settings.cluster.sizes.values())
    found = shutil.which("g++") or shutil.which("c++") or (built_op() and "not needed: what it makes is here")
    detail = found or "no g++ found; DeepSpeed compiles a small operation once"
    return Check("C++ compiler", bool(found) or not sharded, str(detail), "install it (Debian: apt-get install g++)")


def _package(name: str) -> Check:
    try:
        return Check(name, True, importlib.metadata.version(name), "")
    except importlib.metadata.PackageNotFoundError:
        return Check(name, False, "not installed", "run `make setup`")


def _memory(settings: Settings) -> Check:
    """Enough free memory for the processes that a start makes; weights of hub checkpoints are checked at load."""
    ranks = sum(max(1, c.replicas.min_replicas) * c.tensor_parallel for c in settings.cluster.sizes.values())
    need = _CLUSTER_BYTES + ranks * _PROCESS_BYTES
    free = psutil.virtual_memory().available
    detail = f"{free / 2**30:.1f} GiB free, about {need / 2**30:.1f} GiB needed by {ranks} ranks"
    return Check("memory", free >= need, detail, "close something, or serve fewer sizes (cluster.sizes in --config)")


def _shm() -> Check:
    """Ray's object store and the ranks' all-reduce live in /dev/shm."""
    if not Path("/dev/shm").is_dir():  # noqa: S108
        return Check("shared memory", False, "/dev/shm is missing", "mount a tmpfs there")  # noqa: S108
    free = shutil.disk_usage("/dev/shm").free  # noqa: S108
    ok = free >= 256 * 2**20
    return Check("shared memory", ok, f"{free / 2**20:,.0f} MiB free in /dev/shm", "give it 256 MiB (--shm-size)")


def _port(name: str, host: str, port: int, option: str) -> Check:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return Check(name, False, f"port {port} on {host}: {error.strerror}", f"choose another with {option}")
    return Check(name, True, f"port {port} is free", "")


def _source(name: str, config: SizeConfig) -> Check:
    from model.errors import CheckpointError
    from model.source import Embedded, Folder, parse_source, resolve

    try:
        source = parse_source(config.source)
        if isinstance(source, Embedded | Folder):
            return Check(name, True, f"{config.source} ({resolve(source, None, None).name})", "")
    except CheckpointError as error:
        return Check(name, False, str(error), "see docs/real-checkpoints.md")
    return Check(name, True, f"{config.source}, downloaded at the first start", "", needed=False)


def _temp() -> Check:
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    ok = os.access(folder, os.W_OK) and free > 512 * 2**20
    return Check("temporary folder", ok, f"{free / 2**30:.1f} GiB free in {folder}", "free some space or set TMPDIR")
