"""What a private Ray reads from the environment, set before Ray is imported because Ray reads some of it then."""

import os
import secrets
from typing import Final

PROXY_CALLBACK: Final = "serving.rest.one_id.proxy_middlewares"  # by name: cluster does not import serving


def prepare() -> None:
    """Set what is not set yet; children of this process inherit it."""
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # else Ray writes one into the home folder
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # Serve's proxy adds an x-request-id of its own otherwise; the edge makes the one id.
    os.environ.setdefault("RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH", PROXY_CALLBACK)
