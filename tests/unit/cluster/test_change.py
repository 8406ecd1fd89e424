"""What a change does, before it is done."""

import copy
from typing import Any

import pytest

from cluster.change import Kind, changes_of, devices, steps_of
from model.config import Size
from serving.config import Settings, from_tree

TREE = Settings().model_dump(mode="json")


def changed(path: str, value: Any) -> dict[str, Any]:
    tree = copy.deepcopy(TREE)
    *parents, leaf = path.split(".")
    node = tree
    for name in parents:
        node = node[name]
    node[leaf] = value
    return from_tree(tree).model_dump(mode="json")


@pytest.mark.parametrize(
    ("path", "value", "kind", "size"),
    [
        ("cluster.sizes.2b.usd_per_mtoken", 0.2, Kind.LIVE, None),
        ("cluster.tiers.balanced.quality_share", 0.7, Kind.LIVE, None),
        ("cluster.routing.max_load", 8.0, Kind.LIVE, None),
        ("cluster.routing.queue_tokens", 8, Kind.LIVE, None),
        ("server.max_body_bytes", 2048, Kind.LIVE, None),
        ("cluster.sizes.2b.replicas.max_replicas", 3, Kind.SCALE, Size.B2),
        ("server.ingress_replicas", 2, Kind.SCALE, None),
        ("cluster.sizes.9b.revision", "abc", Kind.REPLACE, Size.B9),
        ("cluster.sizes.9b.source", "hf://google/gemma-2-9b-it", Kind.REPLACE, Size.B9),
        ("cluster.sizes.27b.engine.max_running", 8, Kind.REPLACE, Size.B27),
        ("cluster.sizes.27b.tensor_parallel", 1, Kind.EVERYTHING, None),
        ("cluster.sizes.2b.cpus_per_rank", 2.0, Kind.RESHAPE, Size.B2),
        ("cluster.routing.replica_choice", "power_of_two", Kind.EVERYTHING, None),
        ("server.http_port", 8001, Kind.REFUSED, None),
    ],
)
def test_a_setting_has_a_fate(path: str, value: Any, kind: Kind, size: Size | None) -> None:
    (change,) = changes_of(TREE, changed(path, value))
    assert (change.path, change.after, change.kind, change.size) == (path, value, kind, size)


def test_equal_settings_change_nothing() -> None:
    assert changes_of(TREE, copy.deepcopy(TREE)) == []


def test_a_size_that_is_gone_is_one_change() -> None:
    tree = copy.deepcopy(TREE)
    del tree["cluster"]["sizes"]["9b"]
    (change,) = changes_of(TREE, tree)
    assert (change.path, change.after, change.kind) == ("cluster.sizes.9b", None, Kind.EVERYTHING)


def test_steps_say_who_is_away_for_how_long_and_who_covers() -> None:
    tree = changed("cluster.sizes.27b.engine.max_running", 8)
    tree["cluster"]["sizes"]["2b"]["revision"] = "abc"
    cluster = from_tree(tree).cluster
    first, second = steps_of(changes_of(TREE, tree), cluster, {Size.B2: 3}, {Size.B2: 10.0})
    assert (first.size, first.replicas, first.away_s, first.waits) == (Size.B2, 3, 15.0, False)
    assert (second.size, second.replicas, second.away_s, second.waits) == (Size.B27, 1, None, True)
    assert all(sizes == (Size.B2, Size.B9) for sizes in second.cover.values())
    assert devices(cluster, {Size.B2: 3}) == 3 + 1 + 2
