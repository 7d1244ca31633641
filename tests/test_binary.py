"""dist/occd, as `make binary` makes it, in a Debian that has a C compiler and no Python."""

import json
import os
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from bom import bill_of_materials
from debian import bootstrap
from meeting import meeting
from people import Browser, accounts
from processes import Proc, descendants
from provider import providing
from redis_server import free_port
from serving import API, PATIENCE_S, serving, start, wait_open

ROOT = Path(__file__).parent.parent
ENTER = """\
#!/bin/sh
# In a mount namespace of its own: in a chroot the kernel refuses user namespaces.
exec unshare --mount -- /bin/sh -ec '
here=$(pwd)
mount --bind {root} {root}
mkdir -p -m 711 /run/occd
# /run/occd: who sees the same control groups must see the same leases of slots.
for folder in /proc /sys /dev /run/occd {tmp}; do
    mkdir -p {root}$folder
    mount --rbind $folder {root}$folder
done
cd {root}
pivot_root . mnt
umount -l /mnt
cd "$here"
exec /usr/bin/occd "$@"' occd "$@"
"""

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(os.geteuid() != 0, reason="making and entering a Debian needs root"),
]


@dataclass(frozen=True)
class Debian:
    root: Path
    enter: Path
    """Runs the file in there. The folder for the test's own files is at the same place as outside."""
    environment: dict[str, str]

    @property
    def cache(self) -> Path:
        return self.root / "root/.cache/occd"

    @property
    def unpacked(self) -> Path:
        (folder,) = [each for each in self.cache.iterdir() if len(each.name) == 64]
        return folder

    def call(self, *args: str | Path, stdin: str = "") -> str:
        done = self.run(*args, stdin=stdin)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def run(self, *args: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.enter, *args], cwd="/", env=self.environment, input=stdin, text=True,
            capture_output=True, timeout=2 * PATIENCE_S, check=False,
        )  # fmt: skip


@pytest.fixture(scope="module")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file: Path = tmp_path_factory.mktemp("dist") / "occd"
    subprocess.run(["make", "-s", "binary", f"BINARY={file}"], cwd=ROOT, check=True)
    return file


