"""What leads to the faces: gateway, ingress, the Service that KubeRay makes, and the policies around them."""

from collections.abc import Iterator
from typing import Any

import pytest

from serving.config import ServerConfig, from_tree
from serving.ingress import GRPC_SERVICER_FUNCTIONS
from serving.rpc.health import SERVICE
from tests.chart import crd, tools
from tests.chart.tools import Tree

EVERYTHING = "everything-on"
SERVED = pytest.mark.parametrize("name", tools.VALUE_SETS)
GATEWAY = ("Gateway", "HTTPRoute", "GRPCRoute")


def one(kind: str, *value_sets: str, **values: Any) -> Tree:
    (found,) = tools.of_kind(tools.objects(*value_sets, values=values), kind)
    return found


def backends(found: list[Tree]) -> Iterator[tuple[str, int, str]]:
    """Service, port and kind of everything that leads in."""
    for item in found:
        for rule in item.get("spec", {}).get("rules", ()):
            if item["kind"] == "Ingress":
                for path in rule["http"]["paths"]:
                    service = path["backend"]["service"]
                    yield service["name"], service["port"]["number"], item["metadata"]["name"].rsplit("-", 1)[-1]
            elif item["kind"] in GATEWAY:
                for backend in rule["backendRefs"]:
                    yield backend["name"], backend["port"], item["kind"]


@SERVED
def test_every_way_leads_to_the_port_of_its_face(name: str) -> None:
    """Serve's configuration, the head's ports that make the Service, what the Service says, and routes: one number."""
    found = tools.objects(name)
    service = tools.ray_service(name)
    serve = tools.serve_config(service)
    http, grpc = serve["http_options"]["port"], serve["grpc_options"]["port"]
    said = {
        port["name"]: (port["port"], port["appProtocol"]) for port in service["spec"]["serveService"]["spec"]["ports"]
    }
    assert said == {"serve": (http, "http"), "serve-grpc": (grpc, "kubernetes.io/h2c")}
    made = f"{service['metadata']['name']}-serve-svc"
    for to, port, kind in backends(found):
        assert to == made
        assert port == (grpc if kind in ("GRPCRoute", "grpc") else http)
    for pod in tools.of_kind(found, "Pod"):
        (address,) = (word for word in pod["spec"]["containers"][0]["args"] if made in word)
        assert address.endswith(f":{http if address.startswith('http') else grpc}")


@pytest.mark.parametrize("ports", [(8100, 9100)])
def test_other_ports_are_followed_everywhere(ports: tuple[int, int]) -> None:
    config = {"server": {"http_port": ports[0], "grpc_port": ports[1]}}
    found = tools.objects(EVERYTHING, values={"config": config})
    others = [item for item in found if item["kind"] != "ConfigMap"]  # a dashboard's numbers are no ports
    assert "8000" not in str(others)
    assert "9000" not in str(others)
    assert {port for _, port, _ in backends(found)} == set(ports)


def test_both_kinds_of_route_fit_gateway_apis_definitions() -> None:
    found = [item for item in tools.objects(EVERYTHING) if item["kind"] in GATEWAY]
    assert [crd.errors(item) for item in found] == [[], [], []]


@pytest.mark.parametrize(
    ("kind", "where", "name", "value"),
    [
        ("Gateway", ("spec", "listeners", 0), "hostnames", ["a"]),
        ("Gateway", ("spec", "listeners", 0), "protocol", 443),
        ("HTTPRoute", ("spec",), "hostname", "a"),
        ("HTTPRoute", ("spec", "rules", 0, "timeouts"), "request", "10 minutes"),
        ("HTTPRoute", ("spec", "rules", 0, "matches", 0, "path"), "type", "Prefix"),
        ("GRPCRoute", ("spec", "rules", 0), "timeouts", {}),
        ("GRPCRoute", ("spec", "rules", 0, "backendRefs", 0), "port", "9000"),
    ],
)
def test_gateway_apis_definitions_refuse(kind: str, where: tuple[str | int, ...], name: str, value: Any) -> None:
    item = one(kind, EVERYTHING)
    node: Any = item
    for step in where:
        node = node[step]
    node[name] = value
    (error,) = crd.errors(item)
    assert name in error


