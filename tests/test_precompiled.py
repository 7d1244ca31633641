"""What compilations have in common is made once, and changes nothing but the time: with real compilers."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import trio
from places import opened
from pydantic import SecretStr
from sandboxed import Lab, compile_in, run_in
from serving import OCCD, serving

from occd.config import Config, PrecompiledConfig, RedisConfig
from occd.execution.parts import Parts
from occd.execution.precompiled import Part, Precompiled
from occd.languages import Given
from occd.languages.fields import Precompiled as Described
from occd.languages.loading import load_languages
from occd.model import File
from occd.sandbox.jailer import Jailer

ROOM = 2**31

ALL = """
#include <bits/stdc++.h>
using namespace std;
int main() {
    vector<int> all{3, 1, 2};
    sort(all.begin(), all.end());
    for (int each : all) cout << each << endl;
    cout << __cplusplus << __FILE__ << __LINE__ << endl;
}
"""
STREAM = ALL.replace("bits/stdc++.h>", "iostream>\n#include <vector>\n#include <algorithm>")
MAIN = "int main() {"
WRONG = (
    ALL.replace("sort(", "srot(").replace(MAIN, f'#line 100 "other.cpp"\n{MAIN}')
    + "int wrong = y;\n"
)
PRAGMAS = '#pragma GCC optimize("O3,unroll-loops")\n#pragma GCC target("avx2")\n'
DEEP = "set<thread> all_threads; all_threads.insert(thread()); sort(all, all);"
WARNED = (
    'int unused; char few[2]; strcpy(few, getenv("HOME")); auto_ptr<int> old; register int fast;'
)
SOURCES = {
    "stream": STREAM,
    "behind a comment and a macro": "// first\n#define LOCAL 1\n" + ALL,
    "behind another header": "#include <vector>\n" + ALL,
    "behind macros": "#define endl '\\n'\n#define int long\n" + ALL.replace("int main", "signed main"),
    "behind a macro for it": "#define NDEBUG\n" + ALL.replace(MAIN, f"{MAIN} assert(false);"),
    "wrong behind another header": "#include <vector>\n" + WRONG,
    "wrong before it": "int wrong = unknown_name;\n" + ALL,
    "wrong with the other": STREAM.replace("cout", "cotu"),
    "no program": ALL.replace("int main", "int other"),
    "with inline assembly": ALL.replace(MAIN, f'{MAIN} asm("nop");'),
}  # fmt: skip
ARGUMENTS: Sequence[Sequence[str]] = [
    (), ("-Wall", "-Wextra", "-Wpedantic", "-Wconversion"), ("-std=c++20", "-Wall"), ("-std=c++98",), ("-g",),
    ("-O0",), ("-O3",), ("-DLOCAL=1",), ("-fsanitize=undefined",), ("-D_GLIBCXX_DEBUG",),
    ("-Werror", "-Wsystem-headers"), ("-c",), ("-Wbad",), ("-bad",),
]  # fmt: skip


@pytest.fixture
async def lab(language_cache: Path) -> AsyncIterator[Lab]:
    async with opened("nsjail", lambda: pytest.fail("no engine"), language_cache) as sandbox:
        languages: Any = sandbox.languages
        for id, language in languages.items():
            languages[id] = replace(language, precompiled=None)
        yield Lab(sandbox)


def describe(lab: Lab, id: str, build: str, *parts: str) -> None:
    """Give a language something to be precompiled."""
    languages: Any = lab.sandbox.languages
    languages[id] = replace(languages[id], precompiled=Described(parts, build))


def precompiled(lab: Lab, folder: Path, most: int = ROOM) -> Precompiled:
    config = Config(data_dir=folder, precompiled=PrecompiledConfig(bytes=most))
    return Precompiled(config, lab.sandbox)


async def made(those: Precompiled) -> dict[str, str]:
    """What was told of each part."""
    told: dict[str, str] = {}

    def tell(part: Part, words: str, well: bool) -> None:
        told[part.name] = words if well else f"not well: {words}"

    await those.make(tell)
    return told


def whole(folder: Path) -> list[Path]:
    return sorted(each for each in (folder / "precompiled").iterdir() if each.name != "lock")


@dataclass(frozen=True)
class Compiled:
    exit_code: int | None
    stdout: bytes
    stderr: bytes
    files: Mapping[str, bytes]
    """All that the compiler left."""
    cpu_time: float = 0.0


async def compiled(lab: Lab, id: str, source: str, args: Sequence[str] = ()) -> Compiled:
    language, binary = lab.language(id)
    files = [File(language.file_name, source.encode())]
    limits = language.compile_limits
    argv = language.compile_argv(Given(binary, "", files[0].name, files, args, limits.memory))
    async with lab.sandbox.cell(language, files, limits) as cell:
        ran, tree = await compile_in(
            cell, argv, limits, tuple(language.environment(binary).items())
        )
        left = {each.name: each.read_bytes() for each in tree.folder.rglob("*") if each.is_file()}
        return Compiled(ran.exit_code, ran.stdout, ran.stderr, left, ran.cpu_time)


async def least_cpu_time(lab: Lab, id: str, source: str) -> float:
    """Of three compilations: neighbours on a processor cost a program time, and never save it any."""
    return min([(await compiled(lab, id, source)).cpu_time for _ in range(3)])


def alike(one: Compiled, other: Compiled) -> bool:
    return replace(one, cpu_time=0.0) == replace(other, cpu_time=0.0)


@pytest.fixture(scope="module")
def headers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder in which headers are kept, so that they are made once."""
    return tmp_path_factory.mktemp("headers")


