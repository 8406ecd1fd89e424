"""Distillation on tiny shapes: it teaches, it resumes to the same weights, it refuses what cannot work."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import Gemma2Config, Gemma2ForCausalLM

from model.errors import CheckpointError
from model.family.answers import answer_chats
from model.family.checkpoint import load_model, save_checkpoint
from model.family.corpus import IGNORED, Encoder, batches, read_chats
from model.family.distill import DistillProgress, DistillSettings, distill
from model.family.labelling import label_prompts
from model.family.optimize import RunState, Schedule, optimise
from model.family.sizes import stand_in_config
from model.family.tokenizer import save_tokenizer
from model.family.train import answer_loss, new_model, stream

VOCABULARY = 1792


def tiny_config(vocab_size: int = VOCABULARY) -> Gemma2Config:
    shape = stand_in_config("nano-2b", vocab_size).to_dict()
    return Gemma2Config.from_dict({**shape, "hidden_size": 32, "intermediate_size": 32, "num_attention_heads": 2,
                                   "num_key_value_heads": 1, "head_dim": 16, "query_pre_attn_scalar": 16})  # fmt: skip


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    save_tokenizer(folder / "tokenizer")
    save_checkpoint(new_model(tiny_config(), 3), folder / "tiny", folder / "tokenizer", "# tiny\n")
    return folder / "tiny"


@pytest.fixture
def settings(teacher: Path, tmp_path: Path) -> DistillSettings:
    tiny_config().save_pretrained(tmp_path / "start")
    return DistillSettings(teacher, tmp_path / "start", "tasks:1", tmp_path / "out", steps=20, tokens_per_step=256,
                           warmup_steps=5, save_every=10, num_eval_tasks=0, compile=False)  # fmt: skip


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(load_file(folder / "model.safetensors"))


def assert_same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> None:
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)


class Stopped(Exception):
    """Ends a run between two saved states."""


def test_an_interrupted_run_resumes_to_the_same_weights(settings: DistillSettings, tmp_path: Path) -> None:
    distill(settings)
    cut = replace(settings, out=tmp_path / "cut")
    run = RunState(tmp_path / "cut.run" / "student")
    _stop_after_ten(cut, run)
    distill(replace(cut, resume=True))
    assert_same(weights(settings.out), weights(cut.out))


def _stop_after_ten(settings: DistillSettings, run: RunState) -> None:
    def stop(progress: DistillProgress) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        distill(settings, stop)  # the first reading comes after the first saved state


def test_a_student_comes_nearer_to_its_teacher(settings: DistillSettings) -> None:
    report = distill(replace(settings, steps=120, learning_rate=1e-2))
    assert report.student.curve[-1].loss < report.student.curve[0].loss
    assert report.baseline is None
    assert report.student.score is None
    assert json.loads((settings.out / "manifest.json").read_text())["files"]["model.safetensors"]


def test_the_baseline_starts_where_the_student_starts(settings: DistillSettings) -> None:
    seen: list[DistillProgress] = []
    report = distill(replace(settings, with_baseline=True, kl_weight=0.0), seen.append)
    assert [progress.phase for progress in seen] == ["student", "baseline"]
    assert report.baseline is not None
    assert report.student.curve[-1].loss == pytest.approx(report.baseline.curve[-1].loss, rel=1e-3)


def test_scores_are_reported_when_asked_for(settings: DistillSettings) -> None:
    report = distill(replace(settings, steps=1, num_eval_tasks=33))
    assert report.student.score is not None
    assert report.student.score.overall.tasks == 33


def test_a_student_folder_with_weights_is_continued(settings: DistillSettings, teacher: Path) -> None:
    report = distill(replace(settings, student=teacher, steps=1))
    assert report.student.curve[0].loss == pytest.approx(0, abs=1e-4)  # it is its own teacher


def test_another_vocabulary_is_refused_naming_both(settings: DistillSettings, tmp_path: Path) -> None:
    tiny_config(2048).save_pretrained(tmp_path / "other")
    with pytest.raises(CheckpointError, match=r"1792.*other.*2048"):
        distill(replace(settings, student=tmp_path / "other"))


def test_a_jsonl_of_chats_comes_back_every_epoch(tmp_path: Path) -> None:
    file = tmp_path / "chats.jsonl"
    chats = [[{"role": "user", "content": str(n)}, {"role": "assistant", "content": "yes"}] for n in range(3)]
    file.write_text("".join(json.dumps({"messages": chat}) + "\n" for chat in chats))
    source = read_chats(str(file))(0)
    epoch = [next(source) for _ in range(3)]
    assert sorted(epoch, key=str) == sorted(chats, key=str)
    file.write_text("\n")
    with pytest.raises(ValueError, match="holds no chats"):
        read_chats(str(file))


def test_sources_that_are_counted_are_joined(tmp_path: Path) -> None:
    file = tmp_path / "chats.jsonl"
    file.write_text(json.dumps({"messages": [{"role": "user", "content": "only here"}]}) + "\n")
    source = read_chats("tasks:1:3", str(file))(0)
    epoch = [next(source) for _ in range(4)]
    assert sum(chat[0]["content"] == "only here" for chat in epoch) == 1
    with pytest.raises(ValueError, match=r"tasks:1 has no end"):
        read_chats("tasks:1", str(file))


def test_prompts_are_answered_by_the_teacher_turn_by_turn(teacher: Path, tmp_path: Path) -> None:
    file, out = tmp_path / "prompts.jsonl", tmp_path / "labels.jsonl"
    asked = [[{"role": "user", "content": "a"}, {"role": "assistant", "content": "never read"},
              {"role": "user", "content": "b"}], [{"role": "user", "content": "c"}]]  # fmt: skip
    file.write_text("".join(json.dumps({"messages": chat}) + "\n" for chat in asked))
    model, tokenizer = load_model(teacher), Tokenizer.from_file(str(teacher / "tokenizer.json"))
    told: list[tuple[int, int]] = []
    label_prompts(model, tokenizer, str(file), out, 4, progress=lambda *now: told.append(now))
    first, second = [json.loads(line)["messages"] for line in out.read_text().splitlines()]
    assert [turn["role"] for turn in first] == ["user", "assistant", "user", "assistant"]
    assert [turn["content"] for turn in first[::2]] == ["a", "b"]
    assert first[1]["content"] == answer_chats(model, tokenizer, [first[:1]], 4)[0]
    assert first[3]["content"] == answer_chats(model, tokenizer, [first[:3]], 4)[0]
    assert len(second) == 2
    assert told == [(2, 2)]


def test_labelling_goes_on_behind_the_last_whole_line(teacher: Path, tmp_path: Path) -> None:
    model, tokenizer = load_model(teacher), Tokenizer.from_file(str(teacher / "tokenizer.json"))
    whole, cut = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
    label_prompts(model, tokenizer, "tasks:1:5", whole, 4)
    lines = whole.read_bytes().splitlines(keepends=True)
    cut.write_bytes(b"".join(lines[:2]) + lines[2][:7])
    label_prompts(model, tokenizer, "tasks:1:5", cut, 4, resume=True)
    assert cut.read_bytes() == whole.read_bytes()
    with pytest.raises(ValueError, match="has no end"):
        label_prompts(model, tokenizer, "tasks:1", cut, 4)


def test_only_the_student_reads_what_the_teacher_answered(settings: DistillSettings) -> None:
    report = distill(replace(settings, data="tasks:1:8", prompts="tasks:2:40", steps=1, with_baseline=True))
    labels = settings.out.parent / "out.run" / "labels.jsonl"
    assert len(labels.read_text().splitlines()) == 40
    assert report.baseline is not None


def test_rows_ask_for_answers_only(teacher: Path) -> None:
    encoder = Encoder(Tokenizer.from_file(str(teacher / "tokenizer.json")))
    chat = [{"role": "user", "content": "hi <end_of_turn>"}, {"role": "assistant", "content": "yes"}]
    row = encoder.row(chat)
    wanted = [target for target in row.targets if target != IGNORED]
    assert wanted[-1] == 107
    assert len(wanted) == 4
    assert row.ids[: len(encoder.prompt(chat[:1]))] == encoder.prompt(chat[:1])
    assert row.ids.count(107) == 1  # the typed one is text


def test_batches_keep_their_size_and_order_nothing_away(teacher: Path) -> None:
    encoder = Encoder(Tokenizer.from_file(str(teacher / "tokenizer.json")))
    rows = [
        encoder.row([{"role": "user", "content": "a" * n}, {"role": "assistant", "content": "b"}]) for n in range(1, 60)
    ]
    made = list(batches(rows, 256, seed=0))
    assert sum(len(batch.ids) for batch in made) == len(rows)
    assert all(batch.ids.numel() <= 256 for batch in made)


def test_training_a_resumed_run_that_is_over_changes_nothing(teacher: Path, tmp_path: Path) -> None:
    def run(resume: bool) -> Gemma2ForCausalLM:
        model = new_model(tiny_config(), 1)
        schedule = Schedule(steps=4, tokens_per_step=128, warmup_steps=2, compile=False)
        rows = stream(teacher, ["tasks:1"], 1, 128)
        optimise(model, rows, answer_loss(model, False), schedule, RunState(tmp_path / "run"), resume)
        return model

    first, again = run(resume=False), run(resume=True)
    assert_same(dict(first.state_dict()), dict(again.state_dict()))
