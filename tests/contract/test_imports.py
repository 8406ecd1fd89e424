"""What importing costs, as a fact: torch, DeepSpeed and transformers load inside replicas and ranks only.

A database loads where prompts are sampled, which is nowhere by default.
"""

import subprocess
import sys

import pytest

HEAVY = ("torch", "deepspeed", "transformers", "sqlalchemy")


@pytest.mark.parametrize(
    "module", ["serving.main", "serving.service", "serving.ingress", "cluster.build", "cluster.local"]
)
def test_importing_stays_light(module: str) -> None:
    code = f"import sys, {module}; print(','.join(m for m in {HEAVY!r} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == ""
