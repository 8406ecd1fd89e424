"""`python -m model.kernels.ahead`: build the kernels for every kind of processor, at image build (15 s each)."""

import sys
from concurrent.futures import ThreadPoolExecutor

from model.kernels.levels import LEVELS, Level, ahead_folder
from model.kernels.library import compile_to, compiler


def main() -> None:
    """All of them, as many at once as the machine can; exits with 1 where there is no compiler."""
    found = compiler()
    if found is None:
        sys.exit("no C++ compiler: apt-get install g++")
    folder = ahead_folder()
    folder.mkdir(parents=True, exist_ok=True)

    def build(level: Level) -> None:
        compile_to(found, level.options, level.file(folder))

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(build, LEVELS))


if __name__ == "__main__":
    main()
