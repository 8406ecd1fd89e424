"""Does Ray take what it is given? The only module here that imports Ray."""

import copy
import importlib
import json
import typing
from collections.abc import Iterator
from math import ceil
from typing import Any, Final

import pytest
import yaml
from pydantic import BaseModel, ValidationError
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr
from ray.serve._private.deploy_utils import get_app_code_version
from ray.serve.config import AutoscalingConfig
from ray.serve.schema import DeploymentSchema, ServeDeploySchema

from cluster.build import APP_NAME, INGRESS_NAME
from cluster.wanted import Wanted
from serving.config import from_tree
from serving.ingress import GRPC_SERVICER_FUNCTIONS, application, build_app, serve_config_of
from tests.chart import tools
from tests.chart.tools import Tree

each_set = pytest.mark.parametrize("name", tools.VALUE_SETS)
_PLAIN: Final = {(DeploymentSchema, "autoscaling_config"): AutoscalingConfig}  # declared as a dict, read as this


def unknown_names(model: type[BaseModel], tree: Any, where: str = "$") -> Iterator[str]:
    """Paths that the model does not have: pydantic drops them in silence, and what they were meant to say is lost."""
    known = {field.alias or name: (name, field) for name, field in model.model_fields.items()}
    for key, value in tree.items():
        if key not in known:
            yield f"{where}.{key}"
            continue
        name, field = known[key]
        inner = _PLAIN.get((model, name)) or next(_models_in(field.annotation), None)
        for at, item in enumerate(value if isinstance(value, list) else [value]):
            if inner and isinstance(item, dict):
                yield from unknown_names(inner, item, f"{where}.{key}" + f"[{at}]" * isinstance(value, list))


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in typing.get_args(annotation):
        yield from _models_in(part)


def deployments_of(serve: Tree) -> dict[str, Tree]:
    (application,) = serve["applications"]
    return {deployment["name"]: deployment for deployment in application["deployments"]}


@each_set
def test_rays_own_schema_takes_it_whole(name: str) -> None:
    serve = tools.serve_config(tools.ray_service(name))
    parsed = ServeDeploySchema.model_validate(serve)
    assert list(unknown_names(ServeDeploySchema, serve)) == []
    (application,) = parsed.applications
    assert (application.name, application.route_prefix) == (APP_NAME, "/")
    assert parsed.grpc_options.port == serve["grpc_options"]["port"]


@pytest.mark.parametrize(
    ("path", "typo"),
    [
        ((), "htpp_options"),
        (("http_options",), "prot"),
        (("grpc_options",), "reflection"),
        (("applications", 0), "importpath"),
        (("applications", 0, "deployments", 1), "maxOngoingRequests"),
        (("applications", 0, "deployments", 1, "ray_actor_options"), "num_gpu"),
        (("applications", 0, "deployments", 1, "autoscaling_config"), "maxReplicas"),
    ],
)
def test_a_misspelling_is_found_where_ray_drops_it(path: tuple[str | int, ...], typo: str) -> None:
    serve = tools.serve_config(tools.ray_service("minimal"))
    node: Any = serve
    for step in path:
        node = node.setdefault(step, {}) if isinstance(node, dict) else node[step]
    node[typo] = 1
    (found,) = unknown_names(ServeDeploySchema, serve)
    assert found.endswith(f".{typo}")


@pytest.mark.parametrize(
    ("key", "value"), [("proxy_location", "Everywhere"), ("http_options", {"port": "x"}), ("applications", [{}])]
)
def test_a_wrong_value_is_refused_by_ray(key: str, value: Any) -> None:
    serve = tools.serve_config(tools.ray_service("minimal"))
    with pytest.raises(ValidationError):
        ServeDeploySchema.model_validate(serve | {key: value})


@each_set
def test_what_is_imported_exists(name: str) -> None:
    serve = tools.serve_config(tools.ray_service(name))
    module, _, attribute = serve["applications"][0]["import_path"].partition(":")
    assert getattr(importlib.import_module(module), attribute) is build_app
    assert tuple(serve["grpc_options"]["grpc_servicer_functions"]) == GRPC_SERVICER_FUNCTIONS
    for function in GRPC_SERVICER_FUNCTIONS:
        module, _, attribute = function.rpartition(".")
        assert callable(getattr(importlib.import_module(module), attribute))


