"""From one command to answers of all three sizes, with the official client."""

import asyncio
import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import openai
import psutil
import pytest

from tests.e2e.conftest import Served

pytestmark = pytest.mark.e2e

MODELS = ["2b", "9b", "27b", "economy", "premium", "auto"]
QUESTION = [{"role": "user", "content": "What is 12 + 30?"}]


@pytest.fixture(scope="module")
def client(served: Served) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{served.url}/v1", api_key="unused", max_retries=0)


@pytest.mark.parametrize("model", MODELS)
def test_a_plain_and_a_streamed_chat_give_the_same_greedy_text(client: openai.OpenAI, model: str) -> None:
    plain = client.chat.completions.create(model=model, messages=QUESTION, temperature=0)  # type: ignore[arg-type]
    stream = client.chat.completions.create(
        model=model, messages=QUESTION, temperature=0, stream=True, stream_options={"include_usage": True}
    )  # type: ignore[call-overload]
    pieces, usage = [], None
    for chunk in stream:
        pieces += [choice.delta.content or "" for choice in chunk.choices]
        usage = chunk.usage or usage
    assert plain.choices[0].message.content == "".join(pieces)
    assert plain.choices[0].message.content
    assert (usage.prompt_tokens, usage.completion_tokens) == (plain.usage.prompt_tokens, plain.usage.completion_tokens)
    route = plain.model_extra["gemmule"]
    assert route["stand_in"] is True
    if model in ("2b", "9b", "27b"):
        assert (route["size"], route["reason"], route["checkpoint"]) == (model, "explicit", f"nano-{model}")
    else:
        assert route["tier"] == model
        assert route["detail"]


def test_the_largest_size_knows_its_sums(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="27b", messages=QUESTION, temperature=0)  # type: ignore[arg-type]
    assert "42" in (answer.choices[0].message.content or "")


def test_the_answer_says_who_and_why_in_headers(served: Served) -> None:
    response = httpx.post(
        f"{served.url}/v1/chat/completions", json={"model": "premium", "messages": QUESTION}, timeout=60
    )
    assert response.headers["x-gemmule-tier"] == "premium"
    assert response.headers["x-gemmule-size"] in ("2b", "9b", "27b")
    assert response.headers["x-request-id"] == response.json()["id"]


async def test_32_streams_at_once_finish_and_none_is_mixed_up(served: Served) -> None:
    """Each stream asks its own greedy question; the answer must be what the same question gets alone."""
    client = openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="unused", max_retries=0)
    sizes = ["2b", "9b", "27b"]
    asks = [(sizes[i % 3], f"What is {11 + i} + {20 + 2 * i}?") for i in range(32)]

    async def ask(model: str, question: str) -> str:
        stream = await client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": question}], temperature=0, stream=True
        )
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])

    alone = [await ask(*one) for one in asks]
    together = await asyncio.gather(*(ask(*one) for one in asks))
    assert together == alone
    assert len(set(together)) > 24  # the questions differ, so nearly all answers must


def test_the_27b_runs_on_two_processes_with_half_the_weights_each(served: Served) -> None:
    status = httpx.get(f"{served.url}/v1/status", timeout=10).json()
    (size,) = [size for size in status["sizes"] if size["size"] == "27b"]
    ranks = size["replicas"][0]["ranks"]
    assert [rank["rank"] for rank in ranks] == [0, 1]
    assert ranks[0]["pid"] != ranks[1]["pid"]
    assert all(psutil.pid_exists(rank["pid"]) for rank in ranks)
    for rank in ranks:
        shapes = {name.rsplit("layers.0.", 1)[-1]: shape for name, shape in rank["shard_shapes"].items()}
        assert shapes["self_attn.q_proj.weight"] == [128, 256]  # 4 of 8 query heads of 32
        assert shapes["self_attn.o_proj.weight"] == [256, 128]


def test_a_client_that_leaves_frees_its_blocks(served: Served) -> None:
    def held() -> int:
        status = httpx.get(f"{served.url}/v1/status", timeout=10).json()
        replicas = [replica for size in status["sizes"] for replica in size["replicas"]]
        return sum(r["running"] + r["waiting"] for r in replicas)

    body = {"model": "2b", "messages": QUESTION, "stream": True, "max_tokens": 4000, "temperature": 2.0}
    with httpx.stream("POST", f"{served.url}/v1/chat/completions", json=body, timeout=60) as response:
        next(response.iter_lines())
    deadline = 20
    while held() and deadline:
        deadline -= 1
        asyncio.run(asyncio.sleep(0.25))
    assert held() == 0


