"""JSON becomes a `Request`.

This file says which fields a submission may have. The gate (`occd/admission.py`) decides what a request may
ask for on this server (languages, ceilings). The model checks the whole.
"""

import re
from typing import Annotated, Any

import trio
from pydantic import FailFast, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from occd import rules
from occd.errors import FieldError, Rejected
from occd.request import Request
from occd.web.fields import (
    Bytes,
    FileJson,
    Model,
    RunLimitsJson,
    TerminalJson,
    Text,
    Word,
    Words,
    decoded,
    kept,
)
from occd.web.tests import (
    UNNAMED,
    Checker,
    Groups,
    Tests,
    asked,
    too_many,
    unpacked_checker,
    unpacked_tests,
)

_COUNTS = {
    "": 100,
    "files": rules.FILES_MAX,
    "args": rules.WORDS_MAX,
    "compile_args": rules.WORDS_MAX,
    "env": rules.WORDS_MAX,
    "limits": 100,
    "artifacts": rules.PATTERNS_MAX,
    "tty": 100,
}
"""How many entries a submission and its fields may have. Counted before anything is validated, since an error
takes a hundred times as long to make as the entry that is wrong."""

_FEW = frozenset({"source", "stdin", "language", "version", "limits"})
_SHORT = 2**15
"""A submission with no other fields than these, none of them longer, is validated in a moment."""

_FILE_FIELDS_MAX = 100
_ERRORS_SHOWN = 100
_UNNAMED = UNNAMED | {"[key]"}
_NOT_YET = {"network", "interactor", "callback_url"}
"""Fields of the design that have no meaning yet."""


Artifacts = Annotated[list[Annotated[Text, kept(rules.pattern)]], FailFast()]


class _SubmissionJson(Model):
    language: Annotated[Text, kept(rules.language)]
    version: Annotated[Text, kept(rules.version)] | None = None
    source: Bytes | None = None
    files: Annotated[list[FileJson], FailFast()] = Field(default_factory=list)
    stdin: Bytes = b""
    args: Words = Field(default_factory=list)
    env: dict[Annotated[str, kept(rules.env_name)], Word] = Field(default_factory=dict)
    compile_args: Words = Field(default_factory=list)
    limits: RunLimitsJson = RunLimitsJson()
    interactive: bool = False
    user_id: Annotated[Text, kept(rules.user_id)] | None = None
    tests: Tests = Field(default_factory=list)
    groups: Groups = Field(default_factory=dict)
    checker: Checker | None = None
    stop_on_failure: bool = False
    artifacts: Artifacts = Field(default_factory=list)
    tty: TerminalJson | None = None
    detached: bool = False
    format: bool = False
    trace: bool = False
    cache: bool = True

    @model_validator(mode="after")
    def _whole(self) -> "_SubmissionJson":
        if self.source is None and not self.files:
            raise PydanticCustomError("missing", "needs source or files")
        return self

    @property
    def request(self) -> Request:
        return Request(
            language=self.language,
            version=self.version,
            source=self.source,
            files=tuple(file.value for file in self.files),
            stdin=self.stdin,
            args=tuple(self.args),
            env=tuple(self.env.items()),
            compile_args=tuple(self.compile_args),
            limits=self.limits.asked,
            interactive=self.interactive,
            user_id=self.user_id,
            tests=tuple(test.request for test in self.tests),
            groups=tuple(group.named(name) for name, group in self.groups.items()),
            checker=asked(self.checker),
            stop_on_failure=self.stop_on_failure,
            artifacts=tuple(self.artifacts),
            tty=self.tty.value if self.tty else None,
            detached=self.detached,
            format=self.format,
            trace=self.trace,
            cache=self.cache,
        )


async def parse_submission(value: object) -> Request:
    """Raises Rejected naming every field that is wrong, unknown, or not yet supported."""
    if not isinstance(value, dict):
        raise Rejected("invalid", "a submission is a JSON object")
    _refuse_too_many(value)
    later = sorted(name for name in _NOT_YET if value.get(name) not in (None, False))
    if later:
        errors = [FieldError(name, "is not supported yet") for name in later]
        raise Rejected("not-yet", f"{', '.join(later)}: not supported yet", errors)
    try:
        fields = {
            name: await _unpacked(name, each)
            for name, each in value.items()
            if name not in _NOT_YET
        }
        if long := not _is_short(fields):
            await trio.lowlevel.checkpoint()  # this and each of the next two steps may take 20 ms
        valid = _SubmissionJson.model_validate(fields)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False, include_context=False)
        raise _invalid([_field_error(each) for each in found[:_ERRORS_SHOWN]]) from None
    if long:
        await trio.lowlevel.checkpoint()
    request = valid.request
    if long:
        await trio.lowlevel.checkpoint()
    return request


def _is_short(fields: dict[str, Any]) -> bool:
    return fields.keys() <= _FEW and all(
        len(each) <= _SHORT for each in fields.values() if isinstance(each, str | bytes)
    )


def _refuse_too_many(value: dict[str, Any]) -> None:
    errors = []
    for name, most in _COUNTS.items():
        entries = value.get(name) if name else value
        if isinstance(entries, list | dict) and len(entries) > most:
            errors.append(FieldError(name or "submission", f"has more than {most} entries"))
    if not errors and isinstance(files := value.get("files"), list):
        errors = [
            FieldError(f"files.{at}", f"has more than {_FILE_FIELDS_MAX} entries")
            for at, file in enumerate(files)
            if isinstance(file, dict) and len(file) > _FILE_FIELDS_MAX
        ]
    if errors := errors or too_many(value):
        raise _invalid(errors[:_ERRORS_SHOWN])


def _invalid(errors: list[FieldError]) -> Rejected:
    detail = "; ".join(f"{each.field}: {each.message}" for each in errors[:5])
    return Rejected("invalid", detail, errors)


async def _unpacked(name: str, value: Any) -> Any:
    """A field with its long base64 decoded."""
    if name in ("source", "stdin"):
        return await decoded(value)
    if name == "tests":
        return await unpacked_tests(value)
    if name == "checker":
        return await unpacked_checker(value)
    if name == "files" and isinstance(value, list):
        return [
            file | {"content": await decoded(file["content"])}
            if isinstance(file, dict) and "content" in file
            else file
            for file in value
        ]
    return value


_WORDED = {
    "model_type": "must be an object",
    "dict_type": "must be an object",
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "list_type": "must be a list",
}
"""For what pydantic says with names of ours or of Python, by its types of errors."""

_SHOULD = re.compile(r"^\w+ should ")


def _field_error(error: Any) -> FieldError:
    where = ".".join(str(part) for part in error["loc"] if part not in _UNNAMED)
    unknown = error["type"] == "extra_forbidden"
    # A name that somebody sent may be long, and need not be text.
    where = where[:200].encode(errors="backslashreplace").decode() or "submission"
    around = [each for each in error["loc"][:-1] if isinstance(each, str) and each not in _UNNAMED]
    # A group has a name that somebody sent.
    of = "groups" if around[:1] == ["groups"] else around[-1] if around else "a submission"
    if unknown:
        message = f"is not a field of {of}"
    elif error["msg"] == "Field required":
        message = "is missing"
    else:
        message = _WORDED.get(error["type"]) or _SHOULD.sub("must ", error["msg"])
    return FieldError(where, message.replace("must be a valid ", "must be a "))