async def with_parts(lab: Lab, folder: Path, id: str, *parts: str) -> None:
    """Have parts made as the language's file says."""
    described = load_languages()[id].precompiled
    assert described
    describe(lab, id, described.build, *parts)
    told = await made(precompiled(lab, folder))
    assert set(told) == set(parts)
    assert all(words.startswith(("made in", "is there")) for words in told.values()), told


async def test_headers_save_most_of_the_time(lab: Lab, headers: Path) -> None:
    before = [await compiled(lab, "cpp", each) for each in (ALL, STREAM)]
    await with_parts(lab, headers, "cpp", "usual")
    after = [await compiled(lab, "cpp", each) for each in (ALL, STREAM)]
    assert all(map(alike, before, after))
    assert after[0].cpu_time < 0.5 * before[0].cpu_time
    assert after[1].cpu_time < before[1].cpu_time


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (ALL, b""),
        (PRAGMAS + ALL, b""),
        (WRONG, b"other.cpp:102:"),
        (ALL.replace(MAIN, MAIN + DEEP), b"from main.cpp:2:"),
        (ALL.replace(MAIN, MAIN + WARNED), b"warning: "),
        (ALL.replace(MAIN, f'{MAIN} printf("%d", 1L);'), b"%ld"),
        ("#include <bits/stdc++.h>\n" + ALL, b""),
    ],
    ids=[
        "right",
        "behind a pragma",
        "wrong",
        "wrong deep in the library",
        "warned of",
        "format",
        "twice",
    ],
)
async def test_headers_change_no_program_and_no_message(
    lab: Lab, headers: Path, source: str, said: bytes
) -> None:
    args = ["-Wall"] if said else []
    before = await compiled(lab, "cpp", source, args)
    await with_parts(lab, headers, "cpp", "usual")
    after = await compiled(lab, "cpp", source, args)
    assert alike(before, after)
    assert said in after.stderr
    assert ("main" in after.files) == (after.exit_code == 0)


@pytest.mark.long
@pytest.mark.parametrize("args", ARGUMENTS, ids=" ".join)
async def test_headers_change_nothing_with_other_arguments(
    lab: Lab, headers: Path, args: Sequence[str]
) -> None:
    sources = {"all": ALL, "wrong": WRONG} | ({} if args else SOURCES)
    before = {name: await compiled(lab, "cpp", each, args) for name, each in sources.items()}
    await with_parts(lab, headers, "cpp", "usual")
    for name, source in sources.items():
        assert alike(before[name], await compiled(lab, "cpp", source, args)), name


