"""The turns of a chat as a client writes them; content is text, or parts of text."""

from typing import Annotated, Any, Final, Literal

from pydantic import Discriminator, Field, Tag

from model.prompt import Role, Turn
from serving.form import Form
from serving.strings import Text

MAX_MESSAGES: Final = 2048
MAX_PARTS: Final = 256


def _kind_of_content(value: Any) -> str | None:
    return "<text>" if isinstance(value, str) else "<parts>" if isinstance(value, list | tuple) else None


class TextPart(Form):
    """A piece of a turn; pieces are joined without separator."""

    type: Literal["text"]
    text: Text


Parts = Annotated[list[TextPart], Field(max_length=MAX_PARTS, fail_fast=True)]
Content = Annotated[Annotated[Text, Tag("<text>")] | Annotated[Parts, Tag("<parts>")], Discriminator(_kind_of_content)]


def joined(content: Content) -> str:
    """The whole text."""
    return content if isinstance(content, str) else "".join(part.text for part in content)


class Message(Form):
    """One turn of a chat."""

    role: Literal["system", "developer", "user", "assistant"] = Field(
        description="system and developer turns are folded in front of the next user turn."
    )
    content: Content

    def turn(self) -> Turn:
        """The turn with its parts joined."""
        return Turn(Role(self.role), joined(self.content))


Messages = Annotated[list[Message], Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True)]


class Prediction(Form):
    """A guess at the answer. It changes how fast the answer comes and never what it is."""

    type: Literal["content"]
    content: Content
