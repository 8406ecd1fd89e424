"""The ingress processes of one service: each answers for all of them when somebody reads their numbers."""

from typing import Final

from ray.serve.handle import DeploymentHandle

from cluster.lookout import ask_all
from cluster.snapshot import Page

_ANSWER_S: Final = 3.0  # a scrape has to answer; who is late is shown by the next one


class Peers:
    """Those that run the same deployment as this process, itself too."""

    def __init__(self, name: str, handle: DeploymentHandle) -> None:
        self.name = name
        self._handle = handle

    async def pages(self) -> tuple[Page, ...]:
        """What each counts; those that do not answer are left out."""
        return await ask_all(self._handle, Page, _ANSWER_S, "page")
