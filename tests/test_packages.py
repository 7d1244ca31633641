"""Templates that have imported packages: `sets` of a language, and `sandbox/shown/packages`."""

import subprocess
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
from copies import SOON_S, copying, interpreters, memory, seen, standing, usual, warm
from sandboxed import LONG, PYTHON, Lab, run_in

import occd.sandbox.host
from occd.languages.loading import load_languages
from occd.model import File

ROOM = 2**29
SETS = {
    "numpy": ("numpy",),
    "pandas": ("numpy", "pandas"),
    "matplotlib.pyplot": ("numpy", "matplotlib.pyplot"),
}
"""What a program imports, and the set that serves it."""


@pytest.fixture
async def plain(language_cache: Path) -> AsyncIterator[Lab]:
    async with usual(language_cache, templates=0) as lab:
        yield lab


@pytest.fixture
async def forked(language_cache: Path) -> AsyncIterator[Lab]:
    async with copying(language_cache) as lab:
        yield lab


@pytest.fixture
async def lab(language_cache: Path) -> AsyncIterator[Lab]:
    async with usual(language_cache, templates=ROOM) as lab:
        yield lab


async def told(lab: Lab, source: str, *others: File) -> list[str]:
    """What a program prints."""
    language, binary = lab.language("python")
    files = [File("main.py", source.encode()), *others]
    async with lab.sandbox.cell(language, files, LONG) as cell:
        ran = await run_in(
            cell, [binary, "main.py"], LONG, env=tuple(language.environment(binary).items())
        )
    assert (ran.outcome.succeeded, ran.stderr) == (True, b"")
    return ran.stdout.decode().splitlines()


def packages(lab: Lab) -> list[tuple[str, ...]]:
    """Of all templates."""
    return [ready.template.packages for ready in warm(lab)]


async def settled(lab: Lab) -> None:
    """When each template stands or has failed."""
    with trio.fail_after(SOON_S):
        for ready in warm(lab):
            while not (ready.ended or ready.launcher.has_news):  # noqa: ASYNC110  (a socket that the test must not read)
                await trio.sleep(0.01)


async def both(lab: Lab, source: str, *others: File) -> list[str]:
    """What a program prints that was served by a template, whose packages stand first."""
    await told(lab, source, *others)
    await standing(lab)
    numbers = {ready.template.packages: ready.launcher.jail.number for ready in warm(lab)}
    said = await told(lab, source, *others)
    served = [
        r.template.packages
        for r in await standing(lab)
        if r.launcher.jail.number not in numbers.values()
    ]
    return [" ".join(*served) if served else "-", *said]


NAMED = {
    "import numpy": [("numpy",)],
    "import os, numpy as np": [("numpy",)],
    "x = 1\nif x:\n    from numpy.linalg import norm": [("numpy",)],
    "import pandas as pd\nimport numpy": [("numpy", "pandas"), ("numpy",)],
    "import pandas": [("numpy", "pandas")],
    "import matplotlib.pyplot as plt": [("numpy", "matplotlib.pyplot")],
    "from pandas import *\nimport numpy as np, matplotlib": [
        ("numpy", "pandas", "matplotlib.pyplot"),
        ("numpy", "matplotlib.pyplot"),
        ("numpy", "pandas"),
        ("numpy",),
    ],
    "print('numpy')": [],
    "# import numpy": [],
    "import numpyro": [],
    "import os\nos.environ['MPLBACKEND'] = 'svg'\nimport matplotlib.pyplot": [],
    "import matplotlib\nmatplotlib.use('TkAgg')": [],
    "# import\nnumpy = 1": [],
}


@pytest.mark.parametrize("source", NAMED)
def test_a_source_gets_the_smallest_set_that_has_what_it_names(source: str) -> None:
    language = load_languages()["python"]
    main = File("main.py", b"import mine")
    expected = NAMED[source]
    assert list(language.sets_for([File("main.py", source.encode())])) == expected
    assert list(language.sets_for([main, File("mine.py", source.encode())])) == expected
    assert list(language.sets_for([main, File("data.csv", source.encode())])) == []


