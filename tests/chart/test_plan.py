"""Values that `gemmule plan` writes, rendered by the real helm."""

from pathlib import Path

import yaml
from typer.testing import CliRunner

from serving.main import app
from tests.chart import tools
from tests.chart.test_config import given

TRACE = Path(__file__).parents[1] / "data" / "traces" / "azure_conv_2023_300.csv.gz"


def test_a_plan_renders_as_it_was_planned(tmp_path: Path) -> None:
    path = tmp_path / "values.yaml"
    asked = ["plan", "--trace", str(TRACE), "--gpus", "h100-80gb,l4-24gb", "--values", str(path)]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.output
    values = yaml.safe_load(path.read_text())
    planned = {size: config for size, config in values["config"]["cluster"]["sizes"].items() if config}
    sizes = given("minimal", values=values)["cluster"]["sizes"]
    assert set(sizes) == set(planned)
    for size, config in planned.items():
        assert sizes[size]["tensor_parallel"] == config["tensor_parallel"]
        assert sizes[size]["engine"]["kv_memory_gb"] == config["engine"]["kv_memory_gb"]
        assert sizes[size]["replicas"]["max_replicas"] == config["replicas"]["max_replicas"]
    groups = tools.ray_service("minimal", values=values)["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    for group in groups:
        if group["groupName"] in planned:
            spec = group["template"]["spec"]
            assert spec["nodeSelector"] == values["sizes"][group["groupName"]]["nodeSelector"]
            limits = spec["containers"][0]["resources"]["limits"]
            assert str(limits["nvidia.com/gpu"]) == str(planned[group["groupName"]]["tensor_parallel"])
