"""The JSON of tests, of groups of tests, and of checkers."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Discriminator, FailFast, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from occd import rules
from occd.errors import FieldError
from occd.judging import GROUPS_MAX, TESTS_MAX, FloatChecker, Group, Protocol, Rule, TextChecker
from occd.request import CheckerRequest, ProgramRequest, TestRequest
from occd.web.fields import Bytes, FileJson, LimitsJson, Model, Text, Words, decoded, kept

_FIELDS_MAX = 100
_COUNTS = {"files": rules.FILES_MAX, "args": rules.WORDS_MAX, "needs": GROUPS_MAX, "limits": 100}

Title = Annotated[Text, kept(rules.title)]
Weight = Annotated[float, kept(rules.weight)]
Tolerance = Annotated[float, kept(rules.tolerance)]


class _ToleranceJson(Model):
    abs: Tolerance = 0.0
    rel: Tolerance = 0.0


class _ProgramJson(Model):
    language: Annotated[Text, kept(rules.language)]
    protocol: Protocol
    version: Annotated[Text, kept(rules.version)] | None = None
    source: Bytes | None = None
    files: Annotated[list[FileJson], FailFast()] = Field(default_factory=list)
    args: Words = Field(default_factory=list)
    compile_args: Words = Field(default_factory=list)
    limits: LimitsJson = LimitsJson()

    @model_validator(mode="after")
    def _whole(self) -> "_ProgramJson":
        if self.source is None and not self.files:
            raise PydanticCustomError("missing", "needs source or files")
        return self

    @property
    def request(self) -> ProgramRequest:
        return ProgramRequest(
            self.language,
            self.protocol,
            self.version,
            self.source,
            tuple(file.value for file in self.files),
            tuple(self.args),
            tuple(self.compile_args),
            self.limits.asked,
        )


_NUMBER, _OBJECT, _NAME = "[number]", "[object]", "[name]"
UNNAMED = frozenset({_NUMBER, _OBJECT, _NAME})
"""What pydantic adds to the place of an error, to tell which kind of value was read there."""

_FLOAT = '{"abs": 0.01, "rel": 0.01}'
_PROGRAM = '{"language": …, "protocol": …, "source": …}'


def _is_float(value: object) -> object:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number or (isinstance(value, dict) and (not value or value.keys() & {"abs", "rel"})):
        return value
    told = f"must be a number, as in 1e-6, or {_FLOAT}"
    raise PydanticCustomError("checker", "{told}", {"told": told})


def _is_program(value: object) -> object:
    if isinstance(value, dict):
        return value
    raise PydanticCustomError("checker", "{told}", {"told": f"must be an object: {_PROGRAM}"})


_Tolerances = Annotated[
    Annotated[Tolerance, Tag(_NUMBER)] | Annotated[_ToleranceJson, Tag(_OBJECT)],
    Discriminator(lambda value: _OBJECT if isinstance(value, dict) else _NUMBER),
    BeforeValidator(_is_float),
]


class _CheckerJson(Model):
    float: _Tolerances | None = None
    program: Annotated[_ProgramJson, BeforeValidator(_is_program)] | None = None

    @property
    def request(self) -> CheckerRequest:
        if self.program:
            return self.program.request
        if isinstance(self.float, _ToleranceJson):
            return FloatChecker(self.float.abs, self.float.rel)
        assert self.float is not None
        return FloatChecker(self.float, self.float)


_Text = Literal["exact", "lines", "tokens"]
_FORMS = (
    ", ".join(f'"{name}"' for name in get_args(_Text))
    + f', {{"float": 1e-6}}, {{"float": {_FLOAT}}} or {{"program": {_PROGRAM}}}'
)
_OF_PROGRAM = frozenset({"language", "protocol", "source", "files"})


def _known(value: object) -> object:
    """Let an object be read that has a form; a field too many is then told by its own name."""
    hint = ""
    if isinstance(value, dict):
        given = {name for name, each in value.items() if each is not None}
        if len(given & {"float", "program"}) == 1:
            return value
        if given >= {"float", "program"}:
            hint = "has both float and program, and "
        elif given & _OF_PROGRAM:
            hint = "has the fields of a program, which belong below program, and "
    elif value in get_args(_Text):
        return value
    told = f"{hint}must be {_FORMS}"
    raise PydanticCustomError("checker", "{told}", {"told": told})


Checker = Annotated[
    Annotated[_Text, Tag(_NAME)] | Annotated[_CheckerJson, Tag(_OBJECT)],
    Discriminator(lambda value: _NAME if isinstance(value, str) else _OBJECT),
    BeforeValidator(_known),
]


def asked(checker: Checker | None) -> CheckerRequest | None:
    if isinstance(checker, _CheckerJson):
        return checker.request
    return TextChecker(checker) if checker else None


class _TestJson(Model):
    name: Title | None = None
    stdin: Bytes | None = None
    args: Words = Field(default_factory=list)
    files: Annotated[list[FileJson], FailFast()] = Field(default_factory=list)
    expected_stdout: Bytes | None = None
    checker: Checker | None = None
    limits: LimitsJson = LimitsJson()
    group: Title | None = None
    weight: Weight = 1.0

    @property
    def request(self) -> TestRequest:
        return TestRequest(
            self.name,
            self.stdin,
            tuple(self.args),
            tuple(file.value for file in self.files),
            self.expected_stdout,
            asked(self.checker),
            self.limits.asked,
            self.group,
            self.weight,
        )


class GroupJson(Model):
    points: Weight
    rule: Rule = "sum"
    needs: Annotated[list[Title], FailFast()] = Field(default_factory=list)
    group: Title | None = None

    def named(self, name: str) -> Group:
        return Group(name, self.points, self.rule, tuple(self.needs), self.group)


Tests = Annotated[list[_TestJson], FailFast()]
Groups = dict[Annotated[str, kept(rules.title)], GroupJson]


def too_many(value: Mapping[str, Any]) -> list[FieldError]:
    """What has too many entries to be looked at."""
    errors = []
    for name, most in (("tests", TESTS_MAX), ("groups", GROUPS_MAX)):
        entries = value.get(name)
        if isinstance(entries, list | dict) and len(entries) > most:
            errors.append(FieldError(name, f"has more than {most} entries"))
    if errors:
        return errors
    return [
        *_parts_too_many("tests", value.get("tests")),
        *_parts_too_many("groups", value.get("groups")),
        *_entries_too_many("checker", value.get("checker")),
    ]


def _parts_too_many(name: str, parts: object) -> list[FieldError]:
    """The entries of each part, of its lists, and of its checker."""
    named: Iterable[tuple[object, Any]] = ()
    if isinstance(parts, dict):
        named = parts.items()
    elif isinstance(parts, list):
        named = enumerate(parts)
    errors: list[FieldError] = []
    for at, part in named:
        errors += _entries_too_many(f"{name}.{at}", part)
    return errors


def _entries_too_many(where: str, part: object) -> list[FieldError]:
    if not isinstance(part, dict):
        return []
    if len(part) > _FIELDS_MAX:
        return [FieldError(where, f"has more than {_FIELDS_MAX} entries")]
    errors = [
        FieldError(f"{where}.{name}", f"has more than {most} entries")
        for name, most in _COUNTS.items()
        if isinstance(part.get(name), list | dict) and len(part[name]) > most
    ]
    for name in ("checker", "program", "float"):
        errors += _entries_too_many(f"{where}.{name}", part.get(name))
    if not errors and isinstance(files := part.get("files"), list):
        for at, file in enumerate(files):
            errors += _entries_too_many(f"{where}.files.{at}", file)
    return errors


async def unpacked_tests(value: Any) -> Any:
    """Tests with their long base64 decoded."""
    return [await _unpacked(each) for each in value] if isinstance(value, list) else value


async def unpacked_checker(value: Any) -> Any:
    if isinstance(value, dict) and isinstance(value.get("program"), dict):
        return value | {"program": await _unpacked(value["program"])}
    return value


async def _unpacked(part: Any) -> Any:
    if not isinstance(part, dict):
        return part
    found = dict(part)
    for name in ("stdin", "expected_stdout", "source"):
        if name in found:
            found[name] = await decoded(found[name])
    if isinstance(files := found.get("files"), list):
        found["files"] = [
            file | {"content": await decoded(file["content"])}
            if isinstance(file, dict) and "content" in file
            else file
            for file in files
        ]
    if "checker" in found:
        found["checker"] = await unpacked_checker(found["checker"])
    return found
