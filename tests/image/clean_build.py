"""The Dockerfile without an engine: COPY and RUN as they stand, in a clean folder in place of the root.

`apt-get` is the one program that is not run: a stand-in notes what was asked for.
"""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.image.dockerfile import ROOT, Instruction, Stage, context, filled, stages

_APT: Final = """#!/bin/sh
[ "$1" != install ] || printf '%s\\n' "$@" | grep -v '^-' | tail -n +2 >>"$APT_ASKED"
"""


@dataclass(frozen=True, slots=True)
class Image:
    """A finished one: its root folder, what it sets, what it starts, and the Debian packages that it wanted."""

    root: Path
    environment: dict[str, str]
    user: str
    command: list[str]
    debian: list[str]


def build(folder: Path, arguments: dict[str, str]) -> Image:
    """Every stage, one after another, at one place: what a stage copies from an earlier one is moved from there."""
    (folder / "apt").mkdir(parents=True)
    apt_get = folder / "apt" / "apt-get"
    apt_get.write_text(_APT)
    apt_get.chmod(0o755)
    root, asked, done = folder / "root", folder / "asked", dict[str, Path]()
    *earlier, final = stages()
    for stage in (*earlier, final):
        (root / "etc").mkdir(parents=True)
        asked.write_text("")
        _Player(stage, folder, arguments, done, asked).play()
        if stage is not final:
            done[stage.name] = root.rename(folder / stage.name)
    environment = final.environment({"PATH": "/usr/local/bin:/usr/bin:/bin"})
    (user,), (command,) = final.of("USER"), final.of("CMD")
    return Image(root, environment, user.rest, json.loads(command.rest), asked.read_text().split())


@dataclass(slots=True)
class _Player:
    stage: Stage
    folder: Path
    arguments: dict[str, str]
    done: dict[str, Path]
    asked: Path
    workdir: str = "/"

    def play(self) -> None:
        for instruction in self.stage.instructions:
            match instruction.word:
                case "WORKDIR":
                    self.workdir = instruction.rest
                    self._at(instruction.rest).mkdir(parents=True, exist_ok=True)
                case "COPY":
                    self._copy(instruction)
                case "RUN":
                    self._run(instruction)
                case "ARG" | "ENV" | "LABEL" | "USER" | "EXPOSE" | "CMD":
                    pass
                case other:
                    raise AssertionError(f"{other} is new here: say what it does")

    def _at(self, path: str) -> Path:
        return self.folder / "root" / (Path(self.workdir) / path).relative_to("/")

    def _copy(self, instruction: Instruction) -> None:
        *sources, target = instruction.arguments()
        for source in sources:
            if stage := instruction.options().get("from"):
                self._at(target).parent.mkdir(parents=True, exist_ok=True)
                (self.done[stage] / Path(source).relative_to("/")).rename(self._at(target))
                continue
            for name in context() if source == "." else [source]:
                assert any(name == known or name.startswith(f"{known}/") for known in context()), f"{name} is ignored"
                inside = target == "." or target.endswith("/")
                where = self._at(target) / (name if source == "." else Path(name).name) if inside else self._at(target)
                _take(ROOT / name, where)

    def _run(self, instruction: Instruction) -> None:
        for mount in filter(None, [instruction.options().get("mount")]):
            parts = dict(part.split("=") for part in mount.split(","))
            _take(ROOT / parts["source"], self._at(parts["target"]))
        program, *words = instruction.arguments()
        defaults = self.stage.defaults()
        values = {name: self.arguments.get(name, filled(value, defaults)) for name, value in defaults.items()}
        own = {
            "ROOT": str(self.folder / "root"),
            "APT_ASKED": str(self.asked),
            "PATH": os.pathsep.join([str(self.folder / "apt"), str(Path(sys.executable).parent), os.environ["PATH"]]),
        }
        environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
        done = subprocess.run(
            [self._at(program), *words],
            cwd=self._at("."),
            env=environment | values | own,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{instruction.rest}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


def _take(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    else:
        shutil.copy2(source, target)
