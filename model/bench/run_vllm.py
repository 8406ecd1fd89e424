"""vLLM's CPU build, in its own environment: its asynchronous engine with default settings."""

import os
from collections.abc import AsyncIterator
from itertools import count
from typing import Any, Final

from model.bench.lines import Setup, cpus, run

_DTYPES: Final = {"bf16": "bfloat16", "fp32": "float32"}
_GIB: Final = 2**30


class VllmRunner:
    """See `model.bench.lines.Runner`."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._number = count()
        self._engine: Any = None

    async def start(self) -> str:
        """Load and compile; about 3.5 minutes the first time for the 2B's shape."""
        setup = self._setup
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", str(_kv_gib(setup)))
        os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", ",".join(map(str, cpus(setup.threads))))
        # A step of 1,024 prompt tokens took 300 s in its emulated bf16, at which it gives its worker up for dead.
        os.environ.setdefault("VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS", "3600")
        import vllm
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        self._engine = AsyncLLM.from_engine_args(
            AsyncEngineArgs(
                model=setup.folder,
                dtype=_DTYPES[setup.dtype],
                skip_tokenizer_init=True,
                max_model_len=setup.context_tokens + 16,
                max_num_seqs=setup.max_concurrency,
                enable_prefix_caching=setup.prefix_caching,
                disable_log_stats=True,
            )
        )
        return str(vllm.__version__)

    async def generate(self, prompt: list[int], max_tokens: int) -> AsyncIterator[int]:
        """New tokens of each output that vLLM streams."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        sampling = SamplingParams(
            max_tokens=max_tokens,
            temperature=0.0,
            ignore_eos=True,
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,
        )
        async for output in self._engine.generate({"prompt_token_ids": prompt}, sampling, str(next(self._number))):
            yield len(output.outputs[0].token_ids)

    async def close(self) -> None:
        """Ends the engine's process."""
        self._engine.shutdown()


def _kv_gib(setup: Setup) -> int:
    """Whole GiB for keys and values, twice what the requests fill: vLLM keeps some blocks back."""
    import json
    from pathlib import Path

    config = json.loads((Path(setup.folder) / "config.json").read_text())
    numbers: int = 2 * config["num_hidden_layers"] * config["num_key_value_heads"] * config["head_dim"]
    return max(1, -(-2 * setup.kv_tokens * numbers * (4 if setup.dtype == "fp32" else 2) // _GIB))


if __name__ == "__main__":
    run(VllmRunner)
