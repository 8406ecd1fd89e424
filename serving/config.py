"""The root of the configuration tree, and the only reader of files and environment.

Precedence: command-line flags, then Vertex AI's contract (`AIP_HTTP_PORT`), then environment
(`GEMMULE_SERVER__HTTP_PORT`), then the file, then defaults.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from cluster.config import ClusterConfig


class ConfigError(Exception):
    """A setting is wrong; the message names its path, what was given and what is allowed."""


_ROUTE: Final = r"^/[A-Za-z0-9._~:/-]+$"
_OWN_ROUTES: Final = (
    "/v1/chat", "/v1/completions", "/v1/quote", "/v1/models", "/v1/status", "/readyz", "/healthz", "/metrics", "/admin",
    "/docs", "/redoc", "/openapi.json", "/-/"
)  # fmt: skip


class ServerConfig(BaseModel):
    """Where the two faces listen and what they accept."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field("127.0.0.1", description="Address both faces bind to; 0.0.0.0 opens them to the network.")
    http_port: int = Field(8000, ge=1, le=65_535, description="REST port.")
    grpc_port: int = Field(9000, ge=1, le=65_535, description="gRPC port.")
    ingress_replicas: int = Field(1, ge=1, le=64, description="Processes that parse, route and stream.")
    max_body_bytes: int = Field(4 * 2**20, ge=1024, description="Largest request body or message.")
    predict_route: str | None = Field(
        None, pattern=_ROUTE, description="Where Vertex AI's `instances` are answered with `predictions`; none nowhere."
    )
    health_route: str | None = Field(None, pattern=_ROUTE, description="One more place of /readyz; none.")

    @model_validator(mode="after")
    def _routes_are_free(self) -> Self:
        for name, route in (("predict_route", self.predict_route), ("health_route", self.health_route)):
            if route and route.startswith(_OWN_ROUTES):
                raise ValueError(f"{name}={route} is an address that gemmule answers itself; choose another")
        return self


class TrafficConfig(BaseModel):
    """A sample of the operator's own prompts, to calibrate routing with: off unless both share and path are set."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    share: float = Field(0, ge=0, le=1, description="Share of requests whose prompt is kept; 0 keeps none.")
    path: Path | None = Field(
        None, description="SQLite file of the prompts, absolute and on a local disk; each node has its own."
    )
    retention_s: float = Field(7 * 86_400, ge=1, description="Seconds after which a prompt is removed.")
    max_rows: int = Field(10_000, ge=1, description="Prompts kept at most; the oldest go first.")

    @model_validator(mode="after")
    def _somewhere(self) -> Self:
        if self.share and (self.path is None or not self.path.is_absolute()):
            raise ValueError(f"traffic.share={self.share} needs an absolute traffic.path, got {self.path}")
        return self


class Settings(BaseSettings):
    """Every setting of gemmule; frozen once loaded, each layer receives its own branch."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix="GEMMULE_", env_nested_delimiter="__", validate_default=False
    )

    server: ServerConfig = Field(ServerConfig(), description="Where the two faces listen.")
    cluster: ClusterConfig = Field(ClusterConfig(), description="Sizes, tiers and routing.")
    traffic: TrafficConfig = Field(TrafficConfig(), description="Prompts kept for calibration; none by default.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment above what is passed in (the file); flags are laid over the file by `load`."""
        del settings_cls, dotenv_settings, file_secret_settings
        return env_settings, init_settings


def read_mapping(path: Path, holding: str) -> dict[str, Any]:
    """A YAML file that is a mapping; raises `ConfigError`, which ends with `holding`: what should be in it."""
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {error}") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} must hold a mapping{holding}")
    return tree


def load(path: Path | None = None, flags: Mapping[str, Any] | None = None) -> Settings:
    """Settings from a YAML file, the environment and flags; raises `ConfigError`.

    `flags` are dotted paths (`server.http_port`); None values are ignored. A flag wins over everything.
    """
    tree = {} if path is None else read_mapping(path, " with `server:` and `cluster:`")
    settings = _validated(tree)
    given = _of_vertex(os.environ) | {key: value for key, value in (flags or {}).items() if value is not None}
    if not given:
        return settings
    merged = settings.model_dump(mode="json")
    for dotted, value in given.items():
        *parents, leaf = dotted.split(".")
        node = merged
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = value
    return from_tree(merged)


def _of_vertex(environment: Mapping[str, str]) -> dict[str, Any]:
    """What Vertex AI tells a prediction container, as flags: it calls that port and those routes, whatever is set."""
    if not (port := environment.get("AIP_HTTP_PORT")):
        return {}
    routes = {
        "predict_route": environment.get("AIP_PREDICT_ROUTE"),
        "health_route": environment.get("AIP_HEALTH_ROUTE"),
    }
    found = {"host": "0.0.0.0", "http_port": port, **routes}  # noqa: S104
    return {f"server.{key}": value for key, value in found.items() if value}


def from_tree(tree: Mapping[str, Any]) -> Settings:
    """Settings from a complete tree (as `model_dump` writes it), the environment left out; raises `ConfigError`."""
    try:
        return Settings.model_construct(
            server=ServerConfig.model_validate(tree.get("server", {})),
            cluster=ClusterConfig.model_validate(tree.get("cluster", {})),
            traffic=TrafficConfig.model_validate(tree.get("traffic", {})),
        )
    except ValidationError as error:
        raise ConfigError(_explain(error)) from error


def _validated(tree: dict[str, Any]) -> Settings:
    try:
        return Settings(**tree)
    except ValidationError as error:
        raise ConfigError(_explain(error)) from error


def _explain(error: ValidationError) -> str:
    """One line per wrong setting: its path, what is wrong, what was given (never a secret: none live in the tree)."""
    lines = []
    for item in error.errors(include_url=False):
        where = ".".join(str(part) for part in item["loc"]) or "settings"
        given = "" if item["type"] in ("missing", "extra_forbidden") else f" (given: {item['input']!r:.60})"
        message = "no such setting" if item["type"] == "extra_forbidden" else item["msg"].removeprefix("Value error, ")
        lines.append(f"{where}: {message}{given}")
    return "\n".join(lines)
