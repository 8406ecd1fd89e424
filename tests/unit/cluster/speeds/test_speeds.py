"""Files of speeds: origins, lookups, and what is calculated from data sheets."""

import json
from itertools import pairwise
from pathlib import Path

import pytest

from cluster.speeds.file import Mark, Row, Speeds, SpeedsError, read_speeds
from cluster.speeds.lookup import degrees_of, speed_of
from cluster.speeds.roofline import kv_tokens
from model.config import Quantization, Size

PUBLISHED = read_speeds()
KINDS = ("h100-80gb", "a100-80gb", "a100-40gb", "l4-24gb")


def a_row(**change: object) -> Row:
    facts = {
        "size": "2b", "device": "l4-24gb", "degree": 1, "dtype": "bf16", "step_s": 0.5, "prefill_s_per_token": 0.1,
        "decode_s_per_sequence": 0.2, "decode_s_per_context_token": 0.0, "slots": 4, "kv_tokens": 4096,
        "max_step_tokens": 512, "checkpoint": "none", "steps": 10, "error_share": 0.1, "source": "made up",
    }  # fmt: skip
    return Row.model_validate({**facts, **change})


def test_what_comes_along_was_measured_by_nobody_and_says_so() -> None:
    assert tuple(PUBLISHED.devices) == KINDS
    assert PUBLISHED.measured == ()
    assert "none was measured" in PUBLISHED.about
    for device in PUBLISHED.devices.values():
        assert device.memory_bytes.mark is Mark.PUBLISHED
        assert "NVIDIA" in device.memory_bytes.source
        assert device.usd_per_hour.mark is Mark.EXAMPLE
    found = speed_of(PUBLISHED, Size.B27, "h100-80gb", 1, None)
    assert found is not None
    assert found[1] is Mark.CALCULATED


def test_27b_in_bf16_does_not_fit_40_gb_and_fits_in_int8() -> None:
    assert speed_of(PUBLISHED, Size.B27, "a100-40gb", 1, None) is None
    assert speed_of(PUBLISHED, Size.B27, "a100-40gb", 1, Quantization.INT8) is not None
    assert speed_of(PUBLISHED, Size.B27, "a100-40gb", 2, None) is not None
    assert speed_of(PUBLISHED, Size.B27, "l4-24gb", 1, Quantization.INT8) is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", list(Size))
def test_more_ranks_and_fewer_bits_have_more_room_and_read_less(kind: str, size: Size) -> None:
    assert PUBLISHED.assumed is not None
    device = PUBLISHED.devices[kind]
    rooms = [kv_tokens(size, degree, None, device, PUBLISHED.assumed) for degree in degrees_of(PUBLISHED, size, kind)]
    assert rooms == sorted(rooms)
    for degree in degrees_of(PUBLISHED, size, kind):
        found = [speed_of(PUBLISHED, size, kind, degree, bits) for bits in (None, Quantization.INT8, Quantization.INT4)]
        steps = [each[0].step_s for each in found if each is not None]
        assert steps == sorted(steps, reverse=True)
    for bits in (None, Quantization.INT8, Quantization.INT4):
        found = [speed_of(PUBLISHED, size, kind, degree, bits) for degree in degrees_of(PUBLISHED, size, kind)]
        speeds = [each[0] for each in found if each is not None]
        assert all(more.step_s > one.step_s / 2.5 for one, more in pairwise(speeds))  # twice the devices, not more


def test_a_step_is_never_faster_than_its_data_sheet_allows() -> None:
    found = speed_of(PUBLISHED, Size.B27, "h100-80gb", 1, None)
    assert found is not None
    assert found[0].step_s > 2 * 27.2e9 / 3.35e12
    assert found[0].prefill_s_per_token > 2 * 25e9 / 989e12


def test_measured_goes_before_calculated() -> None:
    speeds = PUBLISHED.model_copy(update={"measured": (a_row(),)})
    found = speed_of(speeds, Size.B2, "l4-24gb", 1, None)
    assert found is not None
    speed, mark = found
    assert (speed.step_s, speed.slots, mark) == (0.5, 4, Mark.MEASURED)
    other = speed_of(speeds, Size.B2, "l4-24gb", 2, None)
    assert other is not None
    assert other[1] is Mark.CALCULATED


def test_files_come_back_as_they_were_and_any_change_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "speeds.json"
    PUBLISHED.save(path)
    again = read_speeds(str(path))
    assert again == PUBLISHED
    assert again.fingerprint == PUBLISHED.fingerprint
    dearer = json.loads(path.read_text())
    dearer["devices"]["l4-24gb"]["usd_per_hour"]["value"] += 0.01
    assert Speeds.model_validate(dearer).fingerprint != PUBLISHED.fingerprint


def test_mistakes_are_named(tmp_path: Path) -> None:
    path = tmp_path / "speeds.json"
    with pytest.raises(SpeedsError, match="cannot be read"):
        read_speeds(str(path))
    wrong = json.loads(PUBLISHED.model_dump_json())
    wrong["devices"]["l4-24gb"]["memory_bytes"]["mark"] = "known"
    path.write_text(json.dumps(wrong))
    with pytest.raises(SpeedsError, match=r"devices\.l4-24gb\.memory_bytes\.mark"):
        read_speeds(str(path))
    with pytest.raises(SpeedsError, match="it has h100-80gb"):
        speed_of(PUBLISHED, Size.B2, "b200", 1, None)
    with pytest.raises(ValueError, match="`devices` does not have"):
        Speeds(devices={}, measured=(a_row(),))


def test_the_fastest_kind_is_fastest() -> None:
    decode = [speed_of(PUBLISHED, Size.B9, kind, 1, Quantization.INT8) for kind in KINDS]
    seconds = [each[0].seconds(0, 16, 16_000) for each in decode if each is not None]
    assert seconds == sorted(seconds)
