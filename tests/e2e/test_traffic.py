"""From served requests to a profile that quotes none of them, and to a store that forgets them."""

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from cluster.routing.profile import read_profile
from model.config import Size
from tests.e2e.conftest import Served

pytestmark = pytest.mark.e2e

KEPT_OUT = "Xylophone99 is nobody's business"


def run(*words: str | Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "serving.main", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    return done.stdout


def ask(served: Served, text: str, **more: object) -> None:
    body = {"model": "economy", "messages": [{"role": "user", "content": text}], "max_tokens": 24, **more}
    httpx.post(f"{served.url}/v1/chat/completions", json=body, timeout=60).raise_for_status()


def test_a_profile_from_own_traffic_quotes_nobody_and_a_purge_forgets_everybody(served: Served, tmp_path: Path) -> None:
    assert served.traffic is not None
    run("traffic", "purge", "--store", served.traffic, "--yes")  # other tests' prompts
    texts = [f"What is {11 + number} + {20 + 3 * number}?" for number in range(60)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda text: ask(served, text), texts))
    ask(served, KEPT_OUT, store=False)
    deadline = time.monotonic() + 20
    while (found := json.loads(run("traffic", "show", "--store", served.traffic, "--json")))["prompts"] < 60:
        assert time.monotonic() < deadline, found
    assert found["models"] == {"economy": 60}
    out = tmp_path / "profile.json"
    told = run("routing", "calibrate", "--from-log", served.traffic, "--profile", out, "--url", served.url, "--json")
    profile = read_profile(out)
    assert (profile.data.prompts, profile.data.right_share[Size.B27]) == (60, 1)
    assert 0 < profile.data.right_share[Size.B2] < 1
    assert not any(text in out.read_text() or text in told for text in (*texts, "What is"))
    files = [served.traffic.with_name(served.traffic.name + suffix) for suffix in ("", "-wal")]
    kept = b"".join(file.read_bytes() for file in files)
    assert texts[5].encode() in kept
    assert KEPT_OUT.encode() not in kept
    run("traffic", "purge", "--store", served.traffic, "--yes")
    assert b"What is" not in b"".join(file.read_bytes() for file in files)
    assert not any(text in served.output() for text in (*texts, KEPT_OUT))
    metrics = httpx.get(f"{served.url}/metrics", timeout=10).text
    assert 'gemmule_traffic_prompts_total{result="kept"}' in metrics
    assert 'gemmule_traffic_prompts_total{result="dropped"}' not in metrics
