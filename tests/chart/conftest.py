"""The chart's tests run the real helm; without it they are skipped, and each says why."""

import pytest

from tests.chart import tools


@pytest.fixture(scope="session", autouse=True)
def helm_at_hand() -> None:
    try:
        tools.binary("helm")
    except tools.NoToolsError as why:
        pytest.skip(f"THE CHART WAS NOT TESTED: {why}")
