"""llama.cpp through its own server loop, in its own environment."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from model.bench.lines import Setup, run


class LlamaRunner:
    """See `model.bench.lines.Runner`. One slot per request; the server's calls block, so each has a thread."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._server: Any = None

    async def start(self) -> str:
        """Load, and repack quantized weights for this processor."""
        import xllamacpp

        setup = self._setup
        params = xllamacpp.CommonParams()
        params.model.path = setup.folder
        params.n_parallel = setup.max_concurrency
        params.n_ctx = setup.kv_tokens
        params.cache_prompt = setup.prefix_caching
        params.cache_ram_mib = 0 if not setup.prefix_caching else params.cache_ram_mib
        params.cpuparams.n_threads = setup.threads
        params.cpuparams_batch.n_threads = setup.threads
        params.ui = False
        params.fit_params = False
        self._server = await asyncio.to_thread(xllamacpp.Server, params)
        return str(xllamacpp.__version__)

    async def generate(self, prompt: list[int], max_tokens: int) -> AsyncIterator[int]:
        """One token per streamed piece; the last piece carries none."""
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[Any] = asyncio.Queue()

        def put(piece: Any) -> None:
            loop.call_soon_threadsafe(pieces.put_nowait, piece)

        call = loop.run_in_executor(None, self._call, prompt, max_tokens, put)
        while (piece := await pieces.get()) is not None:
            if "error" in piece:
                raise RuntimeError(str(piece["error"]))
            yield sum(choice["finish_reason"] is None for choice in piece["choices"])
        await call

    def _call(self, prompt: list[int], max_tokens: int, put: Any) -> None:
        """Blocks until the answer is complete."""
        ask = {"prompt": prompt, "n_predict": max_tokens, "temperature": 0, "ignore_eos": True, "stream": True}
        try:
            self._server.handle_completions({**ask, "cache_prompt": self._setup.prefix_caching}, put)
        finally:
            put(None)

    async def close(self) -> None:
        """Stop the server's threads."""
        self._server = None


def _make(setup: Setup) -> LlamaRunner:
    from concurrent.futures import ThreadPoolExecutor

    # The default pool has a handful of threads, which would hold requests back.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(setup.max_concurrency + 4))
    return LlamaRunner(setup)


if __name__ == "__main__":
    run(_make)
