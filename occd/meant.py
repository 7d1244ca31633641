"""The settings that there are, told to who wrote one that there is not."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, get_args, get_origin

from pydantic import BaseModel

Model = type[BaseModel]
Path = tuple[str, ...]

_COMPARED = 100
"""Characters of a name that is compared."""
_WHOLE_ALIKE = 0.9
_NAME_ALIKE = 0.7


class KnownSettings:
    def __init__(self, model: Model, hidden: Collection[str] = ()) -> None:
        """`hidden` are fields of the model that nobody sets."""
        self._model = model
        self._hidden = frozenset(hidden)
        self._paths = {"_".join(path): path for path in self._all(model, ())}

    def meant(self, given: Path, around: Sequence[str | int]) -> Path | None:
        """The setting that is most like the one that was given and is unknown in the section `around`: one of
        a like path, wherever the dots stand; one of the section; or the only one of this name."""
        whole = "_".join(given).lower().replace("-", "_")[:_COMPARED]
        if found := get_close_matches(whole, self._paths, 1, _WHOLE_ALIKE):
            return self._paths[found[0]]
        name = given[-1].lower().replace("-", "_")[:_COMPARED]
        if found := get_close_matches(name, self.of(around), 1, _NAME_ALIKE):
            return (*(each for each in around if isinstance(each, str)), found[0])
        same = [path for path in self._paths.values() if path[-1] == name]
        return same[0] if len(same) == 1 else None

    def of(self, section: Sequence[str | int]) -> list[str]:
        """The names of the settings of a section."""
        model: Model | None = self._model
        names = iter(section)
        for name in names:
            if model is None or isinstance(name, int):
                continue
            kind = _fields(model).get(name)
            if get_origin(kind) is dict:
                next(names, None)  # which somebody has chosen
            model = _section(kind)
        return [] if model is None else self._names(model)

    def _names(self, model: Model) -> list[str]:
        return [name for name in _fields(model) if name not in self._hidden]

    def _all(self, model: Model, before: Path) -> Iterator[Path]:
        """All but those of sections whose name somebody chooses, and those of lists."""
        for name in self._names(model):
            kind = _fields(model)[name]
            yield (*before, name)
            within = _section(kind)
            if within and get_origin(kind) not in (dict, tuple):
                yield from self._all(within, (*before, name))


def _fields(model: Model) -> Mapping[str, Any]:
    """The types of the fields by the names that a configuration has for them."""
    return {each.alias or name: each.annotation for name, each in model.model_fields.items()}


def _section(kind: object) -> Model | None:
    """The section that such a field is, or has more of."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return kind
    return next(filter(None, map(_section, get_args(kind))), None)