def code_of(serve: Tree, settings: bool) -> dict[str, Any]:
    """Deployments that the code makes: of the arguments alone, or of the whole settings as `gemmule serve` would."""
    front = build_app(copy.deepcopy(serve["applications"][0]["args"]))
    if settings:
        front = application(from_tree(deployments_of(serve)[INGRESS_NAME]["user_config"]))
    front = front._bound_deployment
    (sizes,) = front.init_args
    return {each.name: each for each in (front, *(size._bound_deployment for size in sizes.values()))}


@each_set
def test_the_policy_of_all_sizes_is_the_one_that_gemmule_serve_takes(name: str) -> None:
    serve = tools.serve_config(tools.ray_service(name))
    settings = from_tree(deployments_of(serve)[INGRESS_NAME]["user_config"])
    given, own = serve["applications"][0], serve_config_of(settings)["applications"][0]
    for key in ("name", "import_path", "args", "autoscaling_policy"):
        assert given[key] == own[key]
    module, _, attribute = given["autoscaling_policy"]["policy_function"].partition(":")
    assert getattr(importlib.import_module(module), attribute)(**given["autoscaling_policy"]["policy_kwargs"])
    for entry in own["deployments"]:
        theirs = deployments_of(serve)[entry["name"]]
        assert entry.get("autoscaling_config") == theirs.get("autoscaling_config")


@each_set
def test_the_application_has_the_deployments_that_are_spoken_of(name: str) -> None:
    """Serve refuses an entry for a deployment that the application lacks, and only at run time."""
    serve = tools.serve_config(tools.ray_service(name))
    assert code_of(serve, settings=False).keys() == deployments_of(serve).keys()


@each_set
def test_entries_say_what_gemmule_serve_says(name: str) -> None:
    """The arguments bring no settings, so the entries must: the same as on a laptop, and the pin."""
    serve = tools.serve_config(tools.ray_service(name))
    code, chart = code_of(serve, settings=True), deployments_of(serve)
    front = chart.pop(INGRESS_NAME)
    assert front["ray_actor_options"]["num_cpus"] == 0
    assert front["num_replicas"] == code.pop(INGRESS_NAME).num_replicas
    for size, deployment in code.items():
        entry, pin = chart[size], {f"size_{size}": 1}
        options = dict(entry["ray_actor_options"])
        assert options.pop("resources") == pin
        assert options == deployment.ray_actor_options
        assert Wanted.model_validate(entry["user_config"]) == Wanted.model_validate(deployment.user_config)
        assert AutoscalingConfig(**entry["autoscaling_config"]) == deployment._deployment_config.autoscaling_config
        if (bundles := deployment._replica_config.placement_group_bundles) is None:
            assert "placement_group_bundles" not in entry
        else:
            first, *others = entry["placement_group_bundles"]
            assert [{k: v for k, v in first.items() if k not in pin}, *others] == bundles
            assert pin.items() <= first.items()


@each_set
def test_what_the_arguments_leave_out_is_the_same_for_all_settings(name: str) -> None:
    """Options that no entry brings come of the arguments alone."""
    serve = tools.serve_config(tools.ray_service(name))
    for size, deployment in code_of(serve, settings=True).items():
        other = code_of(serve, settings=False)[size]
        for option in ("max_ongoing_requests", "health_check_period_s", "health_check_timeout_s"):
            assert getattr(other._deployment_config, option) == getattr(deployment._deployment_config, option)
        assert other._replica_config.placement_group_strategy == deployment._replica_config.placement_group_strategy


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("config.cluster.sizes.2b.usd_per_mtoken", 0.2),
        ("config.cluster.sizes.2b.revision", "abc"),
        ("config.cluster.sizes.2b.source", "hf://a/b"),
        ("config.cluster.sizes.2b.replicas.max_replicas", 3),
        ("config.cluster.routing", {"queue_tokens": 8, "max_timeout_s": 500}),
        ("config.cluster.tiers", {"economy": {"quality_share": 0.1}}),
        ("config.server.ingress_replicas", 2),
    ],
)
def test_serve_does_not_take_it_for_another_application(path: str, value: Any) -> None:
    """By Ray's own digest: one that differs replaces every replica. A private function: Ray is pinned."""
    assert version_of() == version_of(values=tools.nested(path, value))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("config.cluster.routing.replica_choice", "power_of_two"),
        ("config.cluster.sizes.9b", None),
        ("config.cluster.sizes.27b.tensor_parallel", 1),
    ],
)
def test_serve_takes_it_for_another_application(path: str, value: Any) -> None:
    assert version_of() != version_of(values=tools.nested(path, value))