@pytest.mark.long
async def test_each_standard_has_its_headers(lab: Lab, headers: Path) -> None:
    described = load_languages()["cpp"].precompiled
    assert described
    args = {each: [f"-std={each}", "-Wall"] for each in described.parts if each != "usual"}
    sources = {"all": ALL, "stream": STREAM, "warned of": ALL.replace(MAIN, MAIN + WARNED)}
    before = {
        (each, name): await compiled(lab, "cpp", source, args[each])
        for each in args
        for name, source in sources.items()
    }
    await with_parts(lab, headers, "cpp", *described.parts)
    for (each, name), then in before.items():
        now = await compiled(lab, "cpp", sources[name], args[each])
        assert alike(then, now), (each, name)
        assert name != "all" or now.cpu_time < 0.5 * then.cpu_time


JAVA = """
import java.util.*;
class Other { int x; }
public class Main {
    public static void main(String[] args) {
        List<Integer> all = new ArrayList<>(List.of(3, 1, 2));
        all.sort(Comparator.comparing(each -> -each));
        System.out.println(all);
    }
}
"""
JAVA_SOURCES = {
    "right": JAVA,
    "wrong": JAVA.replace("all.sort(", "all.sorted("),
    "no Java": "int main() {}",
    "warned of": JAVA.replace("new ArrayList<>(", "new ArrayList("),
}


async def test_class_data_save_time_and_change_no_class_and_no_message(
    lab: Lab, tmp_path: Path
) -> None:
    args = ["-Xlint:all"]
    before = {name: await compiled(lab, "java", each, args) for name, each in JAVA_SOURCES.items()}
    took = await least_cpu_time(lab, "java", JAVA)
    await with_parts(lab, tmp_path, "java", "javac")
    assert await least_cpu_time(lab, "java", JAVA) < 0.95 * took
    after = {name: await compiled(lab, "java", each, args) for name, each in JAVA_SOURCES.items()}
    for name, then in before.items():
        assert alike(then, after[name]), name
    assert "Main.class" in after["right"].files
    assert b"warning: " in after["warned of"].stderr + after["warned of"].stdout


@pytest.mark.parametrize(
    ("id", "part"), [("kotlin", "kotlinc"), ("scala", "scalac"), ("zig", "runtime")]
)
async def test_a_part_saves_time_and_changes_no_message(
    lab: Lab, tmp_path: Path, id: str, part: str
) -> None:
    if id not in lab.sandbox.available:
        pytest.skip(f"{id} is not installed")
    language = load_languages()[id]
    assert language.proof.wrong
    wrong = await compiled(lab, id, language.proof.wrong)
    took = await least_cpu_time(lab, id, language.hello)
    await with_parts(lab, tmp_path, id, part)
    assert await least_cpu_time(lab, id, language.hello) < 0.9 * took
    again = await compiled(lab, id, language.proof.wrong)
    assert wrong.exit_code
    assert (wrong.exit_code, wrong.stdout, wrong.stderr) == (
        again.exit_code,
        again.stdout,
        again.stderr,
    )


async def test_the_library_of_go_is_used_where_it_comes_in_compiled_form(
    lab: Lab, tmp_path: Path
) -> None:
    hello = lab.language("go")[0].hello
    before = await compiled(lab, "go", hello)
    described = load_languages()["go"].precompiled
    assert described
    describe(lab, "go", described.build, *described.parts)
    those = precompiled(lab, tmp_path)
    assert await made(those) == {"std": "needs nothing"}
    assert those.languages == ()
    assert alike(before, await compiled(lab, "go", hello))
    assert before.exit_code == 0


