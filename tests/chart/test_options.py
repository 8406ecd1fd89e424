"""Both sides of every `if` in the templates that no other test looks at."""

from typing import Any

import pytest

from tests.chart import tools
from tests.chart.pods import pods_of
from tests.chart.tools import Tree


def pods(*value_sets: str, **values: Any) -> dict[str, Tree]:
    return pods_of(tools.ray_service(*value_sets, values=values))


def ray_container(pod: Tree) -> Tree:
    container: Tree = pod["spec"]["containers"][0]
    return container


def env_of(pod: Tree) -> dict[str, Tree]:
    return {variable["name"]: variable for variable in ray_container(pod)["env"]}


def names(kind: str, **values: Any) -> list[str]:
    return [item["metadata"]["name"] for item in tools.of_kind(tools.objects("minimal", values=values), kind)]


@pytest.mark.parametrize(
    ("release", "override", "name"),
    [("prod", "", "prod-gemmule"), ("my-gemmule", "", "my-gemmule"), ("prod", "gemma", "gemma")],
)
def test_the_name_comes_from_the_release_or_is_given(release: str, override: str, name: str) -> None:
    service = tools.ray_service("minimal", release=release, values={"fullnameOverride": override})
    assert service["metadata"]["name"] == name


def test_a_digest_wins_over_a_tag_and_a_tag_over_the_version() -> None:
    digest = "sha256:" + "ab" * 32
    chosen = [{"tag": "1.2", "digest": digest}, {"tag": "1.2"}, {"tag": ""}]
    images = [ray_container(pods("minimal", image=image)["head"])["image"] for image in chosen]
    assert [image.removeprefix("registry.example/gemmule") for image in images] == [f"@{digest}", ":1.2", ":0.1.0"]


def test_the_account_is_made_or_taken() -> None:
    assert names("ServiceAccount") == ["gemmule"]
    assert names("ServiceAccount", serviceAccount={"name": "own"}) == ["own"]
    assert names("ServiceAccount", serviceAccount={"create": False}) == []
    given = {"create": False, "name": "there"}
    for account, name in (({"create": False}, "default"), (given, "there"), ({"name": "own"}, "own")):
        assert pods("minimal", serviceAccount=account)["2b"]["spec"]["serviceAccountName"] == name


def test_policies_and_budget_can_be_left_out() -> None:
    assert names("NetworkPolicy") == ["gemmule", "gemmule-head"]
    assert names("NetworkPolicy", networkPolicy={"enabled": False}) == []
    assert names("PodDisruptionBudget", podDisruptionBudget={"maxUnavailable": 0}) != []
    assert names("PodDisruptionBudget", podDisruptionBudget={"enabled": False, "maxUnavailable": 0}) == []


def test_a_budget_keeps_what_is_kept_but_for_one() -> None:
    """In whole pods: for a percentage the controller asks RayCluster for a number that it does not have."""
    two = {"min_replicas": 2, "max_replicas": 4}

    def kept(**budget: int) -> dict[str, int]:
        config = {"server": {"ingress_replicas": 4}, "cluster": {"sizes": {"9b": {"replicas": two}}}}
        values = {"podDisruptionBudget": budget, "config": config}
        found = tools.of_kind(tools.objects("minimal", values=values), "PodDisruptionBudget")
        assert all(set(item["spec"]) == {"minAvailable", "unhealthyPodEvictionPolicy", "selector"} for item in found)
        label = "app.kubernetes.io/component"
        return {item["spec"]["selector"]["matchLabels"][label]: item["spec"]["minAvailable"] for item in found}

    assert kept() == {"edge": 1, "9b": 1}  # two edge pods; 2b and 27b have one replica each
    assert kept(maxUnavailable=0) == {"head": 1, "edge": 2, "2b": 1, "9b": 2, "27b": 1}
    assert kept(maxUnavailable=2) == {}


def test_the_hub_token_reaches_those_who_download_by_reference() -> None:
    without, having = pods("minimal"), pods("8xh100")
    assert not any("HF_TOKEN" in env_of(pod) for pod in [*without.values(), having["head"]])
    for size in ("2b", "9b", "27b"):
        reference = env_of(having[size])["HF_TOKEN"]["valueFrom"]["secretKeyRef"]
        assert reference == {"name": "hf-token", "key": "token"}


def test_the_ray_token_is_kuberays_or_ones_own() -> None:
    options = [tools.ray_service(name)["spec"]["rayClusterConfig"]["authOptions"] for name in ("minimal", "8xh100")]
    assert options == [{"mode": "token"}, {"mode": "token", "secretName": "gemmule-ray-token"}]