@pytest.mark.parametrize(
    "line", ["import ", "from ", "and numpy", "import\n", "import #", "import numpyx\n"]
)
def test_a_source_cannot_make_everybody_wait(line: str) -> None:
    """Between two programs nothing else goes on. One line of 64 KiB took 25 s."""
    files = [
        File(f"part{number}.py", b"numpyx pandasx matplotlibx\n" + line.encode() * 20_000)
        for number in range(100)
    ]
    language, began = load_languages()["python"], time.process_time()
    assert language.sets_for([File("main.py", b"import os"), *files]) == ()
    assert time.process_time() - began < 1


@pytest.mark.parametrize("name", SETS)
async def test_the_second_program_that_imports_a_package_has_it(lab: Lab, name: str) -> None:
    source = f"import sys; print({name!r} in sys.modules)\nimport {name}"
    served, there = await both(lab, source)
    assert (served, there) == (" ".join(SETS[name]), "True")


async def test_a_program_without_packages_has_none(lab: Lab) -> None:
    await both(lab, "import numpy")
    assert await both(lab, "import sys\nprint('numpy' in sys.modules)") == ["", "False"]


# The word `environ` would have the program import for itself.
WHO = """
import numpy, {name}
numpy.ones((400, 400)) @ numpy.ones((400, 400))  # which starts the threads of a library that has some
import gc, os, resource, signal, subprocess, sys, threading, warnings
def show(name, value): print(name, "=", value)
show("argv", sys.argv); show("path", sys.path); show("flags", sys.flags); show("main", sorted(vars()))
show("modules", sorted(sys.modules)); show("finders", [str(each)[:20] for each in sys.meta_path])
show("hooks", len(sys.path_hooks))
show("environment", sorted(vars(os)["envi" + "ron"].items())); show("cwd", os.getcwd())
show("handlers", [str(signal.getsignal(each)) for each in sorted(signal.valid_signals())])
show("mask", signal.pthread_sigmask(signal.SIG_BLOCK, [])); show("umask", oct(os.umask(0)))
show("filters", [str(each) for each in warnings.filters])
show("numbers", (os.getpid(), os.getppid(), os.getpgid(0), os.getsid(0), threading.get_native_id()))
show("threads", (threading.active_count(), threading.current_thread().name))
show("kernel's", len(os.listdir("/proc/self/task"))); show("collector", (gc.isenabled(), gc.get_threshold()))
show("limits", [resource.getrlimit(each) for each in range(10)]); show("recursion", sys.getrecursionlimit())
show("hooks", (sys.excepthook, sys.displayhook, sys.stdout.encoding, sys.getswitchinterval()))
for top in "/box", "/tmp", "/dev/shm":
    for folder, _, files in sorted(os.walk(top)): show(folder, sorted(files))
try: numpy.zeros(2) @ numpy.zeros(3)
except ValueError:
    import traceback
    traceback.print_exc(file=sys.stdout)
subprocess.run(["/bin/sh", "-c", open("who.sh").read()])
"""


@pytest.mark.parametrize("name", SETS)
async def test_a_copy_with_packages_sees_what_other_programs_see(
    language_cache: Path, name: str
) -> None:
    source = WHO.replace("{name}", name)
    async with usual(language_cache, templates=0) as plain:
        own = await seen(plain, "python", source)
    async with copying(language_cache) as forked:
        copy = await seen(forked, "python", source)
    """Threads have taken numbers, and `thread-self` of `ls` has the next."""
    assert [each for each in copy if "/task/" not in each] == [
        each for each in own if "/task/" not in each
    ]


