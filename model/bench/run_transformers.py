"""transformers' continuous batching in a process of its own."""

from model.bench.lines import run
from model.bench.own import transformers

if __name__ == "__main__":
    run(transformers)
