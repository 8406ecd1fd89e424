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
    assert names("PodDisruptionBudget") == ["gemmule"]
    assert names("PodDisruptionBudget", podDisruptionBudget={"enabled": False}) == []


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

    def ingress(**policy: Any) -> str:
        found = tools.objects("minimal", values={"networkPolicy": policy})
        return str(tools.of_kind(found, "NetworkPolicy")[0]["spec"]["ingress"])

    assert "monitoring" in ingress()
    assert "8080" not in ingress(monitoringNamespace="")
    assert "'kubernetes.io/metadata.name': 'gateways'" in ingress(clientNamespaces=["gateways"])


def test_the_ingress_goes_with_the_first_size_that_is_served() -> None:
    def holders(**sizes: None) -> list[str]:
        groups = tools.ray_service("minimal", values={"config": {"cluster": {"sizes": sizes}}})
        found = groups["spec"]["rayClusterConfig"]["workerGroupSpecs"]
        return [group["groupName"] for group in found if "ingress" in group["resources"]]

    assert holders() == ["2b"]
    assert holders(**{"2b": None}) == ["9b"]
    assert holders(**{"2b": None, "9b": None}) == ["27b"]
