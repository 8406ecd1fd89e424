"""Every command of the Dockerfile in a clean folder, then what the image is asked to do: without a compiler, unwritten.

What this cannot show, since nothing here is root of a container: the installation of the Debian packages, the user,
the read-only root itself. Five minutes beside other work.
"""

import importlib.metadata
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.image.clean_build import Image, build
from tests.image.dockerfile import ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
NEEDED = ("bash", "sh", "cat", "env", "uname")
COMPILERS = ("cc", "c++", "gcc", "g++", "clang", "clang++")


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """With the build of torch that is installed here: elsewhere the CPU build may not be at hand."""
    target = "cpu" if importlib.metadata.version("torch").endswith("+cpu") else "cuda"
    arguments = {"TORCH": target, "TORCH_INDEX": "", "PIP_ARGS": "--no-compile"}  # byte code is a minute of two
    return build(tmp_path_factory.mktemp("image"), arguments)


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The few programs that are there beside the environment; no compiler among them."""
    folder = tmp_path_factory.mktemp("bin")
    for name in NEEDED:
        found = shutil.which(name)
        assert found is not None
        (folder / name).symlink_to(found)
    return folder


def run(image: Image, programs: Path, *command: str, home: Path) -> str:
    """In `/`, with the image's environment and nothing of ours; what it wrote is in `home` or an error."""
    path = f"{image.root}/opt/gemmule/bin:{programs}"
    assert not any(shutil.which(name, path=path) for name in COMPILERS)
    environment = image.environment | {"PATH": path, "HOME": str(home), "TMPDIR": str(home)}
    done = subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def state(folder: Path) -> set[tuple[str, int, int]]:
    """Every file and folder with its size and time of change."""
    found = (Path(parent, name) for parent, folders, files in os.walk(folder) for name in (*folders, *files))
    return {(str(path), path.lstat().st_size, path.lstat().st_mtime_ns) for path in found}


def python(image: Image, programs: Path, home: Path, script: str) -> list[str]:
    return run(image, programs, "python", "-c", script, home=home).split()


def test_the_command_is_there_and_says_its_version(image: Image, programs: Path, tmp_path: Path) -> None:
    assert image.command[0] == "gemmule"
    version = importlib.metadata.version("gemmule")
    assert version in run(image, programs, "gemmule", "--version", home=tmp_path)


def test_it_wanted_of_debian_what_the_stage_says(image: Image) -> None:
    assert image.debian == ["bash", "ca-certificates", "libgomp1", "wget"]


def test_the_user_has_a_name_and_a_home_that_can_be_written(image: Image) -> None:
    (line,) = (image.root / "etc" / "passwd").read_text().splitlines()
    name, _, uid, gid, _, home, _ = line.split(":")
    assert f"{uid}:{gid}" == image.user
    assert (image.root / "etc" / "group").read_text() == f"{name}:x:{gid}:\n"
    assert home == image.environment["HOME"]


def test_nothing_is_left_behind_that_only_a_build_needs(image: Image) -> None:
    assert not (image.root / "src").exists()
    installed = {path.name for path in (image.root / "opt/gemmule/lib").glob("python*/site-packages/*")}
    assert "pip" not in installed
    assert {"model", "cluster", "serving", "torch", "ray"} <= installed
    assert not {"tests", "docker", "locks"} & installed


EVERY_MODULE = """
import importlib, pkgutil, sys
import cluster, model, serving
for package in (model, cluster, serving):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.startswith(("model.bench", "model.family.build", "model.family.tokenizer")):  # a developer's
            importlib.import_module(module.name)
print(sys.prefix, serving.__file__)
"""
ARITHMETIC = """
import torch
from model.starting import choose_ops
print(choose_ops(1)[1])
"""
DEEPSPEED = """
import os, sys
os.environ["DS_ACCELERATOR"] = "cpu"
from model.op_cache import load_op, prepare_environment
prepare_environment()
import torch
load_op()
from deepspeed.comm.torch import build_shm_op
print(build_shm_op().__spec__.origin)
"""


def test_everything_is_found_and_nothing_is_written(image: Image, programs: Path, tmp_path: Path) -> None:
    """What a replica does before its weights: imports, the kernels built ahead, DeepSpeed's operation as built."""
    before = state(image.root)
    home = image.root / "opt" / "gemmule"
    prefix, where = python(image, programs, tmp_path, EVERY_MODULE)
    assert prefix == str(home)
    assert where.startswith(f"{home}/lib/")
    if "avx2" in Path("/proc/cpuinfo").read_text().split():
        assert python(image, programs, tmp_path, ARITHMETIC) == ["native"]
    built = python(image, programs, tmp_path, DEEPSPEED)[-1]
    assert built == f"{home}/torch_extensions/deepspeed_shm_comm/deepspeed_shm_comm.so"
    assert state(image.root) == before


def test_the_sources_are_those_of_the_checkout(image: Image) -> None:
    (site,) = (image.root / "opt/gemmule/lib").glob("python*/site-packages")
    for package in ("model", "cluster", "serving"):
        ours = {path.relative_to(ROOT) for path in (ROOT / package).rglob("*") if path.is_file()}
        for path in (path for path in ours if "__pycache__" not in path.parts):
            assert (site / path).read_bytes() == (ROOT / path).read_bytes(), path
