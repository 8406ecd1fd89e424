"""What every part of a request has in common: strict types, no unknown names, never changed."""

from pydantic import BaseModel, ConfigDict


class Form(BaseModel):
    """Base of whatever a client may write."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)