RANDOM = """
import numpy, pandas, matplotlib.pyplot, logging, os, random, secrets, tempfile, time, uuid
for each in (
    random.random(), random.Random().random(), numpy.random.rand(), numpy.random.default_rng().random(),
    numpy.random.mtrand._rand.random_sample(), pandas.Series(range(1000)).sample(3).tolist(),
    tempfile.mktemp(), uuid.uuid4(), secrets.token_hex(4),
): print(each)
"""


async def test_random_numbers_differ_from_copy_to_copy(forked: Lab) -> None:
    first, second = [await told(forked, RANDOM) for _ in range(2)]
    assert all(one != other for one, other in zip(first, second, strict=True))


async def test_copies_have_no_memory_in_common(forked: Lab) -> None:
    """What a program wrote there, those that begin later as copies of the same template would read."""
    source = "import numpy\nprint(*(each for each in open('/proc/self/maps') if ' rw-s ' in each))"
    await told(forked, source)
    assert await told(forked, source) == [""]


async def test_the_clock_of_logging_begins_with_the_program(forked: Lab) -> None:
    source = "import matplotlib.pyplot, logging\nprint(logging._startTime)"
    await told(forked, source)
    await trio.sleep(1)  # by the clock of which it tells
    before = time.time()
    (began,) = await told(forked, source)
    assert float(began) > before - 0.1


async def test_a_template_has_no_thread_and_its_copies_compute_with_as_many_as_others(
    lab: Lab, plain: Lab
) -> None:
    source = (
        "import numpy as np, os\nnp.ones((500, 500)) @ np.ones((500, 500))\n"
        "print(len(os.listdir('/proc/self/task')))"
    )
    served, threads = await both(lab, source)
    assert served == "numpy"
    assert [threads] == await told(plain, source)
    ((interpreter,),) = [interpreters(ready) for ready in warm(lab)]
    assert len(list(Path(f"/proc/{interpreter}/task").iterdir())) == 1


SET_BEFORE = {
    "a variable": ("import os; os.environ['MPLBACKEND'] = 'svg'", "svg"),
    "a screen": ("import matplotlib; matplotlib.use('TkAgg')", "TkAgg"),
}


@pytest.mark.parametrize("what", SET_BEFORE)
async def test_what_a_program_sets_before_an_import_holds_for_it(lab: Lab, what: str) -> None:
    await both(lab, "import matplotlib.pyplot")
    lines, expected = SET_BEFORE[what]
    source = f"{lines}\nimport matplotlib.pyplot\nprint(matplotlib.rcParams['backend'])"
    assert await told(lab, source) == [expected]


MINE = b"print('mine'); raise SystemExit"
HIDDEN = {
    "the package": ("numpy.py", "import numpy"),
    "the package as a folder": ("numpy/__init__.py", "import numpy"),
    "another package": ("six.py", "import pandas, six"),
    "a module of the library": ("decimal.py", "import pandas, decimal"),
    "what was looked for in vain": ("numexpr.py", "import pandas"),
    "settings": (
        "matplotlibrc",
        "import matplotlib.pyplot\nprint(matplotlib.rcParams['lines.linewidth'])",
    ),
}
"""What a file of a program takes the place of."""


async def test_a_file_takes_the_place_of_what_a_template_has_imported(lab: Lab, plain: Lab) -> None:
    for source in ("import numpy", "import pandas", "import matplotlib.pyplot"):
        await both(lab, source)
    for what, (file, source) in HIDDEN.items():
        others = (File(file, b"lines.linewidth: 7" if what == "settings" else MINE),)
        expected = await told(plain, source, *others)
        assert expected == ["7.0" if what == "settings" else "mine"]
        assert (what, await told(lab, source, *others)) == (what, expected)


async def test_a_smaller_set_serves_where_a_file_is_hidden(lab: Lab) -> None:
    """A program may have Python look into a folder of its own."""
    assert await both(lab, "import numpy, pandas") == ["numpy pandas"]
    assert await both(lab, "import numpy, pandas", File("lib/six.py", MINE)) == ["numpy"]


