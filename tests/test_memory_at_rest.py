"""What templates add to the memory of a daemon with default settings while nothing runs."""

from pathlib import Path
from typing import Any

from processes import descendants, resident
from serving import serving

from occd.languages.loading import load_languages

MORE = 150 * 10**6
"""Bytes that the templates of all languages may add."""
ROUNDS = 2
AT_ONCE = 8
"""More than there are slots: so many templates of each language as there can be."""
PACKAGES = "import numpy, pandas"


def at_rest(folder: Path, templates: str | None = None) -> tuple[int, int]:
    """The bytes, and the processes, after programs in all languages that have templates, in every slot."""
    hellos = tuple((each.id, each.hello) for each in load_languages().values() if each.warm)
    settings: dict[str, Any] = {} if templates is None else {"sandbox__templates": templates}
    with serving(folder / "data", **settings) as server:
        for language, source in (*hellos, ("python", PACKAGES)) * ROUNDS:
            ids = [server.submit(source, language=language) for _ in range(AT_ONCE)]
            assert {server.result(id)["verdict"] for id in ids} == {"ok"}
        return resident(server.process.pid), len(descendants(server.process.pid))


def test_templates_of_all_languages_add_less_than_150_megabytes(tmp_path: Path) -> None:
    plain, plain_processes = at_rest(tmp_path / "plain", "0")
    warm, warm_processes = at_rest(tmp_path / "warm")
    print(f"{plain / 1e6:.1f} MB without templates, {warm / 1e6:.1f} MB with")
    assert warm_processes > plain_processes
    assert warm - plain < MORE