def test_status_and_models_commands_print_json(served: Served) -> None:
    def run(*words: str) -> object:
        done = subprocess.run(
            [sys.executable, "-m", "serving.main", *words], capture_output=True, text=True, timeout=60, check=True
        )
        return json.loads(done.stdout)

    status = run("status", "--json", "--url", served.url)
    assert isinstance(status, dict)
    assert {size["size"] for size in status["sizes"]} == {"2b", "9b", "27b"}
    models = run("models", "--json")
    assert isinstance(models, list)
    assert {slot["size"]: slot["degree"] for slot in models} == {"2b": 1, "9b": 1, "27b": 2}


def test_a_quote_tells_size_and_price_of_the_request_that_follows_and_learns_its_time(served: Served) -> None:
    body = {"model": "9b", "messages": QUESTION, "temperature": 0, "max_cost": 1e-4, "include_sizes": True}
    for _ in range(13):
        httpx.post(f"{served.url}/v1/chat/completions", json=body, timeout=60).raise_for_status()
    quote = httpx.post(f"{served.url}/v1/quote", json=body, timeout=60).json()
    size = next(each for each in quote["sizes"] if each["size"] == quote["chosen"])
    assert 0 < size["time_p50_s"] <= size["time_p90_s"] < 60
    route = httpx.post(f"{served.url}/v1/chat/completions", json=body, timeout=60).json()["gemmule"]
    assert (route["size"], route["reason"]) == (quote["chosen"], "explicit")
    assert 0 < route["cost_usd"] <= size["max_cost_usd"] <= body["max_cost"]
    assert [each["size"] for each in route["sizes"]] == ["9b"]
    words = ["explain", "What is 12 + 30?", "--model", "premium", "--url", served.url]
    ran = subprocess.run(
        [sys.executable, "-m", "serving.main", *words], capture_output=True, text=True, timeout=60, check=True
    )
    assert "premium would take" in ran.stdout


def test_a_profile_of_a_running_replica_is_a_trace(served: Served, tmp_path: Path) -> None:
    out = tmp_path / "trace.json"
    words = ["profile", "--size", "27b", "--seconds", "2", "--stacks", "--json", "--out", str(out)]
    body = {"model": "27b", "messages": QUESTION, "max_tokens": 500, "ignore_eos": True}
    done = threading.Event()

    def keep_busy() -> None:  # however long the command takes to start
        while not done.is_set():
            httpx.post(f"{served.url}/v1/chat/completions", json=body, timeout=60).raise_for_status()

    with ThreadPoolExecutor() as pool:
        working = pool.submit(keep_busy)
        try:
            ran = subprocess.run(
                [sys.executable, "-m", "serving.main", *words, "--url", served.url],
                capture_output=True, text=True, timeout=60, check=True,
            )  # fmt: skip
        finally:
            done.set()
        working.result()
    facts = json.loads(ran.stdout)
    assert facts["replica"].startswith("27b#")
    assert facts["steps"] > 10
    assert facts["part_share"]["forward"] > 0.3
    events = json.loads(out.read_text())["traceEvents"]
    assert {"step", "schedule", "forward", "sample", "publish"} <= {event["name"] for event in events}
    assert "Stepper.step (model/stepper.py)" in (tmp_path / "trace.stacks.txt").read_text()
    metrics = httpx.get(f"{served.url}/metrics", timeout=10).text
    assert f'gemmule_engine_steps_total{{replica="{facts["replica"]}",size="27b"}}' in metrics


def test_evaluate_prints_a_gradient_on_unseen_tasks(served: Served) -> None:
    """A short form; the full table is in the family's report."""
    done = subprocess.run(
        [sys.executable, "-m", "serving.main", "evaluate", "--url", served.url, "-n", "132", "--json"],
        capture_output=True, text=True, timeout=240, check=True,
    )  # fmt: skip
    share = {score["model"]: score["right_share"] for score in json.loads(done.stdout)["scores"]}
    assert share["27b"] >= 0.85
    assert share["27b"] > share["9b"] > share["2b"]


def test_the_start_lines_name_addresses_and_stand_ins(served: Served) -> None:
    printed = served.output()
    assert served.url in printed
    assert f":{served.grpc_port}" in printed
    assert "nano-27b (stand-in)" in printed
    assert "curl" in printed
