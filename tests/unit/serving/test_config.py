"""One tree of settings, one reader: flags, environment, file, defaults, in this order."""

from pathlib import Path

import pytest

from model.config import Size
from serving.config import ConfigError, from_tree, load


def test_a_flag_beats_environment_beats_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "gemmule.yaml"
    path.write_text("server: {http_port: 8001, grpc_port: 9001}\n")
    assert load(path).server.http_port == 8001
    monkeypatch.setenv("GEMMULE_SERVER__HTTP_PORT", "8002")
    assert load(path).server.http_port == 8002
    settings = load(path, {"server.http_port": 8003, "server.host": None})
    assert (settings.server.http_port, settings.server.grpc_port) == (8003, 9001)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("server: {htp_port: 1}", "server.htp_port: no such setting"),
        ("cluster: {sizes: {3b: {}}}", "Input should be '2b', '9b' or '27b'"),
        ("server: {http_port: 70000}", "server.http_port: Input should be less than or equal to 65535"),
        ("- a list", "must hold a mapping"),
        ("a: [", "is not YAML"),
    ],
)
def test_a_wrong_file_is_refused_by_name(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "gemmule.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert words in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        load(tmp_path / "absent.yaml")


def test_the_tree_survives_json() -> None:
    settings = load()
    again = from_tree(settings.model_dump(mode="json"))
    assert again.model_dump() == settings.model_dump()
    assert again.cluster.sizes[Size.B27].tensor_parallel == 2