@pytest.mark.parametrize(
    ("degree", "share", "gpus"), [(1, 1, 1), (2, 1, 2), (4, 1, 4), (1, 0.5, 1), (4, 0.5, 2), (2, 0, 0)]
)
def test_a_pod_has_the_gpus_of_one_replica(degree: int, share: float, gpus: int) -> None:
    size = {"tensor_parallel": degree, "gpus_per_rank": share}
    pod = pods("minimal", config={"cluster": {"sizes": {"27b": size}}}, sizes={"27b": {"gpuResource": "amd.com/gpu"}})
    assert ray_container(pod["27b"])["resources"]["limits"].get("amd.com/gpu", "0") == str(gpus)
    assert "nvidia.com/gpu" not in ray_container(pod["27b"])["resources"]["limits"]


def test_a_pods_cpus_follow_from_the_ranks_or_are_given() -> None:
    size = {"config": {"cluster": {"sizes": {"27b": {"tensor_parallel": 4, "cpus_per_rank": 1.5}}}}}
    assert ray_container(pods("minimal", **size)["27b"])["resources"]["limits"]["cpu"] == "6"
    assert ray_container(pods("minimal", **size, sizes={"27b": {"cpu": 9}})["27b"])["resources"]["limits"]["cpu"] == "9"


def test_the_cache_is_a_claim_or_the_pods_own() -> None:
    def cache(pod: Tree) -> Tree:
        (volume,) = (volume for volume in pod["spec"]["volumes"] if volume["name"] == "cache")
        return {key: value for key, value in volume.items() if key != "name"}

    assert cache(pods("minimal")["2b"]) == {"emptyDir": {"sizeLimit": "20Gi"}}
    assert cache(pods("8xh100")["2b"]) == {"persistentVolumeClaim": {"claimName": "gemma-weights"}}
    made = pods("minimal", modelCache={"kind": "claim"})
    assert {str(cache(pod)) for pod in made.values()} == {
        str({"persistentVolumeClaim": {"claimName": "gemmule-models"}})
    }
    single = pods("minimal", modelCache={"kind": "claim", "accessMode": "ReadWriteOnce"})
    held = {name for name, pod in single.items() if "persistentVolumeClaim" in cache(pod)}
    assert held == {"2b", "9b", "27b"}
    own = pods("minimal", modelCache={"kind": "ephemeral", "storageClass": "nvme"})
    assert "emptyDir" in cache(own["head"])
    assert "emptyDir" in cache(own["edge"])
    assert cache(own["27b"])["ephemeral"]["volumeClaimTemplate"]["spec"] == {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "nvme",
        "resources": {"requests": {"storage": "20Gi"}},
    }