async def test_a_file_with_the_name_of_what_python_starts_with_changes_nothing(
    lab: Lab, plain: Lab
) -> None:
    source = "import io, sys, encodings, abc\nprint(io.__file__, encodings.__file__, abc.__file__)"
    names = ("io.py", "site.py", "usercustomize.py", "encodings/__init__.py", "abc.py")
    others = [File(name, MINE) for name in names]
    served, *said = await both(lab, source, *others)
    assert (served, said) == ("", await told(plain, source, *others))


def with_sets(lab: Lab, *sets: tuple[str, ...]) -> None:
    languages: Any = lab.sandbox.languages
    languages["python"] = replace(languages["python"], sets=sets)


@pytest.mark.parametrize("name", ["nosuch", "this", "antigravity.nosuch"])
async def test_without_a_package_that_can_be_imported_in_silence_the_base_serves(
    lab: Lab, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """`this` prints."""
    with_sets(lab, (name,))
    source = f"try: import {name}\nexcept ImportError: pass"
    await told(lab, source)
    for _ in range(4):
        await settled(lab)
        await told(lab, source)
    assert packages(lab) == [()]
    assert capsys.readouterr().out.count("packages are not kept imported") == 1


LEAVES = {
    "words": ("print('ready')", "ready"),
    "a complaint": ("import warnings\nwarnings.warn('old')", "UserWarning: old"),
    "an open file": ("import os\nkept = os.open('/dev/null', os.O_RDONLY)", "have files open"),
    "shared memory": ("import mmap\nkept = mmap.mmap(-1, 1)", "memory that copies would share"),
    "the end of Python": ("raise SystemExit(3)", "SystemExit: 3"),
    "an error": ("1 / 0", "ZeroDivisionError: division by zero"),
}


@pytest.mark.parametrize("what", LEAVES)
def test_a_package_that_leaves_something_is_not_kept(tmp_path: Path, what: str) -> None:
    source, reason = LEAVES[what]
    (tmp_path / "leaving.py").write_text(source)
    script = Path(__file__).parent.parent / "sandbox/shown/packages/import.py"
    started = f"packages = ['leaving']; exec(open({str(script)!r}).read())"
    environment = {"PYTHONPATH": str(tmp_path)}
    ended = subprocess.run([PYTHON, "-c", started], env=environment, capture_output=True)
    assert (ended.returncode, ended.stdout) == (125, b"")
    assert reason in ended.stderr.decode()


async def test_a_set_that_does_not_fit_is_told_and_the_base_serves(
    language_cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with usual(language_cache, templates=20 * 2**20) as lab:
        for _ in range(3):
            await told(lab, "import numpy")
            await settled(lab)
        assert "sandbox.templates is less" in capsys.readouterr().out
        with trio.fail_after(SOON_S):
            while packages(lab) != [()]:
                await told(lab, "import numpy")


@pytest.mark.parametrize("name", ["numpy", "pandas, matplotlib.pyplot"])
async def test_templates_are_counted_by_what_they_take_before_they_serve(
    lab: Lab, name: str
) -> None:
    """A guess was too low by half: templates of pandas took 60 MB more than all may take."""
    sandbox: Any = lab.sandbox
    await told(lab, f"import {name}")
    (ready,) = await standing(lab)
    with trio.fail_after(SOON_S):
        while abs(sandbox._host.templates.bytes / memory(ready) - 1) > 0.1:  # noqa: ASYNC110
            await trio.sleep(0.01)


async def test_memory_and_processor_time_are_told_as_without_packages_in_advance(
    language_cache: Path,
) -> None:
    source = "import numpy, pandas\nkept = numpy.ones(4_000_000)\nprint(pandas.Series(kept).sum())"

    async def least(lab: Lab) -> tuple[int, float]:
        ends = [(await lab.program("python", source))[-1].outcome for _ in range(3)]
        return min(end.memory for end in ends), min(end.cpu_time for end in ends)

    async with usual(language_cache, templates=0) as plain:
        memory, cpu_time = await least(plain)
    async with copying(language_cache) as forked:
        memory_of_copy, cpu_time_of_copy = await least(forked)
    assert abs(memory_of_copy - memory) < 2**20 + memory * 0.05
    assert cpu_time_of_copy < cpu_time / 2


async def test_a_program_takes_the_slot_that_has_its_packages(lab: Lab) -> None:
    sandbox: Any = lab.sandbox
    await both(lab, "import numpy")
    (numpy,) = sandbox._idle
    async with lab.cell(File("main.py", b"import numpy")):
        await told(lab, "print()")
    assert len(sandbox._idle) == 2
    sandbox._idle.sort(key=lambda jailer: jailer is not numpy)
    number = warm(lab)[0].launcher.jail.number
    await told(lab, "import numpy")
    (ready,) = [each for each in await standing(lab) if each.template.packages]
    assert ready.launcher.jail.number != number


async def test_templates_end_when_memory_is_short_the_least_used_first(
    language_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reading is injected. `execute.memory_used_max` is the line."""
    lines: list[float] = []
    used = 0.1
    monkeypatch.setattr(occd.sandbox.host, "memory_used", lambda: lines.pop(0) if lines else used)
    async with usual(language_cache, templates=ROOM) as lab:
        await told(lab, "print()")
        await told(lab, "import numpy")
        await standing(lab)
        await told(lab, "import numpy")
        assert packages(lab) == [(), ("numpy",)]
        lines[:] = [0.9]
        with trio.fail_after(SOON_S):
            while len(packages(lab)) > 1:  # noqa: ASYNC110
                await trio.sleep(0.01)
        assert packages(lab) == [("numpy",)]
        used = 0.9
        with trio.fail_after(SOON_S):
            while packages(lab):  # noqa: ASYNC110
                await trio.sleep(0.01)
        await told(lab, "import numpy")
        assert packages(lab) == []
        used = 0.1
        with trio.fail_after(SOON_S):
            while not packages(lab):
                await told(lab, "import numpy")


def test_every_package_of_the_sets_is_installed_for_the_tests() -> None:
    script = (Path(__file__).parent.parent / "packaging/system-packages.sh").read_text()
    for name in {
        name.partition(".")[0] for each in load_languages()["python"].sets for name in each
    }:
        assert name == "numpy" or f"python3-{name}" in script  # which the others need


ENDS = {
    "with_packages": """
import numpy, pandas, atexit, logging, sys, weakref
class Last:
    def __del__(self, numpy=numpy): print("deleted", numpy.arange(3).sum())
class Cycle:
    def __del__(self): print("cycle")
cycle = Cycle(); cycle.me = cycle
last = Last()
atexit.register(lambda: print("at exit", numpy.arange(3).sum(), "numpy" in sys.modules))
weakref.finalize(last, print, "finalized")
file = open("/tmp/kept", "w"); file.write("x" * 100)
print("x" * 3, end="")
del sys.__stdout__
sys.exit(0)
""",
    "without": """
import atexit, os, site, sys
class Last:
    def __del__(self, write=os.write): write(1, self.name)
def last(name):
    last = Last(); last.name = name
    return last
cycle = last(b"cycle\\n"); cycle.me = cycle
of_os = last(b"of os\\n"); os.kept = of_os; of_os.me = of_os
del of_os
site.kept = open("/proc/self/fd/1", "w"); site.kept.write("written late\\n")
kept = last(b"mine\\n")
atexit.register(print, "at exit")
print("x" * 3, end="")
""",
}


@pytest.mark.parametrize("source", ENDS.values(), ids=ENDS)
async def test_what_a_program_runs_at_its_end_runs(language_cache: Path, source: str) -> None:
    async with usual(language_cache, templates=0) as plain:
        own = await told(plain, source)
    async with copying(language_cache) as forked:
        assert await told(forked, source) == own
