"""One private Ray for all tests of this folder."""

import os
from collections.abc import Iterator

import pytest
import ray
from ray import serve


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """A local Ray without dashboard; replicas promise more CPUs than the machine has."""
    os.environ["RAY_AUTH_MODE"] = "disabled"
    os.environ["RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S"] = "0.5"
    ray.init(
        address="local",
        num_cpus=8,
        include_dashboard=False,
        object_store_memory=80 * 2**20,
        log_to_driver=False,
    )
    serve.start(proxy_location="Disabled")
    yield
    serve.shutdown()
    ray.shutdown()
