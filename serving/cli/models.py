"""`gemmule models`: what stands in each slot, without starting anything."""

import json
import os
from dataclasses import asdict, dataclass

from rich.console import Console
from rich.table import Table

from model.checkpoint import open_checkpoint
from model.errors import CheckpointError
from model.source import Embedded, Folder, parse_source, resolve
from serving.cli.words import shown_name
from serving.config import Settings


@dataclass(frozen=True, slots=True)
class Slot:
    """One size and the checkpoint in it; `folder` is None until a hub checkpoint has been downloaded."""

    size: str
    checkpoint: str
    folder: str | None
    parameters: int | None
    degree: int
    stand_in: bool
    problem: str | None = None


def slots(settings: Settings) -> list[Slot]:
    """Every slot; a checkpoint that cannot be served carries its problem instead of raising."""
    found = []
    for size, config in settings.cluster.sizes.items():
        source = parse_source(config.source)
        if not isinstance(source, Embedded | Folder):
            found.append(Slot(str(size), config.source, None, None, config.tensor_parallel, False))
            continue
        try:
            folder = resolve(source, config.revision, os.environ.get(settings.cluster.token_env))
            checkpoint = open_checkpoint(folder, size)
        except CheckpointError as error:
            found.append(Slot(str(size), config.source, None, None, config.tensor_parallel, False, str(error)))
            continue
        found.append(
            Slot(
                str(size),
                checkpoint.name,
                str(folder),
                checkpoint.num_parameters,
                config.tensor_parallel,
                checkpoint.stand_in,
            )
        )
    return found


def models(settings: Settings, as_json: bool, console: Console) -> int:
    """The table; 1 when a slot cannot be served."""
    found = slots(settings)
    if as_json:
        console.print_json(json.dumps([asdict(slot) for slot in found]))
    else:
        table = Table(box=None, pad_edge=False, padding=(0, 2))
        for column in ("size", "checkpoint", "parameters", "degree", "folder"):
            table.add_column(column, overflow="fold")
        for slot in found:
            name = shown_name(slot.checkpoint, slot.stand_in)
            parameters = "–" if slot.parameters is None else f"{slot.parameters:,}"
            table.add_row(slot.size, name, parameters, str(slot.degree), slot.problem or slot.folder or "not here yet")
        console.print(table)
    return int(any(slot.problem for slot in found))
