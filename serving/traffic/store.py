"""The store of sampled prompts: added to by every ingress process, read by calibration, and forgetting for good."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from sqlalchemy import Connection, Engine, delete, func, insert, select
from sqlalchemy.exc import SQLAlchemyError

from serving.traffic.tables import PROMPTS, opened

_PATIENCE_S: Final = 5.0  # how long another process is waited for; a batch takes it milliseconds
_SUFFIXES: Final = ("", "-wal", "-shm")


class TrafficError(Exception):
    """The store cannot be used; the message says why, and holds nothing of what is in it."""


@dataclass(frozen=True, slots=True)
class Sampled:
    """One prompt. `text` is the last user turn, which is what routing looks at; `turns` counts the user's."""

    time_s: float
    model: str
    text: str
    turns: int
    prompt_token_ids: tuple[int, ...]
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Summary:
    """What is in a store, without a word of it. Times in seconds since 1970, None when it is empty."""

    prompts: int
    models: dict[str, int]
    prompt_tokens: int
    oldest_s: float | None
    newest_s: float | None
    bytes_on_disk: int


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a store forgets by itself."""

    retention_s: float
    max_rows: int


class Store:
    """One file. Every method blocks, and raises `TrafficError`."""

    def __init__(self, path: Path, engine: Engine) -> None:
        self._path = path
        self._engine = engine
        self._inode = path.stat().st_ino
        self._residue = False  # what was deleted may still lie in the write-ahead log

    @classmethod
    def open(cls, path: Path, patience_s: float = _PATIENCE_S) -> Self:
        """Made if it is not there. `patience_s` is how long other processes are waited for."""
        try:
            return cls(path, opened(path, patience_s))
        except (OSError, SQLAlchemyError) as error:
            raise TrafficError(f"{path}: cannot be opened ({_why(error)}); choose a path on a local disk") from None

    @classmethod
    def open_existing(cls, path: Path) -> Self:
        """Refuses to make a new one, since nothing would be in it."""
        if not path.is_file():
            raise TrafficError(f"{path}: there is no such store; `traffic.share` and `traffic.path` make one")
        return cls.open(path)

    def add(self, prompts: Sequence[Sampled], bounds: Bounds, now_s: float) -> None:
        """Add, and forget what is too old or too much."""
        rows = [_row(prompt) for prompt in prompts]
        self._do(lambda connection: connection.execute(insert(PROMPTS), rows) if rows else None)
        self.expire(bounds, now_s)

    def expire(self, bounds: Bounds, now_s: float) -> int:
        """Forget what is too old or too much; the number of prompts that went."""

        def forget(connection: Connection) -> int:
            kept = select(PROMPTS.c.id).order_by(PROMPTS.c.id.desc()).offset(bounds.max_rows).limit(1).scalar_subquery()
            old = connection.execute(delete(PROMPTS).where(PROMPTS.c.time_s < now_s - bounds.retention_s))
            over = connection.execute(delete(PROMPTS).where(PROMPTS.c.id <= kept))
            return old.rowcount + over.rowcount

        gone = int(self._do(forget))
        self._residue = self._residue or gone > 0
        if self._residue:  # tried again next time when a reader is in the way
            self._residue = not self._flushed()
        return gone

    def purge(self, before_s: float | None = None) -> int:
        """Remove prompts older than a time, or all, so that no byte of them is left in the store's files.

        Raises `TrafficError` when another process reads the old state for longer than it can be waited for.
        """
        condition = PROMPTS.c.time_s < before_s if before_s is not None else PROMPTS.c.id > -1
        gone = int(self._do(lambda connection: connection.execute(delete(PROMPTS).where(condition)).rowcount))
        self._alone("VACUUM")  # what remains is written anew, packed
        if not self._flushed():
            raise TrafficError(f"{self._path}: rows are deleted, but a reader holds the old state; purge once more")
        return gone

    def read(self, limit: int | None = None) -> Iterator[Sampled]:
        """The newest first, no prompt twice."""
        columns = [column for column in PROMPTS.c if column.name != "id"]
        newest = select(*columns).order_by(PROMPTS.c.id.desc())
        seen: set[tuple[int, ...]] = set()
        for row in self._do(lambda connection: connection.execute(newest).mappings().all()):
            prompt = Sampled(**{**row, "prompt_token_ids": tuple(row["prompt_token_ids"])})
            if prompt.prompt_token_ids in seen:
                continue
            if limit is not None and len(seen) >= limit:
                return
            seen.add(prompt.prompt_token_ids)
            yield prompt

    def summary(self) -> Summary:
        """Counts, never texts."""
        tokens = func.coalesce(func.sum(func.json_array_length(PROMPTS.c.prompt_token_ids)), 0)
        facts = select(func.count(), tokens, func.min(PROMPTS.c.time_s), func.max(PROMPTS.c.time_s))
        by_model = select(PROMPTS.c.model, func.count()).group_by(PROMPTS.c.model).order_by(PROMPTS.c.model)
        found = self._do(lambda connection: (connection.execute(facts).one(), connection.execute(by_model).all()))
        (prompts, prompt_tokens, oldest_s, newest_s), models = found
        return Summary(prompts, dict(map(tuple, models)), prompt_tokens, oldest_s, newest_s, self._bytes_on_disk())

    def moved(self) -> bool:
        """Whether the file at the path is another one by now, or none; SQLite would go on with the old one."""
        try:
            return self._path.stat().st_ino != self._inode
        except OSError:
            return True

    def close(self) -> None:
        """Let go of the file."""
        self._engine.dispose()

    def _do(self, work: Callable[[Connection], Any]) -> Any:
        """In one transaction, which waits for other writers."""
        try:
            with self._engine.begin() as connection:
                return work(connection)
        except SQLAlchemyError as error:
            raise TrafficError(f"{self._path}: {_why(error)}") from None

    def _alone(self, statement: str) -> Any:
        """Outside of any transaction."""
        try:
            with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                found = connection.exec_driver_sql(statement)
                return found.one() if found.returns_rows else None
        except SQLAlchemyError as error:
            raise TrafficError(f"{self._path}: {_why(error)}") from None

    def _flushed(self) -> bool:
        """Whether the write-ahead log could be brought home and emptied."""
        busy, _, _ = self._alone("PRAGMA wal_checkpoint(TRUNCATE)")
        return not busy

    def _bytes_on_disk(self) -> int:
        files = (self._path.with_name(self._path.name + suffix) for suffix in _SUFFIXES)
        return sum(file.stat().st_size for file in files if file.exists())


def summary_at(path: Path) -> Summary:
    """Of a store that exists."""
    store = Store.open_existing(path)
    try:
        return store.summary()
    finally:
        store.close()


def _row(prompt: Sampled) -> dict[str, Any]:
    return {
        "time_s": prompt.time_s,
        "model": prompt.model,
        "text": prompt.text,
        "turns": prompt.turns,
        "prompt_token_ids": list(prompt.prompt_token_ids),
        "max_tokens": prompt.max_tokens,
    }


def _why(error: Exception) -> str:
    """The database's own words, which name no parameters."""
    return str(getattr(error, "orig", None) or error).splitlines()[0]