def test_the_claim_is_made_kept_or_taken() -> None:
    assert names("PersistentVolumeClaim") == []
    assert names("PersistentVolumeClaim", modelCache={"kind": "claim"}) == ["gemmule-models"]
    assert names("PersistentVolumeClaim", modelCache={"kind": "claim", "existingClaim": "there"}) == []
    cache = {"kind": "claim", "accessMode": "ReadWriteOnce", "storageClass": "fast"}
    (claim,) = tools.of_kind(tools.objects("minimal", values={"modelCache": cache}), "PersistentVolumeClaim")
    assert claim["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert (claim["spec"]["accessModes"], claim["spec"]["storageClassName"]) == (["ReadWriteOnce"], "fast")


def test_a_pod_goes_where_it_is_told() -> None:
    place = {
        "nodeSelector": {"gpu": "h100"},
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "priorityClassName": "high",
    }
    told = pods("minimal", sizes={"9b": place}, head=place, image={"pullSecrets": [{"name": "pull"}]})
    assert place.items() <= told["9b"]["spec"].items()
    assert place.items() <= told["head"]["spec"].items()
    assert not place.keys() & told["2b"]["spec"].keys()
    assert all(pod["spec"]["imagePullSecrets"] == [{"name": "pull"}] for pod in told.values())
    assert not any("imagePullSecrets" in pod["spec"] for pod in pods("minimal").values())


def test_extras_reach_every_ray_container() -> None:
    variable = {"name": "KAGGLE_API_TOKEN", "valueFrom": {"secretKeyRef": {"name": "kaggle", "key": "token"}}}
    mount, volume = {"name": "nvme", "mountPath": "/nvme"}, {"name": "nvme", "emptyDir": {}}
    for pod in pods("minimal", extraEnv=[variable], extraVolumes=[volume], extraVolumeMounts=[mount]).values():
        assert env_of(pod)["KAGGLE_API_TOKEN"] == variable
        assert volume in pod["spec"]["volumes"]
        assert mount in ray_container(pod)["volumeMounts"]


def test_policies_open_what_is_asked_for_and_no_more() -> None:
    def egress(*value_sets: str, **policy: Any) -> list[Tree]:
        found = tools.objects(*value_sets, values={"networkPolicy": policy})
        rules: list[Tree] = tools.of_kind(found, "NetworkPolicy")[0]["spec"]["egress"]
        return rules

    hub, extra = {"ports": [{"port": 443}]}, {"ports": [{"port": 3128}]}
    assert hub not in egress("minimal")
    assert hub in egress("8xh100")
    assert extra in egress("minimal", extraEgress=[extra])
    ledger = tools.objects("minimal", values={"database": {"existingSecret": "ledger"}})
    assert {"ports": [{"port": 5432}]} in tools.of_kind(ledger, "NetworkPolicy")[0]["spec"]["egress"]

    def ingress(**policy: Any) -> str:
        found = tools.objects("minimal", values={"networkPolicy": policy})
        return str(tools.of_kind(found, "NetworkPolicy")[0]["spec"]["ingress"])

    assert "10.0.0.0/8" in ingress(clientCIDRs=["10.0.0.0/8"])
    assert "monitoring" in ingress()
    assert "8080" not in ingress(monitoringNamespace="")
    assert "'kubernetes.io/metadata.name': 'gateways'" in ingress(clientNamespaces=["gateways"])


def test_a_pools_pod_is_its_first_sizes_but_for_what_it_says() -> None:
    spot = {
        "name": "9b-spot", "sizes": ["9b"], "max": 3, "nodeSelector": {"spot": "true"}, "memory": "9Gi"
    }  # fmt: skip
    base = {"9b": {"nodeSelector": {"gpu": "l4"}, "priorityClassName": "high", "cpu": 8, "shmSize": "1Gi"}}
    service = tools.ray_service("minimal", values={"sizes": base, "pools": [spot]})
    *_, size, _, pool = service["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    assert (size["priority"], size["maxReplicas"]) == (10, 16)
    assert (pool["groupName"], pool.get("priority"), pool["maxReplicas"]) == ("9b-spot", None, 3)
    assert pool["resources"] == size["resources"] == {"size_9b": "1"}
    of_pool, of_size = pool["template"]["spec"], size["template"]["spec"]
    assert (of_pool["nodeSelector"], of_size["nodeSelector"]) == ({"spot": "true"}, {"gpu": "l4"})
    assert of_pool["priorityClassName"] == "high"
    limits = [spec["containers"][0]["resources"]["limits"] for spec in (of_pool, of_size)]
    assert limits == [{"cpu": "1", "memory": "9Gi"}, {"cpu": "8", "memory": "4Gi"}]
    assert pool["template"]["metadata"] == size["template"]["metadata"]  # one budget for both


@pytest.mark.parametrize(("shares", "gpus"), [((0.1, 0.3, 0.6), "1"), ((0.1, 0.2, 0.7), "1"), ((0.5, 0.5, 1), "2")])
def test_a_pool_of_several_sizes_has_room_for_one_of_each(shares: tuple[float, ...], gpus: str) -> None:
    sizes = dict(zip(("2b", "9b", "27b"), shares, strict=True))
    config = {"cluster": {"sizes": {k: {"gpus_per_rank": v, "tensor_parallel": 1} for k, v in sizes.items()}}}
    service = tools.ray_service(
        "minimal", values={"config": config, "pools": [{"name": "all", "sizes": [*sizes], "max": 1}]}
    )
    pool = service["spec"]["rayClusterConfig"]["workerGroupSpecs"][-1]
    assert pool["resources"] == {"size_2b": "1", "size_9b": "1", "size_27b": "1"}
    limits = pool["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert (limits["nvidia.com/gpu"], limits["cpu"]) == (gpus, "3")
    assert pool["template"]["metadata"]["labels"]["app.kubernetes.io/component"] == "all"


def test_redis_keeps_the_heads_state_by_reference() -> None:
    def options(**redis: str) -> Any:
        cluster = tools.ray_service("minimal", values={"gcs": {"redis": redis}})["spec"]["rayClusterConfig"]
        return cluster.get("gcsFaultToleranceOptions")

    assert options() is None
    assert options(address="redis:6379") == {"backend": "redis", "redisAddress": "redis:6379"}
    secret = {"valueFrom": {"secretKeyRef": {"name": "r", "key": "password"}}}
    assert options(address="rediss://r.example:6380", existingSecret="r")["redisPassword"] == secret
    found = tools.objects("minimal", values={"gcs": {"redis": {"address": "rediss://r.example:6380"}}})
    head = tools.of_kind(found, "NetworkPolicy")[1]
    assert {"ports": [{"port": 6380}]} in head["spec"]["egress"]


def test_the_ledgers_database_reaches_the_edge_alone() -> None:
    holding = pods("minimal", database={"existingSecret": "ledger"})
    assert [name for name, pod in holding.items() if "GEMMULE_DATABASE_URL" in env_of(pod)] == ["edge"]
    reference = env_of(holding["edge"])["GEMMULE_DATABASE_URL"]["valueFrom"]["secretKeyRef"]
    assert reference == {"name": "ledger", "key": "url"}
    assert "GEMMULE_DATABASE_URL" not in env_of(pods("minimal")["edge"])
