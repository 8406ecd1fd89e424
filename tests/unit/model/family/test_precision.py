"""The table of what precision costs, on a handful of tasks."""

from model.family.evaluate import evaluation_tasks
from model.family.precision import PRECISIONS, markdown, rows_of
from model.source import EMBEDDED_FOLDER


async def test_each_precision_is_weighed_against_fp32() -> None:
    tasks = evaluation_tasks(11, seed=3)
    rows = await rows_of(EMBEDDED_FOLDER / "nano-2b", tasks)
    assert [row.precision for row in rows] == list(PRECISIONS)
    assert (rows[0].same_share, rows[0].lost, rows[0].gained) == (1.0, 0, 0)
    sizes = [row.weight_bytes for row in rows]
    assert sizes == sorted(sizes, reverse=True)
    for row in rows:
        right = round(row.right_share * row.tasks)
        assert right - round(rows[0].right_share * row.tasks) == row.gained - row.lost
    assert len(markdown(rows).splitlines()) == 2 + len(PRECISIONS)
