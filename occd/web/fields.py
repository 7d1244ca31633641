"""The kinds of fields that requests have, by the rules of `occd/rules.py`."""

import base64
import binascii
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    FailFast,
    Field,
    model_validator,
)
from pydantic_core import PydanticCustomError

from occd import rules
from occd.errors import FieldError, Rejected
from occd.model import File, Terminal
from occd.web.longjson import LongText, base64_bytes

T = TypeVar("T")


def _bytes(value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, LongText) and not value.has_surrogates:
        return bytes(value.data)
    if isinstance(value, str):
        with suppress(UnicodeEncodeError):
            return value.encode()
    if isinstance(value, str | LongText):
        raise PydanticCustomError("text", "has a lone surrogate; send bytes as base64")
    if isinstance(value, dict) and set(value) == {"base64"} and isinstance(value["base64"], str):
        try:
            return base64.b64decode(value["base64"], validate=True)
        except (binascii.Error, ValueError):
            raise PydanticCustomError("base64", "is not base64") from None
    raise PydanticCustomError("text", 'must be a string or {"base64": "…"}')


def _short(value: object) -> object:
    """A long text where a word is wanted, if it may be one."""
    if not isinstance(value, LongText):
        return value
    if len(value.data) > rules.WORDS_BYTES_MAX:
        raise PydanticCustomError("long", f"is longer than {rules.WORDS_BYTES_MAX} bytes")
    return str(value)


def kept(rule: Callable[[T], object]) -> AfterValidator:
    """A rule of the model, for a field of a request."""

    def check(value: T) -> T:
        try:
            rule(value)
        except rules.Broken as error:
            raise PydanticCustomError("rule", "{broken}", {"broken": error.message}) from None
        return value

    return AfterValidator(check)


Bytes = Annotated[bytes, BeforeValidator(_bytes)]
Text = Annotated[str, BeforeValidator(_short)]
Word = Annotated[Text, kept(rules.text)]
Words = Annotated[list[Word], FailFast()]


class Model(BaseModel):
    """An object. A field that is null is a field that is left out: clients with types send null so."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _without_null(cls, value: object) -> object:
        if not isinstance(value, dict) or None not in value.values():
            return value
        known = cls.model_fields
        return {name: each for name, each in value.items() if each is not None or name not in known}


class FileJson(Model):
    name: Annotated[Text, kept(rules.file_name)]
    content: Bytes
    executable: bool = False

    @property
    def value(self) -> File:
        return File(self.name, self.content, self.executable)


class TerminalJson(Model):
    rows: Annotated[int, kept(rules.terminal_side)]
    cols: Annotated[int, kept(rules.terminal_side)]

    @property
    def value(self) -> Terminal:
        return Terminal(self.rows, self.cols)


def _limit(name: str) -> AfterValidator:
    """That it is not too small. The gate compares it with the ceiling."""
    return kept(partial(rules.least_limit, name))


class LimitsJson(Model):
    """A field that is left out has its default."""

    cpu_time: Annotated[float, Field(allow_inf_nan=False), _limit("cpu_time")] | None = None
    wall_time: Annotated[float, Field(allow_inf_nan=False), _limit("wall_time")] | None = None
    memory: Annotated[int, _limit("memory")] | None = None
    processes: Annotated[int, _limit("processes")] | None = None
    output: Annotated[int, _limit("output")] | None = None
    file_size: Annotated[int, _limit("file_size")] | None = None

    @property
    def asked(self) -> dict[str, float]:
        return {name: value for name, value in self if value is not None}


async def decoded(value: Any) -> Any:
    """A little at a time if it is long base64; everything else is left for the model."""
    match value:
        case {"base64": LongText() as text} if len(value) == 1:
            with suppress(ValueError):
                return await base64_bytes(text)
            return {"base64": "!"}
    return value


async def stdin_bytes(value: object) -> bytes:
    """The `data` of a stdin frame."""
    try:
        return _bytes(await decoded(value))
    except PydanticCustomError as error:
        raise Rejected(
            "invalid", f"data {error.message()}", [FieldError("data", error.message())]
        ) from None