@pytest.fixture(scope="module")
def debian(binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Debian:
    """Nothing was run there yet."""
    root: Path = tmp_path_factory.mktemp("debian") / "root"
    bootstrap(root, "gcc", "libc6-dev")
    assert not list(root.glob("usr/bin/python*"))
    shutil.copy(binary, root / "usr/bin/occd")
    enter = root.parent / "enter"
    enter.write_text(ENTER.format(root=root, tmp=tmp_path_factory.getbasetemp()))
    enter.chmod(0o755)
    return Debian(root, enter, {"PATH": os.environ["PATH"], "HOME": "/root"})


@pytest.fixture(autouse=True)
def at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/root")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)


def test_it_serves_where_there_is_no_python(debian: Debian, tmp_path: Path) -> None:
    with serving(tmp_path / "data", program=debian.enter) as server:
        found = {each["id"] for each in server.get(f"{API}/languages").json()["languages"]}
        assert {"bash", "c"} <= found
        assert "python" not in found
        result = server.run("echo from Bash", language="bash")
        assert (result["verdict"], result["run"]["stdout"]) == ("ok", "from Bash\n")
        result = server.run('#include <stdio.h>\nint main(void) { puts("from C"); }', language="c")
        assert (result["verdict"], result["run"]["stdout"]) == ("ok", "from C\n")
        page = server.get("/")
        assert page.status == 200
        for name in (each for each in (ROOT / "static").iterdir() if each.is_file()):
            answer = server.get(f"/static/{name.name}")
            assert (answer.status, answer.body) == (200, name.read_bytes())
    unpacked = debian.unpacked
    installed = unpacked / "_internal/occd/_data/sandbox"
    assert (installed / "shown/live/live.so").is_file()  # which makes output live
    assert (installed / "shown/live/python/lib/python3.11/site-packages/live.pth").is_file()


def test_its_commands_work(debian: Debian, tmp_path: Path) -> None:
    assert debian.call("--version").startswith("occd, version ")
    assert "a trial job ran" in debian.call("doctor")
    assert "C " in debian.call("languages")
    (tmp_path / "cat.c").write_text(
        "#include <stdio.h>\nint main(void) { for (int c; (c = getchar()) >= 0;) putchar(c); }"
    )
    assert debian.call("run", tmp_path / "cat.c", stdin="from stdin") == "from stdin"
    (tmp_path / "exit.sh").write_text("exit 7")
    assert debian.run("run", tmp_path / "exit.sh").returncode == 7


def environment(pid: int) -> set[str]:
    text = Path(f"/proc/{pid}/environ").read_bytes().decode()
    return {each.partition("=")[0] for each in text.split("\0") if each}


def test_programs_and_children_see_none_of_its_variables(debian: Debian, tmp_path: Path) -> None:
    with serving(tmp_path / "data", program=debian.enter) as server:
        printed = server.run("env; sleep 0", language="bash")["run"]["stdout"]
        names = {line.partition("=")[0] for line in printed.splitlines()}
        compiled = server.run(  # what gcc sees, by a program that is compiled with it
            "#include <stdio.h>\nextern char **environ;\n"
            "int main(void) { for (char **each = environ; *each; each++) puts(*each); }",
            language="c",
        )["run"]["stdout"]
        names |= {line.partition("=")[0] for line in compiled.splitlines()}
        id = server.submit("sleep 60", language="bash")
        server.wait_running(id)
        children = descendants(server.process.pid)
        assert children
        for child in children:
            names |= environment(child.pid) - {"LD_PRELOAD"}  # nsjail's own: see `Host.deferring`
            held = [os.readlink(each) for each in Path(f"/proc/{child.pid}/fd").iterdir()]
            assert not any(each.endswith(".used") for each in held)  # the lock is the daemon's
        server.request("DELETE", f"{API}/submissions/{id}")
    assert "PATH" in names
    ours = ("LD_", "_PYI", "_MEI", "_OCCD", "OCCD", "PYINSTALLER", "XDG")
    assert not [name for name in names if name.startswith(ours)]


def test_a_second_start_is_ready_in_two_seconds(debian: Debian, tmp_path: Path) -> None:
    """Of its own and its children's processor time, which a busy machine does not stretch."""
    with serving(tmp_path / "data", program=debian.enter):
        pass
    server = start(tmp_path / "data", program=debian.enter)
    try:
        wait_open(server)
        fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
        assert sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK") < 2
        assert server.stop() == 0
    finally:
        server.process.kill()


def test_sigterm_drains_it(debian: Debian, tmp_path: Path) -> None:
    with serving(tmp_path / "data", program=debian.enter, grace_s=str(PATIENCE_S)) as server:
        id = server.submit("echo begun; sleep 2; echo done", language="bash")
        server.wait_running(id)
        assert server.stop() == 0
    with serving(tmp_path / "data", program=debian.enter) as server:
        result = server.result(id)
        assert (result["verdict"], result["run"]["stdout"]) == ("ok", "begun\ndone\n")
        assert result["attempts"] == 1


def test_sigkill_leaves_no_process_and_nothing_that_grows(debian: Debian, tmp_path: Path) -> None:
    left: list[list[str]] = []
    for _ in range(3):
        server = start(tmp_path / "data", program=debian.enter)
        wait_open(server)
        server.wait_running(server.submit("sleep 60", language="bash"))
        family = descendants(server.process.pid)
        assert family
        server.process.kill()
        server.process.wait()
        gone(family)
        left.append(
            sorted(map(str, debian.cache.rglob("*"))) + sorted(os.listdir(debian.root / "tmp"))
        )
    assert left[0] == left[1] == left[2]


def gone(family: list[Proc]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while any(each.alive for each in family):
        assert time.monotonic() < deadline, family
        time.sleep(0.02)


def test_damage_is_mended_at_the_next_start(debian: Debian, tmp_path: Path) -> None:
    debian.call("--version")
    os.truncate(debian.unpacked / "_internal/nsjail/bin/nsjail", 1000)
    (debian.unpacked / "_internal/occd/_data/static/app.js").unlink()
    (tmp_path / "hello.sh").write_text("echo hello")
    assert debian.call("run", tmp_path / "hello.sh") == "hello\n"


def test_one_that_runs_outlives_a_damage_that_another_start_mends(
    debian: Debian, tmp_path: Path
) -> None:
    with serving(tmp_path / "data", program=debian.enter) as server:
        shutil.rmtree(debian.unpacked)
        debian.call("--version")
        for _ in range(8):
            assert server.run("echo hello", language="bash")["run"]["stdout"] == "hello\n"
        assert server.get("/status").status == 200


def test_redis_and_rabbitmq_and_a_provider_work_from_it(
    binary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is imported only when it is needed. Here, because the others do not run in the small Debian."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    port = free_port()
    with providing() as provider, meeting() as settings:
        provider.person("alice", groups=["staff"])
        with serving(
            tmp_path / "data",
            program=binary,
            port=str(port),
            accounts=json.dumps(accounts(provider, tmp_path)),
            http__public_url=f"http://127.0.0.1:{port}",
            **settings,
        ) as server:
            browser = Browser(server)
            browser.sign_in("alice")
            assert browser.get(f"{API}/me").json()["class"] == "service"
            id = browser.submit().json()["id"]
            result = browser.get(f"{API}/submissions/{id}?wait={PATIENCE_S}").json()
            assert result["run"]["stdout"] == "1\n"


LIBRARIES = {
    "libpython": "cpython",
    "libcrypto": "openssl",
    "libssl": "openssl",
    "libsqlite": "sqlite",
    "libz": "zlib",
}


def test_the_bill_of_materials_names_its_libraries(binary: Path, tmp_path: Path) -> None:
    subprocess.run([binary, "--version"], check=True, env={"HOME": str(tmp_path)})
    (inside,) = tmp_path.glob(".cache/occd/*/_internal")
    libraries = {re.split(r"[0-9.]*\.so", path.name)[0] for path in inside.glob("lib*.so*")}
    assert "libcrypto" in libraries
    named = {part["name"] for part in bill_of_materials("1.0", "abc", 0, binary=True)["components"]}
    assert {LIBRARIES.get(each, each) for each in libraries} - named == set()
