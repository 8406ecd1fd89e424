"""Servers are started once for all contract tests; each test begins with a fresh script."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.contract.faces import Faces, running


@pytest_asyncio.fixture(scope="session")
async def _faces() -> AsyncIterator[Faces]:
    async with running() as faces:
        yield faces


@pytest.fixture
def faces(_faces: Faces) -> Faces:
    _faces.script()
    return _faces
