"""How sampled prompts lie in SQLite, and how a connection to them behaves."""

import os
from pathlib import Path
from typing import Any, Final

from sqlalchemy import JSON, Column, Engine, Float, Index, Integer, MetaData, String, Table, Text, create_engine, event
from sqlalchemy.schema import CreateIndex, CreateTable

PROMPTS: Final = Table(
    "prompts",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("time_s", Float, nullable=False),  # since 1970
    Column("model", String(16), nullable=False),  # size or tier that was asked for
    Column("text", Text, nullable=False),  # what routing looks at
    Column("turns", Integer, nullable=False),
    Column("prompt_token_ids", JSON, nullable=False),
    Column("max_tokens", Integer, nullable=False),
)
_BY_TIME: Final = Index("prompts_by_time", PROMPTS.c.time_s)


def opened(path: Path, patience_s: float) -> Engine:
    """The file, made if need be, readable by its owner alone. Raises `OSError` or SQLAlchemy's errors."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))  # SQLite's files beside it inherit the mode
    # Errors would carry the parameters, and so the prompts, into logs.
    engine = create_engine(f"sqlite:///{path}", hide_parameters=True, connect_args={"timeout": patience_s})
    event.listen(engine, "connect", _settle)
    with engine.begin() as connection:
        connection.execute(CreateTable(PROMPTS, if_not_exists=True))
        connection.execute(CreateIndex(_BY_TIME, if_not_exists=True))
    return engine


def _settle(connection: Any, _record: object) -> None:
    """What is deleted is overwritten, and no copy of it is left in a temporary file."""
    for pragma in ("secure_delete=ON", "temp_store=MEMORY", "journal_mode=WAL", "synchronous=NORMAL"):
        connection.execute(f"PRAGMA {pragma}").close()
