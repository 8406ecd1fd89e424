"""The Dockerfile as data: stages, and in each the instructions in their order. No more of the language than it uses."""

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
DOCKERFILE: Final = ROOT / "Dockerfile"


@dataclass(frozen=True, slots=True)
class Instruction:
    """One of them, continued lines joined: `RUN`, `docker/step.sh …`."""

    word: str
    rest: str

    def options(self) -> dict[str, str]:
        """`--from=build` is {"from": "build"}."""
        found = (part[2:].partition("=") for part in shlex.split(self.rest) if part.startswith("--"))
        return {key: value for key, _, value in found}

    def arguments(self) -> list[str]:
        """The words that are no options of the instruction itself."""
        words = shlex.split(self.rest)
        while words and words[0].startswith("--"):
            words.pop(0)
        return words


@dataclass(slots=True)
class Stage:
    """From one FROM to the next."""

    base: str
    name: str
    instructions: list[Instruction] = field(default_factory=list)

    def of(self, word: str) -> list[Instruction]:
        """Those of one kind."""
        return [instruction for instruction in self.instructions if instruction.word == word]

    def steps(self) -> list[str]:
        """Words given to step.sh."""
        return [word for run in self.of("RUN") for word in run.arguments()[1:]]

    def defaults(self) -> dict[str, str]:
        """Build arguments and their defaults."""
        return {name: value for name, _, value in (arg.rest.partition("=") for arg in self.of("ARG"))}

    def environment(self, base: dict[str, str]) -> dict[str, str]:
        """What ENV makes of an environment."""
        out = dict(base)
        for pair in (word for env in self.of("ENV") for word in shlex.split(env.rest)):
            key, _, value = pair.partition("=")
            out[key] = filled(value, out)
        return out


def filled(text: str, values: dict[str, str]) -> str:
    """`$NAME` and `${NAME}` replaced."""
    return re.sub(r"\$\{?(\w+)\}?", lambda found: values.get(found[1], ""), text)


def stages() -> list[Stage]:
    """All of them; what stands before the first FROM are arguments of the FROM lines."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(encoding="utf-8"), flags=re.MULTILINE).replace("\\\n", " ")
    outer: dict[str, str] = {}
    found: list[Stage] = []
    for line in filter(None, map(str.strip, text.splitlines())):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            found.append(Stage(filled(base, outer), name))
        elif not found:
            key, _, value = rest.partition("=")
            outer[key] = value
        else:
            found[-1].instructions.append(Instruction(word, rest.strip()))
    return found


def context() -> list[str]:
    """What `.dockerignore` lets through: it names nothing but exceptions, so that nothing comes in by accident."""
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    return [rule[1:] for rule in rules if rule.startswith("!")]
