"""`occd backup` and `occd restore`: all that was accepted before, nothing of it half, in one file."""

import io
import json
import os
import resource
import shutil
import signal
import socket
import sqlite3
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import trio
from load import load
from meeting import meeting
from serving import API, OCCD, PATIENCE_S, Server, serving
from test_cli import Done, assert_refused, occd
from test_control import ACCOUNTS, created, status

from occd.datafile import DataFile
from occd.sqlite import open_database

LEAVES = "open('left.txt', 'w').write('x' * 100_000); print('done')"
ARTIFACTS = {"artifacts": ["left.txt"]}
CLEAN = {name: value for name, value in os.environ.items() if name[:5] != "OCCD_"}


def backup(data: Path, file: Path, *args: str) -> Done:
    return occd(f"--data-dir={data}", "backup", str(file), *args, cwd=data.parent)


def restore(file: Path, data: Path) -> Done:
    return occd("restore", str(file), f"--data-dir={data}", cwd=file.parent)


def done(command: Done) -> None:
    assert command.returncode == 0, command.stderr


def entries(file: Path) -> dict[str, bytes]:
    with tarfile.open(file) as tar:
        return {each.name: tar.extractfile(each).read() for each in tar}  # type: ignore[union-attr]


def leave_files(data: Path, size: int = 2**20) -> None:
    """More than the sockets between a daemon and a command hold. They take no room on the disk."""
    name = sha256(bytes(size)).hexdigest()
    for each in range(20):
        (data / f"blobs/{each}").mkdir(parents=True)
        with (data / f"blobs/{each}/{name}").open("wb") as file:
            file.truncate(size)


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("used") / "data"
    with serving(folder) as server:
        server.run(LEAVES, **ARTIFACTS)
    return folder


@pytest.fixture
def stopped(used: Path, tmp_path: Path) -> Path:
    """The folder of a daemon that ran a program which left a file."""
    return shutil.copytree(used, tmp_path / "data")


@pytest.fixture
def kept(stopped: Path) -> Path:
    """A backup of it."""
    done(backup(stopped, stopped.with_name("kept")))
    return stopped.with_name("kept")


# while the daemon works


def test_a_backup_under_load_has_all_that_was_accepted_before(tmp_path: Path) -> None:
    with serving(tmp_path / "data", execute__slots="2") as server:
        left = server.submit(LEAVES, **ARTIFACTS)
        server.result(left)
        with load(server) as clients:
            clients.until(10)
            sleeps = "import time; time.sleep(20); print('whole')"  # longer than a command's start
            cut_off = server.submit(sleeps, limits={"wall_time": 60})
            server.wait_running(cut_off)
            before = dict(clients.accepted)
            done(backup(server.data_dir, tmp_path / "kept"))
            clients.until(1)
        waits = {id: clients.accepted[id] for id in before}
        server.signal(signal.SIGKILL)
        server.process.wait()
        server.process.returncode = 0  # as it was meant
    done(restore(tmp_path / "kept", tmp_path / "elsewhere"))
    with serving(tmp_path / "elsewhere") as other:
        for id, word in waits.items():
            result = other.result(id)
            assert (result["verdict"], result["run"]["stdout"]) == ("ok", f"{word}\n")
        result = other.result(cut_off)
        assert (result["run"]["stdout"], result["attempts"]) == ("whole\n", 2)
        artifact = other.get(f"{API}/submissions/{left}/artifacts/left.txt")
        assert artifact.body == b"x" * 100_000
        assert other.run("print(1)")["verdict"] == "ok"


def test_keys_and_owners_are_in_a_backup(tmp_path: Path) -> None:
    with serving(tmp_path / "data", accounts=ACCOUNTS) as server:
        secret, _ = created(tmp_path)
        id = server.post(
            {"language": "python", "source": "print(1)"}, authorization=f"Bearer {secret}"
        ).json()["id"]
        done(backup(server.data_dir, tmp_path / "kept"))
    done(restore(tmp_path / "kept", tmp_path / "elsewhere"))
    assert (tmp_path / "elsewhere").stat().st_mode & 0o777 == 0o700
    with serving(tmp_path / "elsewhere", accounts=ACCOUNTS) as other:
        assert status(other, secret) == 200
        mine = other.get(f"{API}/submissions/{id}", authorization=f"Bearer {secret}")
        assert (mine.status, other.get(f"{API}/submissions/{id}").status) == (200, 404)


