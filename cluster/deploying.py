"""What Serve is given to run the application: the configuration that KubeRay would hand it, from the same settings.

Deployed as a configuration and not as a Python object, since only there Serve takes a policy for all sizes together.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from ray.serve import Application

from cluster.build import APP_NAME, INGRESS_NAME
from cluster.config import ClusterConfig

POLICY: Final = "cluster.scaling.serve:BudgetPolicy"


def serve_config(app: Application, config: ClusterConfig, import_path: str) -> dict[str, Any]:
    """Of an application as `cluster.build.build` makes it, for the builder at `import_path`."""
    return {
        "applications": [
            {
                "name": APP_NAME,
                "route_prefix": "/",
                "import_path": import_path,
                "args": {
                    "sizes": {str(size): each.tensor_parallel for size, each in config.sizes.items()},
                    "replica_choice": str(config.routing.replica_choice),
                },
                "autoscaling_policy": {"policy_function": POLICY, "policy_kwargs": {"application": APP_NAME}},
                "deployments": list(_entries(app)),
            }
        ]
    }


def _entries(app: Application) -> Iterator[Mapping[str, Any]]:
    """Settings of every deployment."""
    front = app._bound_deployment
    (sizes,) = front.init_args
    yield {"name": INGRESS_NAME, "num_replicas": front.num_replicas, "user_config": front.user_config}
    for size in sizes.values():
        yield _entry(size._bound_deployment)


def _entry(deployment: Any) -> dict[str, Any]:
    scaling = deployment._deployment_config.autoscaling_config
    entry = {
        "name": deployment.name,
        "user_config": deployment.user_config,
        "ray_actor_options": deployment.ray_actor_options,
        "autoscaling_config": {
            name: getattr(scaling, name)
            for name in ("min_replicas", "max_replicas", "upscale_delay_s", "downscale_delay_s")
        },
    }
    if (bundles := deployment._replica_config.placement_group_bundles) is not None:
        entry["placement_group_bundles"] = bundles
    return entry