async def test_a_slot_may_be_taken_while_jails_are_made_anew_for_a_part(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with lab.cell() as one, lab.cell() as other:
        for cell in (one, other):
            await run_in(cell, ["/bin/true"])
    renew = Jailer.renew
    describe(lab, "bash", "echo good >shared", "one")
    async with AsyncExitStack() as taken:

        async def taking(jailer: Jailer, changes: int) -> None:
            await taken.enter_async_context(lab.cell())
            await renew(jailer, changes)

        with monkeypatch.context() as patched:
            patched.setattr(Jailer, "renew", taking)
            assert (await made(precompiled(lab, tmp_path))).keys() == {"one"}
        async with lab.cell() as cell:
            assert (await run_in(cell, ["/bin/true"])).succeeded


async def test_programs_cannot_change_what_is_shared(lab: Lab, tmp_path: Path) -> None:
    describe(lab, "bash", "echo good >shared; mkdir more", "one")
    await made(precompiled(lab, tmp_path))
    language, binary = lab.language("bash")
    place = f"{language.precompiled_place(binary)}/one"
    attempts = f"""
        cd {place}
        cat shared
        for each in 'echo bad >shared' 'touch more/new' 'rm shared' 'mv more less' 'chmod 777 .' \\
            'ln shared /tmp/linked' 'mount -o remount,rw .' 'umount .'; do
            if eval "$each" 2>/dev/null; then echo "done: $each"; fi
        done
        cat shared
    """
    (ran,) = await lab.program("bash", attempts)
    assert ran.stdout == b"good\ngood\n"
    (folder,) = whole(tmp_path)
    assert (folder / "files/shared").read_bytes() == b"good\n"


async def test_a_part_is_made_once_and_then_is_there(lab: Lab, tmp_path: Path) -> None:
    describe(lab, "bash", "echo $1 $2 >made", "one", "two")
    first, second = precompiled(lab, tmp_path), precompiled(lab, tmp_path)
    told: list[dict[str, str]] = []

    async def make(those: Precompiled) -> None:
        told.append(await made(those))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(make, first)
        nursery.start_soon(make, second)
    for part in ("one", "two"):
        assert sorted(each[part].split()[0] for each in told) == ["is", "made"]
    assert first.languages == second.languages == ("bash",)
    assert set((await made(precompiled(lab, tmp_path))).values()) == {"is there"}


async def test_another_compiler_has_other_parts_and_the_old_ones_go(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    describe(lab, "bash", "echo $$ >made", "one")
    those = precompiled(lab, tmp_path)
    await made(those)
    before = whole(tmp_path)
    monkeypatch.setattr(type(lab.sandbox), "identity", lambda *_: "upgraded")
    assert (await made(those))["one"].startswith("made in")
    (after,) = whole(tmp_path)
    assert [after] != before


@pytest.mark.parametrize("damage", ["bits", "short", "gone", "untold", "no facts"])
async def test_a_damaged_part_is_made_anew(lab: Lab, tmp_path: Path, damage: str) -> None:
    describe(lab, "bash", "echo good >made", "one")
    await made(precompiled(lab, tmp_path))
    (folder,) = whole(tmp_path)
    file, facts = folder / "files/made", folder / "told.json"
    match damage:
        case "bits":
            file.write_bytes(b"bad!\n")
        case "short":
            file.write_bytes(b"goo")
        case "gone":
            file.unlink()
        case "untold":
            facts.unlink()
        case _:
            facts.write_text('{"files": [1]}')
    await precompiled(lab, tmp_path).show()  # also without a look at the contents
    assert (await made(precompiled(lab, tmp_path)))["one"].startswith("made in")
    assert file.read_bytes() == b"good\n"


def test_with_redis_nothing_is_precompiled_unless_a_folder_is_named() -> None:
    redis = RedisConfig(url=SecretStr("redis://127.0.0.1"))
    assert Config(redis=redis).precompiled_folder is None
    named = PrecompiledConfig(folder=Path("/var/cache/occd"))
    assert Config(redis=redis, precompiled=named).precompiled_folder == named.folder
    assert Config().precompiled_folder == Path("data/precompiled")


async def test_a_part_that_fails_is_told_and_costs_the_others_nothing(
    lab: Lab, tmp_path: Path
) -> None:
    describe(lab, "bash", "[ $2 != bad ] || { echo why >&2; exit 3; }\necho >made", "bad", "good")
    told = await made(precompiled(lab, tmp_path))
    assert told["bad"] == "not well: failed: why"
    assert told["good"].startswith("made in")
    assert [each.name.startswith("bash-good-") for each in whole(tmp_path)] == [True]


async def test_all_of_them_stay_within_the_bound(lab: Lab, tmp_path: Path) -> None:
    most = 10 * 2**20
    describe(lab, "bash", "head -c 3000000 /dev/zero >made", "one", "two", "three")
    told = await made(precompiled(lab, tmp_path, most))
    assert all(words.startswith("made in") for words in told.values()), told
    describe(lab, "bash", "head -c 6000000 /dev/zero >made", "one", "two")
    told = await made(precompiled(lab, tmp_path, most))
    assert told["one"].startswith("made in")
    assert told["two"].startswith("not well: failed: head: ")
    assert sum(each.stat().st_size for each in tmp_path.rglob("made")) == 6_000_000


_KEEPS = """
import sys
from pathlib import Path
from occd.execution.parts import Parts
parts = Parts(Path(sys.argv[1]), 2**30)
with parts.locked() as locked:
    assert locked
    for number in range(1_000_000):
        parts.keep(f"c++-part-{number % 3:032x}", Path(sys.argv[2]), {})
        print(flush=True)
"""


def test_a_part_that_is_there_is_whole_whenever_its_maker_is_killed(tmp_path: Path) -> None:
    folder, source = tmp_path / "parts", tmp_path / "source"
    for number in range(20):
        (source / f"folder{number}").mkdir(parents=True)
        (source / f"folder{number}/file").write_bytes(bytes([number]) * 50_000)
    parts = Parts(folder, ROOM)
    for kept in range(4):
        argv = [sys.executable, "-c", _KEEPS, str(folder), str(source)]
        with subprocess.Popen(argv, stdout=subprocess.PIPE) as maker:
            assert maker.stdout
            maker.stdout.read(kept + 1)  # it is somewhere behind this
            maker.send_signal(signal.SIGKILL)
        names = {each.name for each in folder.iterdir() if each.suffix != ".part"} - {"lock"}
        assert names
        assert all(parts.size_if_whole(name) == 1_000_000 for name in names)
        with parts.locked() as locked:
            assert locked
            parts.tidy(names)
        assert {each.name for each in folder.iterdir()} == names | {"lock"}


def test_what_is_not_ours_stays_in_the_folder(tmp_path: Path) -> None:
    parts, old = Parts(tmp_path, ROOM), f"cpp-c++17-{1:032x}"
    for name in ("blobs", "lost+found", old, f"{old}.part"):
        (tmp_path / name).mkdir()
    (tmp_path / "occd.db").touch()
    with parts.locked():
        parts.tidy(())
    assert {each.name for each in tmp_path.iterdir()} == {"blobs", "lost+found", "occd.db", "lock"}


def occd(folder: Path, *args: str, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {name: each for name, each in os.environ.items() if name[:5] != "OCCD_"}
    environment |= {f"OCCD_{name.upper()}": each for name, each in settings.items()}
    return subprocess.run(
        [OCCD, f"--data-dir={folder}", *args], env=environment, text=True, capture_output=True
    )


def test_the_command_tells_what_could_not_be_made(tmp_path: Path) -> None:
    done = occd(tmp_path, "warm", precompiled__bytes="5000")
    assert done.returncode == 1, done.stderr
    assert re.search(r"^C\+\+ [\d.]+: usual: failed: ", done.stdout, re.MULTILINE)
    assert whole(tmp_path) == []
    assert "`occd warm` makes them now" in occd(tmp_path, "doctor").stdout


def test_the_command_says_why_nothing_is_made(tmp_path: Path) -> None:
    done = occd(tmp_path, "warm", precompiled__bytes="0")
    assert (done.returncode, done.stdout) == (125, "")
    assert "precompiled.bytes" in done.stderr


@pytest.mark.long
def test_a_daemon_makes_them_in_the_background(tmp_path: Path) -> None:
    with serving(tmp_path / "data", precompiled__bytes=str(ROOM)) as server:
        answer = server.post({"language": "cpp", "source": ALL}, "?wait=60").json()
        assert answer["verdict"] == "ok"  # without them
        while not re.search(r'"part": "C\+\+ [\d.]+: usual"', server.log.read_text()):
            time.sleep(0.1)
        again = server.post({"language": "cpp", "source": ALL, "cache": False}, "?wait=60").json()
    assert again["compile"]["cpu_time"] < 0.5 * answer["compile"]["cpu_time"]
    assert again["run"]["stdout"] == answer["run"]["stdout"]
