"""What the published schemas of a Kubernetes version say of a built-in object, unknown names included."""

import functools

import kubernetes_validate
from kubernetes_validate import utils

from tests.chart.tools import Tree

utils.schema_contents = functools.cache(utils.schema_contents)  # else 1.3 MB of definitions are parsed for each object


def check(item: Tree, kube: str) -> None:
    """Raises `kubernetes_validate.ValidationError`."""
    kubernetes_validate.validate(item, kube, strict=True)