def version_of(**options: Any) -> str:
    (application,) = ServeDeploySchema.model_validate(
        tools.serve_config(tools.ray_service("minimal", **options))
    ).applications
    return get_app_code_version(application)


@each_set
def test_every_replica_fits_one_pod_of_its_own_size_and_no_other(name: str) -> None:
    """With the numbers that Ray's autoscaler derives of the specification. A private function: Ray is pinned."""
    service = tools.ray_service(name)
    seen = {"metadata": {"name": "x", "namespace": "y"}, "spec": service["spec"]["rayClusterConfig"]}
    nodes = {
        key: node["resources"]
        for key, node in _derive_autoscaling_config_from_ray_cr(seen)["available_node_types"].items()
    }
    assert nodes.pop("headgroup")["CPU"] == 0
    deployments = deployments_of(tools.serve_config(service))
    front = deployments.pop(INGRESS_NAME)
    pools = {pool["name"]: pool["sizes"] for pool in pools_of(name)}
    assert fitting(front, nodes) == {"edge"}
    assert nodes["edge"]["edge"] == 2 * needs(front)["edge"]
    for size, deployment in deployments.items():
        assert fitting(deployment, nodes) == {size, *(pool for pool, sizes in pools.items() if size in sizes)}
        assert nodes[size].get("GPU", 0) == ceil(needs(deployment).get("GPU", 0))  # one replica fills one pod
    for pool, sizes in pools.items():  # and all that a pool names fit at once
        wants = [needs(deployments[size]) for size in sizes]
        assert all(
            sum(want.get(what, 0) for want in wants) <= nodes[pool].get(what, 0) for want in wants for what in want
        )


def pools_of(name: str) -> list[Tree]:
    values = yaml.safe_load((tools.CHART / "ci" / f"{name}.yaml").read_text(encoding="utf-8"))
    pools: list[Tree] = values.get("pools", [])
    return pools


def needs(deployment: Tree) -> dict[str, float]:
    options = deployment["ray_actor_options"]
    alone = {"CPU": options["num_cpus"], "GPU": options.get("num_gpus", 0), **options["resources"]}
    total: dict[str, float] = {}
    for bundle in deployment.get("placement_group_bundles", [alone]):
        for key, number in bundle.items():
            total[key] = total.get(key, 0) + number
    return total


def fitting(deployment: Tree, nodes: dict[str, dict[str, float]]) -> set[str]:
    wanted = needs(deployment)
    return {key for key, has in nodes.items() if all(number <= has.get(what, 0) for what, number in wanted.items())}


def test_a_size_that_is_not_served_has_pods_but_no_deployment() -> None:
    service = tools.ray_service("minimal", values=tools.nested("config.cluster.sizes.9b", None))
    assert deployments_of(tools.serve_config(service)).keys() == {INGRESS_NAME, "2b", "27b"}
    groups = {group["groupName"]: group for group in service["spec"]["rayClusterConfig"]["workerGroupSpecs"]}
    assert groups["9b"]["minReplicas"] == 0


@each_set
def test_ports_and_host_are_the_servers(name: str) -> None:
    serve = tools.serve_config(tools.ray_service(name))
    server = from_tree(deployments_of(serve)[INGRESS_NAME]["user_config"]).server
    assert serve["http_options"] == {"host": server.host, "port": server.http_port}
    assert (serve["grpc_options"]["port"], serve["grpc_options"]["enable_reflection"]) == (server.grpc_port, True)


@each_set
def test_what_yaml_reads_is_what_json_says(name: str) -> None:
    text = tools.ray_service(name)["spec"]["serveConfigV2"]
    assert yaml.safe_load(text) == json.loads(text)
