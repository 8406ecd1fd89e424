"""What commands say about memory."""

from dataclasses import asdict

from model.capacity import Capacity
from serving.cli.words import fit_at_once, memory


def test_memory_is_said_in_units_that_show_something() -> None:
    assert memory(54_454_256_640) == "54.5 GB"
    assert memory(5_215_744) == "5.2 MB"


def test_room_is_said_for_long_and_for_ordinary_requests() -> None:
    capacity = Capacity(10, 20, kv_blocks=4096, full_requests=5, short_requests=32)
    assert fit_at_once(asdict(capacity)) == "5 × 8,192 or 32 × 1,000 tokens"
    assert fit_at_once(None) == "–"


def test_a_line_of_the_log_names_what_an_operator_sizes_by() -> None:
    fields = Capacity(54_454_256_640, 3 * 10**9, 1024, 1, 8).fields()
    assert fields == {
        "weights_gb": 54.454, "kv_gb": 3.0, "kv_blocks": 1024, "requests_of_8192": 1, "requests_of_1000": 8
    }  # fmt: skip
