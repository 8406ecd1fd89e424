"""The chart repeats nothing: its `config:` is the code's tree, and its defaults are the code's."""

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.config import AutoscaleConfig, ClusterConfig, SizeConfig
from cluster.environment import prepare
from serving.config import Settings, from_tree, load
from tests.chart import tools
from tests.chart.tools import Tree

each_set = pytest.mark.parametrize("name", tools.VALUE_SETS)
AWKWARD: Tree = {
    "server": {"max_body_bytes": 4_194_304_000},
    "cluster": {
        "token_env": "HF_TOKEN_2",
        "sizes": {
            "2b": {
                "source": "/models/a <b> & 'c' \"d\" {{ .Values }} – ü",
                "revision": "1e6",
                "usd_per_mtoken": 0.000001,
                "engine": {"kv_tokens": 123_456_789, "max_waiting": 0},
            },
        },
        "routing": {"spill_load": 1.0, "max_load": 1.25},
    },
}


def config_map(*value_sets: str, **options: Any) -> Tree:
    """The one that holds settings; the others are dashboards."""
    (found,) = (
        x for x in tools.of_kind(tools.objects(*value_sets, **options), "ConfigMap") if "gemmule.yaml" in x["data"]
    )
    return found


def mounted(*value_sets: str, **options: Any) -> Tree:
    """The tree in the ConfigMap."""
    tree: Tree = yaml.safe_load(config_map(*value_sets, **options)["data"]["gemmule.yaml"])
    return tree


def given(*value_sets: str, **options: Any) -> Tree:
    """The tree that the ingress is given."""
    return tools.settings_tree(tools.ray_service(*value_sets, **options))


@each_set
def test_the_code_loads_what_is_mounted(name: str, tmp_path: Path) -> None:
    """By the function that `gemmule --config FILE` uses."""
    (tmp_path / "gemmule.yaml").write_text(config_map(name)["data"]["gemmule.yaml"], encoding="utf-8")
    settings = load(tmp_path / "gemmule.yaml")
    assert settings.model_dump() == from_tree(given(name)).model_dump()
    assert settings.server.host == "0.0.0.0"  # noqa: S104


@each_set
def test_the_mount_is_where_the_command_looks(name: str) -> None:
    service = tools.ray_service(name)
    spec = service["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]
    (volume,) = (v for v in spec["volumes"] if "configMap" in v)
    assert volume["configMap"]["name"] == config_map(name)["metadata"]["name"]
    mounts = {m["name"]: m["mountPath"] for m in spec["containers"][0]["volumeMounts"]}
    assert mounts[volume["name"]] == "/etc/gemmule"


def test_awkward_values_pass_through_untouched() -> None:
    """Large and small numbers, quotes, braces and what looks like a number."""
    values = {"config": AWKWARD}
    for tree in (mounted("minimal", values=values), given("minimal", values=values)):
        settings = from_tree(tree)
        size = next(config for name, config in settings.cluster.sizes.items() if name == "2b")
        wanted = AWKWARD["cluster"]["sizes"]["2b"]
        assert (size.source, size.revision) == (wanted["source"], wanted["revision"])
        assert (size.usd_per_mtoken, size.engine.kv_tokens, size.engine.max_waiting) == (0.000001, 123_456_789, 0)
        assert settings.server.max_body_bytes == 4_194_304_000
        assert (settings.cluster.token_env, settings.cluster.routing.max_load) == ("HF_TOKEN_2", 1.25)


def test_defaults_are_those_of_make_serve() -> None:
    """But for the address, and a deadline that an upgrade can wait for."""
    chart, code = from_tree(given("minimal")), Settings.model_construct()
    assert chart.cluster.model_copy(update={"routing": code.cluster.routing}) == ClusterConfig()
    assert chart.cluster.routing == code.cluster.routing.model_copy(update={"max_timeout_s": 600})
    assert chart.server == code.server.model_copy(update={"host": "0.0.0.0"})  # noqa: S104


def test_what_is_left_out_counts_as_the_codes_default() -> None:
    """_helpers.tpl has to know the defaults that pods follow from; here they are held to the code's."""
    fields, bounds = SizeConfig.model_fields, AutoscaleConfig()
    said = {
        "tensor_parallel": fields["tensor_parallel"].default,
        "gpus_per_rank": fields["gpus_per_rank"].default,
        "cpus_per_rank": fields["cpus_per_rank"].default,
        "replicas": {"min_replicas": bounds.min_replicas, "max_replicas": bounds.max_replicas},
    }
    path = "config.cluster.sizes.27b"
    silent = tools.ray_service("minimal", values=tools.nested(path, dict.fromkeys(said)))
    spoken = tools.ray_service("minimal", values=tools.nested(path, said))
    assert silent["spec"]["rayClusterConfig"] == spoken["spec"]["rayClusterConfig"]
    left, right = (tools.serve_config(service)["applications"][0]["deployments"] for service in (silent, spoken))
    for entry in (*left, *right):
        del entry["user_config"]  # passed through as it is written, for the code to fill in
    assert left == right
    ports = dict.fromkeys(["http_port", "grpc_port"])
    silent = tools.ray_service("minimal", values=tools.nested("config.server", ports))
    assert silent["spec"]["rayClusterConfig"] == tools.ray_service("minimal")["spec"]["rayClusterConfig"]
    token = {"hfToken": {"existingSecret": "hf"}}
    assert f"name: {ClusterConfig().token_env}\n" in tools.template("minimal", values=token).stdout


def test_pods_have_the_environment_of_a_private_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `cluster.environment` sets here is set there; the token there is KubeRay's."""
    monkeypatch.setattr(os, "environ", {})
    prepare()
    wanted = {key: value for key, value in os.environ.items() if key.startswith("RAY_") and "AUTH" not in key}
    cluster = tools.ray_service("minimal")["spec"]["rayClusterConfig"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        env = {e["name"]: e.get("value") for e in group["template"]["spec"]["containers"][0]["env"]}
        assert wanted.items() <= env.items()
    assert len(wanted) == 3