def test_a_gateway_of_the_release_speaks_tls_only() -> None:
    gateway = one("Gateway", EVERYTHING)
    listeners = gateway["spec"]["listeners"]
    assert [listener["hostname"] for listener in listeners] == ["gemmule.example.com", "grpc.gemmule.example.com"]
    for listener in listeners:
        assert (listener["protocol"], listener["tls"]["mode"]) == ("HTTPS", "Terminate")
        assert listener["tls"]["certificateRefs"] == [{"name": "gemmule-tls"}]
    for kind in ("HTTPRoute", "GRPCRoute"):
        assert one(kind, EVERYTHING)["spec"]["parentRefs"] == [{"name": gateway["metadata"]["name"]}]


def test_a_gateway_that_is_there_is_taken() -> None:
    there = [{"name": "shared", "namespace": "gateways", "sectionName": "https"}]
    values = {"gateway": {"create": False, "parentRefs": there}}
    assert not tools.of_kind(tools.objects(EVERYTHING, values=values), "Gateway")
    assert one("HTTPRoute", EVERYTHING, **values)["spec"]["parentRefs"] == there


def test_no_grpc_hostname_no_grpc_route_and_nothing_without_a_switch() -> None:
    without = tools.objects(EVERYTHING, values={"gateway": {"grpcHostnames": []}, "ingress": {"grpcHosts": []}})
    assert not tools.of_kind(without, "GRPCRoute")
    assert len(tools.of_kind(without, "Ingress")) == 1
    closed = tools.objects(EVERYTHING, values={"gateway": {"enabled": False}, "ingress": {"enabled": False}})
    assert not [item for item in closed if item["kind"] in (*GATEWAY, "Ingress")]


def paths_let_through() -> list[set[str]]:
    route = one("HTTPRoute", EVERYTHING)
    (rest, _) = tools.of_kind(tools.objects(EVERYTHING), "Ingress")
    return [
        {match["path"]["value"] for match in route["spec"]["rules"][0]["matches"]},
        {path["path"] for path in rest["spec"]["rules"][0]["http"]["paths"]},
    ]


def test_what_operators_ask_for_is_not_let_through() -> None:
    for paths in paths_let_through():
        assert paths == {"/v1", "/healthz", "/readyz", "/predict", "/health"}


def test_grpc_lets_our_services_through_and_not_rays() -> None:
    route = one("GRPCRoute", EVERYTHING)
    (_, grpc) = tools.of_kind(tools.objects(EVERYTHING), "Ingress")
    services = {match["method"]["service"] for match in route["spec"]["rules"][0]["matches"]}
    assert {f"/{name}" for name in services} == {path["path"] for path in grpc["spec"]["rules"][0]["http"]["paths"]}
    assert {SERVICE, "grpc.health.v1.Health"} <= services
    assert len(GRPC_SERVICER_FUNCTIONS) == 2  # a third service would have to be let through
    assert not [name for name in services if name.startswith("ray.")]


def test_an_answer_may_take_as_long_as_an_upgrade_waits_for_it() -> None:
    route = one("HTTPRoute", EVERYTHING, serving={"maxStreamSeconds": 700})
    assert route["spec"]["rules"][0]["timeouts"] == {"request": "700s"}


def test_an_ingress_has_its_certificate_or_its_controllers() -> None:
    rest, grpc = tools.of_kind(tools.objects(EVERYTHING), "Ingress")
    assert rest["spec"]["tls"] == [{"secretName": "gemmule-tls", "hosts": ["old.gemmule.example.com"]}]
    assert grpc["metadata"]["annotations"] == {"nginx.ingress.kubernetes.io/backend-protocol": "GRPC"}
    assert all("tls" not in item["spec"] for item in tools.of_kind(tools.objects("eks"), "Ingress"))


def test_vertex_routes_are_the_configurations() -> None:
    server: ServerConfig = from_tree({"server": {"predict_route": "/predict", "health_route": "/health"}}).server
    told = tools.settings_tree(tools.ray_service("vertex"))["server"]
    assert (told["predict_route"], told["health_route"]) == (server.predict_route, server.health_route)
    over = tools.objects("8xh100", "vertex")  # as the set's comment says
    assert tools.of_kind(over, "RayService")
