"""The store of sampled prompts, on real SQLite files: what it keeps, and that what it forgets is gone."""

import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from serving.traffic.store import Bounds, Store, TrafficError, summary_at
from tests.unit.serving.traffic.prompts import a_prompt, bytes_of

WIDE = Bounds(retention_s=1e6, max_rows=1000)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "kept" / "traffic.db"


def texts(store: Store) -> list[str]:
    return [prompt.text for prompt in store.read()]


def test_prompts_come_back_newest_first_and_none_twice(path: Path) -> None:
    store = Store.open(path)
    store.add([a_prompt("one"), a_prompt("two"), a_prompt("one", 1001.0)], WIDE, 1001.0)
    assert list(store.read()) == [a_prompt("one", 1001.0), a_prompt("two")]
    assert list(store.read(limit=1)) == [a_prompt("one", 1001.0)]
    assert list(Store.open_existing(path).read()) == list(store.read())


def test_a_summary_counts_and_quotes_nothing(path: Path) -> None:
    store = Store.open(path)
    assert (store.summary().prompts, store.summary().oldest_s) == (0, None)
    store.add([a_prompt("secret", 5.0), a_prompt("other", 9.0, "27b")], WIDE, 9.0)
    found = summary_at(path)
    assert (found.prompts, found.models, found.prompt_tokens) == (2, {"27b": 1, "auto": 1}, 13)
    assert (found.oldest_s, found.newest_s) == (5.0, 9.0)
    assert found.bytes_on_disk > 0
    assert "secret" not in repr(found)


def test_only_the_owner_can_read_the_files(path: Path) -> None:
    Store.open(path).add([a_prompt("one")], WIDE, 1000.0)
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_what_is_too_old_or_too_much_goes_with_the_next_write(path: Path) -> None:
    store = Store.open(path)
    bounds = Bounds(retention_s=100, max_rows=3)
    store.add([a_prompt("old", 1000.0), a_prompt("young", 1090.0)], bounds, 1090.0)
    store.add([a_prompt("new", 1101.0)], bounds, 1101.0)
    assert texts(store) == ["new", "young"]
    store.add([a_prompt("a", 1102.0), a_prompt("b", 1102.0)], bounds, 1102.0)
    assert texts(store) == ["b", "a", "new"]
    assert store.expire(bounds, 1201.5) == 1
    assert store.expire(bounds, 5000.0) == 2
    assert texts(store) == []


def test_what_retention_removes_leaves_no_byte(path: Path) -> None:
    store = Store.open(path)
    store.add([a_prompt("Xylophone99 is my password", 1000.0), a_prompt("stays", 1500.0)], WIDE, 1500.0)
    assert b"Xylophone99" in bytes_of(path)
    store.expire(Bounds(retention_s=100, max_rows=10), 1500.0)
    assert b"Xylophone99" not in bytes_of(path)
    assert texts(store) == ["stays"]


def test_a_purge_leaves_no_byte_of_text_or_tokens_while_a_writer_has_it_open(path: Path) -> None:
    writer, purger = Store.open(path), Store.open_existing(path)
    prompts = [a_prompt(f"Xylophone99 number {number} " * 40, 1000.0 + number) for number in range(200)]
    writer.add(prompts, WIDE, 1200.0)
    tokens = str(prompts[-1].prompt_token_ids[1:9])[1:-1].encode()
    assert b"Xylophone99" in bytes_of(path)
    assert tokens in bytes_of(path)
    assert purger.purge(before_s=1100.0) == 100
    assert b"Xylophone99 number 50 " not in bytes_of(path)
    assert b"Xylophone99 number 150 " in bytes_of(path)
    assert purger.purge() == 100
    left = bytes_of(path)
    assert b"Xylophone99" not in left
    assert tokens not in left
    writer.add([a_prompt("after")], WIDE, 1000.0)
    assert texts(purger) == ["after"]


def test_a_purge_that_a_reader_keeps_from_the_last_byte_says_so(path: Path) -> None:
    store = Store.open(path, patience_s=0.05)
    store.add([a_prompt("Xylophone99")], WIDE, 1000.0)
    reader = create_engine(f"sqlite:///{path}").connect()
    reader.exec_driver_sql("BEGIN")
    reader.exec_driver_sql("SELECT count(*) FROM prompts").all()
    with pytest.raises(TrafficError, match=r"a reader holds|locked"):
        store.purge()
    reader.close()
    store.purge()
    assert b"Xylophone99" not in bytes_of(path)


def test_two_processes_write_and_nothing_is_lost(path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from serving.traffic.store import Bounds, Store;"
        "from tests.unit.serving.traffic.prompts import a_prompt;"
        "store = Store.open(Path(sys.argv[1]));"
        "[store.add([a_prompt(f'{sys.argv[2]} {n}')], Bounds(1e6, 1000), 1000.0) for n in range(60)]"
    )

    def write(name: str) -> None:
        root = Path(__file__).parents[4]
        subprocess.run([sys.executable, "-c", code, str(path), name], check=True, timeout=60, cwd=root)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, ("a", "b")))
    assert sorted(texts(Store.open(path))) == sorted(f"{name} {n}" for name in "ab" for n in range(60))


def test_errors_name_the_file_and_quote_no_prompt(path: Path, tmp_path: Path) -> None:
    with pytest.raises(TrafficError, match="there is no such store"):
        Store.open_existing(path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(TrafficError, match="cannot be opened"):
        Store.open(tmp_path / "file" / "traffic.db")
    (tmp_path / "other.db").write_text("no database, but long enough to be looked at as if it were one" * 9)
    with pytest.raises(TrafficError, match="cannot be opened"):
        Store.open(tmp_path / "other.db")
    store = Store.open(path)
    with create_engine(f"sqlite:///{path}").begin() as connection:
        connection.exec_driver_sql("DROP TABLE prompts")
    with pytest.raises(TrafficError) as caught:
        store.add([a_prompt("Xylophone99")], WIDE, 1000.0)
    assert "Xylophone99" not in str(caught.value)
    assert caught.value.__suppress_context__