def test_what_is_erased_during_a_backup_is_whole_in_it_and_gone_afterwards(tmp_path: Path) -> None:
    with serving(tmp_path / "data", results__keep_s="100000") as server:
        id = server.submit(LEAVES, **ARTIFACTS)
        server.result(id)
        leave_files(server.data_dir)
        path = f"{API}/submissions/{id}"
        with socket.socket(socket.AF_UNIX) as reader:
            reader.connect(str(server.data_dir / "control.sock"))
            reader.sendall(b"GET /api/v1/backup HTTP/1.0\r\nHost: x\r\n\r\n")
            head = reader.recv(1)  # the moment has come
            assert server.request("DELETE", f"{path}?erase=true").status in (200, 204)
            assert server.get(path).status == 404
            assert server.get(f"{path}/artifacts/left.txt").status == 404
            assert (server.data_dir / "blobs" / id).exists()
            while piece := reader.recv(2**20):
                head += piece
        (tmp_path / "kept").write_bytes(head.partition(b"\r\n\r\n")[2])
        assert [name for name in entries(tmp_path / "kept") if f"/{id}/" in name]


def test_a_daemon_that_dies_leaves_no_backup_and_no_copy(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server:
        process = slow_backup(server.data_dir, tmp_path / "kept", server)
        server.process.kill()
        server.process.wait()
        said = process.communicate(timeout=PATIENCE_S)[1].decode()
        assert process.returncode != 0
        assert "gave no answer" in said
        assert not (tmp_path / "kept").exists()
        assert not (tmp_path / "kept.part").exists()
        assert not list(server.data_dir.glob("copy-*"))
        server.process.returncode = 0


def slow_backup(data: Path, file: Path, server: Server) -> subprocess.Popen[bytes]:
    """A backup whose daemon was stopped (SIGSTOP) when its first bytes had been written. So much is left that
    a machine that is busy elsewhere at this moment does not come too late."""
    leave_files(data, 2**25)
    process = subprocess.Popen(
        [OCCD, f"--data-dir={data}", "backup", str(file)], stderr=subprocess.PIPE, env=CLEAN
    )
    part, deadline = file.with_name(f"{file.name}.part"), time.monotonic() + PATIENCE_S
    while not (part.exists() and part.stat().st_size):
        assert time.monotonic() < deadline
    server.process.send_signal(signal.SIGSTOP)
    assert process.poll() is None, "it was too fast"
    return process


def test_a_command_that_is_killed_leaves_nothing_that_hinders(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server:
        process = slow_backup(server.data_dir, tmp_path / "kept", server)
        second = backup(server.data_dir, tmp_path / "kept")
        assert_refused(second, "another process writes")
        process.kill()
        process.communicate()
        server.process.send_signal(signal.SIGCONT)
        assert not (tmp_path / "kept").exists()
        for each in range(20):
            shutil.rmtree(server.data_dir / f"blobs/{each}")
        done(backup(server.data_dir, tmp_path / "kept"))
        assert not (tmp_path / "kept.part").exists()
        assert server.run("print(1)")["verdict"] == "ok"


def test_a_damaged_file_is_not_backed_up(tmp_path: Path) -> None:
    """Nobody restores such a backup, and with --force it took the place of the last good one."""
    with serving(tmp_path / "data") as server:
        server.run("print('x' * 1_000_000)")
        done(backup(server.data_dir, tmp_path / "kept"))
        with closing(sqlite3.connect(server.data_dir / "occd.db")) as db:
            db.execute("PRAGMA wal_checkpoint")
            (pages,) = db.execute("PRAGMA page_count").fetchone()
        with (server.data_dir / "occd.db").open("r+b") as file:
            file.seek(pages // 2 * 4096)
            file.write(b"\xff" * 8192)
        before = (tmp_path / "kept").read_bytes()
        assert_refused(backup(server.data_dir, tmp_path / "kept", "--force"), "is damaged")
        assert (tmp_path / "kept").read_bytes() == before


def test_what_is_no_whole_file_of_a_program_hinders_no_restore(stopped: Path) -> None:
    (whole,) = (stopped / "blobs").glob("*/*")
    others = ("note", f"{whole.parent.name}/.nfs1", f"{whole.parent.name}/{'0' * 64}")
    for each in others:
        (stopped / "blobs" / each).write_text("x")
    (stopped / "blobs" / "a b").mkdir()
    (stopped / "blobs" / "a b" / whole.name).write_bytes(whole.read_bytes())
    made = backup(stopped, stopped.with_name("kept"))
    done(made)
    assert b"a damaged file is not in the backup" in made.stderr
    assert b"0" * 64 in made.stderr
    done(restore(stopped.with_name("kept"), stopped.with_name("elsewhere")))
    restored = stopped.with_name("elsewhere") / "blobs"
    assert list(restored.glob("*/*")) == [restored / whole.parent.name / whole.name]


async def test_two_backups_do_not_count_on_the_same_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both together would fill the disk, and the daemon would take nothing."""
    met, both, copy = [], threading.Barrier(2), DataFile.copy

    def slow(self: DataFile, *args: Any) -> None:
        with suppress(threading.BrokenBarrierError):
            met.append(both.wait(1.0))
        copy(self, *args)

    monkeypatch.setattr(DataFile, "copy", slow)
    async with open_database(tmp_path) as database, trio.open_nursery() as nursery:

        async def copied() -> None:
            (await database.copy()).close()

        nursery.start_soon(copied)
        nursery.start_soon(copied)
    assert met == []


# the file


def test_without_a_daemon_the_folder_is_copied_as_it_is(stopped: Path) -> None:
    with closing(sqlite3.connect(stopped / "occd.db")) as db:
        before = db.execute("SELECT count(*) FROM submissions").fetchone()
    done(backup(stopped, stopped.with_name("kept")))
    assert stopped.with_name("kept").stat().st_mode & 0o777 == 0o600
    names = list(entries(stopped.with_name("kept")))
    assert (names[0], names[-1], len(names)) == ("occd.db", "checksum", 3)
    done(restore(stopped.with_name("kept"), stopped.with_name("elsewhere")))
    with closing(sqlite3.connect(stopped.with_name("elsewhere") / "occd.db")) as db:
        assert db.execute("SELECT count(*) FROM submissions").fetchone() == before
    assert_refused(backup(stopped.with_name("none"), stopped.with_name("more")), "no data folder")


def test_a_file_is_replaced_only_by_force(kept: Path) -> None:
    data = kept.with_name("data")
    before = kept.read_bytes()
    assert_refused(backup(data, kept), "--force")
    assert kept.read_bytes() == before
    kept.write_bytes(b"old")
    done(backup(data, kept, "--force"))
    assert list(entries(kept)) == list(entries_of(before))


def entries_of(data: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return tar.getnames()


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "no folder", "link", "dead link"])
def test_what_is_no_file_is_refused(stopped: Path, kind: str) -> None:
    target = stopped.with_name("target")
    match kind:
        case "pipe":
            os.mkfifo(target)
        case "folder":
            target.mkdir()
        case "device":
            target = Path("/dev/null")
        case "link":
            target.symlink_to(stopped / "languages.json")
        case "dead link":
            target.symlink_to(stopped.with_name("elsewhere"))
        case _:
            target = stopped.with_name("absent") / "target"
    before = {each: each.read_bytes() for each in stopped.glob("*.json")}
    said = "No such file" if kind == "no folder" else "is no file"
    assert_refused(backup(stopped, target, "--force"), str(target), said)
    assert {each: each.read_bytes() for each in stopped.glob("*.json")} == before
    assert not stopped.with_name("elsewhere").exists()


@pytest.mark.parametrize("kind", ["another name", "another user"])
def test_a_file_of_others_gets_no_backup(stopped: Path, kind: str) -> None:
    """In a folder for everybody others laid the file there, which they may have open."""
    part, other = stopped.with_name("kept.part"), stopped.with_name("other")
    other.write_text("precious")
    os.link(other, part)
    if kind == "another user":
        other.unlink()
        become_another_user(part)
    assert_refused(backup(stopped, stopped.with_name("kept")), f"{part} is no file of yours alone")
    assert part.read_text() == "precious"
    assert not stopped.with_name("kept").exists()


def become_another_user(path: Path) -> None:
    try:
        os.chown(path, 65534, 65534)
    except PermissionError:
        pytest.skip("root alone can give files away")


def test_a_full_disk_ends_a_backup_and_leaves_the_old_one(kept: Path) -> None:
    """The limit on a file's size stands for the disk: writing fails in the same way."""
    before = kept.read_bytes()
    limited = subprocess.run(
        [OCCD, f"--data-dir={kept.with_name('data')}", "backup", str(kept), "--force"],
        capture_output=True,
        env=CLEAN,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
        check=False,
    )
    assert_refused(limited, "cannot be written" if b"cannot be w" in limited.stderr else "copied")
    assert kept.read_bytes() == before
    assert not kept.with_name("kept.part").exists()


# restoring


def test_a_folder_with_data_or_in_use_is_refused(kept: Path, tmp_path: Path) -> None:
    data = kept.with_name("data")
    assert_refused(restore(kept, data), str(data), "not empty")
    assert (data / "occd.db").exists()
    with serving(tmp_path / "running") as server:
        assert_refused(restore(kept, server.data_dir), "in use by another occd")
        assert server.run("print(1)")["verdict"] == "ok"
    (tmp_path / "empty").mkdir()
    done(restore(kept, tmp_path / "empty"))


def test_the_folder_of_another_user_is_refused(kept: Path) -> None:
    """Its user's daemon could not read what root writes there."""
    (kept.parent / "theirs").mkdir()
    become_another_user(kept.parent / "theirs")
    assert_refused(restore(kept, kept.parent / "theirs"), "run the command as nobody")
    assert not os.listdir(kept.parent / "theirs")


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def without_end(data: bytes) -> bytes:
    return data[: data.rindex(b"checksum")]


def changed_database(data: bytes) -> bytes:
    return data[:5000] + bytes([data[5000] ^ 1]) + data[5001:]


def changed_file(data: bytes) -> bytes:
    return data.replace(b"x" * 1000, b"y" * 1000, 1)


def climbing(data: bytes) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        made = io.BytesIO()
        with tarfile.open(fileobj=made, mode="w") as other:
            for member in tar:
                content = tar.extractfile(member)
                member.name = member.name.replace("blobs/", "../blobs/")
                other.addfile(member, content)
    return made.getvalue()


def sparse(size: str) -> bytes:
    """A file of noughts, as tar writes them."""
    made, member = io.BytesIO(), tarfile.TarInfo("occd.db")
    member.pax_headers = {"GNU.sparse.size": size, "GNU.sparse.map": "0,0"}
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(member)
    return made.getvalue()


def with_heads_before(data: bytes) -> bytes:
    """So many that tarfile, which calls itself for each, has no stack left."""
    head = tarfile.TarInfo("comments")
    head.type, head.size = tarfile.XGLTYPE, 10
    return (head.tobuf(tarfile.GNU_FORMAT) + b"10 a=bcde\n".ljust(512, b"\0")) * 2000 + data


def with_a_long_name(data: bytes) -> bytes:
    head = tarfile.TarInfo("x" * 100_000)
    return head.tobuf(tarfile.GNU_FORMAT) + data


def less_than_nothing(data: bytes) -> bytes:
    head = bytearray(data[:512])
    head[124:136] = b"\xff" * 10 + b"\xfe\0"
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head) + data[512:]


def test_noughts_that_are_claimed_fill_no_disk(kept: Path) -> None:
    kept.write_bytes(sparse("100000000"))
    assert_refused(restore(kept, kept.with_name("elsewhere")), "is no backup of occd")


@pytest.mark.parametrize(
    "damage",
    [
        *(cut, without_end, changed_database, changed_file, climbing),
        *(with_heads_before, with_a_long_name, less_than_nothing),
        *(lambda _: sparse("many"), lambda _: b"hello" * 1000),
    ],
)
def test_a_damaged_backup_makes_no_folder(kept: Path, damage: Callable[[bytes], bytes]) -> None:
    kept.write_bytes(damage(kept.read_bytes()))
    elsewhere = kept.with_name("elsewhere")
    assert_refused(restore(kept, elsewhere), str(kept), "is not restored")
    assert set(os.listdir(elsewhere)) <= {"lock"}
    assert not (kept.parent / "blobs").exists()


def test_a_restore_that_was_cut_off_is_no_data_and_can_be_repeated(kept: Path) -> None:
    elsewhere = kept.with_name("elsewhere")
    (elsewhere / "restore.part").mkdir(parents=True)
    shutil.copytree(kept.with_name("data") / "blobs", elsewhere / "blobs")
    (elsewhere / "restore.part" / "occd.db").write_bytes(b"half")
    refused = occd(f"--data-dir={elsewhere}", "--roles=all", cwd=kept.parent)
    assert_refused(refused, "cut off")
    done(restore(kept, elsewhere))
    assert not (elsewhere / "restore.part").exists()
    with serving(elsewhere) as server:
        assert server.run("print(1)")["verdict"] == "ok"


# servers


def test_with_servers_the_command_says_what_to_back_up(tmp_path: Path) -> None:
    with meeting() as settings:
        environment = {f"OCCD_{name.upper()}": each for name, each in settings.items()}
        with serving(tmp_path / "data", **settings):
            both = occd("--data-dir=data", "backup", "kept", cwd=tmp_path, environment=environment)
            # the daemon's configuration counts
            plain = occd("--data-dir=data", "backup", "kept", cwd=tmp_path)
        alone = occd("--data-dir=data", "backup", "kept", cwd=tmp_path, environment=environment)
    for each in (both, plain, alone):
        assert_refused(each, "RabbitMQ and Redis", "append-only file", "docs/operating.md")
    assert json.dumps(sorted(os.listdir(tmp_path))).count("kept") == 0
