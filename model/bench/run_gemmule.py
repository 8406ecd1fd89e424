"""Our engine in a process of its own."""

from model.bench.lines import run
from model.bench.own import gemmule

if __name__ == "__main__":
    run(gemmule)
