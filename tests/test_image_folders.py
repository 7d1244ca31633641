"""What is described, what is refused, and how an image takes the place of another. `tests/images` builds."""

import fcntl
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from serving import OCCD

from occd.config import Config, SandboxConfig, load_config
from occd.errors import ConfigError, SandboxUnavailable
from occd.images import (
    FOLDER,
    describe,
    find,
    found,
    load_description,
    opened,
)
from occd.images.build import put, remove_leftovers
from occd.images.place import held_place
from occd.images.script import script, steps
from occd.images.source import refuse_what_cannot_begin
from occd.languages.installing import in_set, private_steps
from occd.languages.loading import load_languages
from occd.languages.packages import Packages
from occd.sandbox import doctor

NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]


def plant(
    place: Path, text: str, name: str = "debian-12", digest: str = "", built_at: float = 0.0
) -> Path:
    """What is left when `name` was built, but for Debian."""
    (place / "root").mkdir(parents=True)
    (place / "root/file").write_text(text)
    told = {
        "name": name, "release": "bookworm", "architecture": "amd64", "digest": digest,
        "packages": {"apt": {}}, "seconds": 1.0, "built_at": built_at, "bytes": 2_000_000_000,
    }  # fmt: skip
    (place / "image.json").write_text(json.dumps(told))
    return place


def occd(*argv: str | Path, before: list[str] | None = None, **settings: str) -> tuple[int, str]:
    clean = {name: value for name, value in os.environ.items() if name[:5] != "OCCD_"}
    done = subprocess.run(
        [*(before or []), OCCD, *argv],
        env=clean | settings,
        cwd="/",
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout + done.stderr


def test_an_image_of_a_later_debian_has_languages_that_earlier_ones_lack() -> None:
    core = [each.id for each in in_set(load_languages().values(), "core")]
    assert describe("debian-13").languages == (*core, "swift")
    assert "openjdk-25-jdk-headless" in describe("debian-13").packages.apt
    assert "swift" not in describe("debian-12-popular").languages


@pytest.mark.parametrize(
    ("name", "languages"),
    [("debian-12", "core"), ("debian-12-popular", "popular")],
)
def test_an_image_has_what_its_languages_and_their_formatters_need(
    name: str, languages: str
) -> None:
    description = describe(name)
    chosen = in_set(load_languages().values(), languages, 12)
    assert description.languages == tuple(each.id for each in chosen)
    for language in chosen:
        for install in (language.install, *(each.install for each in language.formatters)):
            assert set(install.apt) <= set(description.packages.apt)
        for formatter in language.formatters:
            assert set(formatter.install.pip) <= set(description.packages.pip)
            assert set(formatter.install.npm) <= set(description.packages.npm)
        for step in private_steps(language, versions=False):
            assert (step.told, step.script) in description.private
            assert f"\n{step.script}\n" in script(description)
    assert all("==" in package for package in description.packages.pip)
    assert all("@" in package[1:] for package in description.packages.npm)


def test_what_an_image_needs_of_pip_and_npm_has_its_interpreter(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(
        'release = "trixie"\nlanguages = ["sql"]\ninstall = {apt = ["zip"], pip = ["ruff==1"], npm = ["a@2"]}'
    )
    packages = load_description(tmp_path / "own.toml").packages
    assert packages == Packages(("nodejs", "python3", "sqlite3", "zip"), ("ruff==1",), ("a@2",))


def test_what_makes_a_language_ready_comes_after_its_packages() -> None:
    description = describe("debian-13")
    assert [name for name, _ in description.prepare] == ["Go"]
    told, prepare = list(steps(description))[-1]
    assert told == "what makes Go ready"
    assert "go build std" in prepare
    assert script(description).endswith(prepare + "\n")
    assert replace(description, prepare=()).digest != description.digest


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("languages = []", "'release' is missing"),
        ('release = "bookworm"', "'languages' is missing"),
        ('release = "../../etc"\nlanguages = []', "release: "),
        ('release = "bookworm"\nlanguages = ["klingon"]', "languages: there is no klingon: "),
        ('release = "bookworm"\nlanguages = [["sql"]]', "languages: must be a list of ids and "),
        ('release = "bookworm"\nlanguages = ["swift"]', "languages: swift needs Debian 13"),
        (
            'release = "bookworm"\nlanguages = "most"',
            "languages: must be a list of ids and of core, ",
        ),
        ('release = "bookworm"\nlanguages = []\nextra = 1', "unknown key extra"),
        ('release = "bookworm"\nlanguages = []\ninstall = {apt = ["-y"]}', "install: apt.0: "),
        ("release", "Expected"),
    ],
)
def test_a_description_that_makes_no_sense_is_refused_by_name(
    tmp_path: Path, text: str, said: str
) -> None:
    (tmp_path / "bad.toml").write_text(text)
    with pytest.raises(ConfigError, match=rf"^bad\.toml: .*{said}"):
        load_description(tmp_path / "bad.toml")


def test_the_digest_changes_with_what_is_described() -> None:
    description = describe("debian-12")
    packages = description.packages
    others = [
        replace(description, release="trixie"),
        replace(description, packages=replace(packages, apt=(*packages.apt, "zip"))),
        replace(description, packages=replace(packages, pip=())),
        replace(description, packages=replace(packages, npm=())),
    ]
    assert len({description.digest, *(each.digest for each in others)}) == 5
    assert replace(description).digest == description.digest


def test_a_held_image_stays_as_it_is_when_it_is_replaced(tmp_path: Path) -> None:
    folder = tmp_path / FOLDER
    plant(folder / "debian-12", "old")
    with opened(tmp_path, "debian-12") as held, opened(tmp_path, "debian-12"):
        put(plant(folder / "debian-12.part", "new"), folder / "debian-12")
        assert not (folder / "debian-12.part").exists()
        with opened(tmp_path, "debian-12") as image:
            assert (image.root / "file").read_text() == "new"
        remove_leftovers(folder)
        assert (held.root / "file").read_text() == "old"
        assert [image.name for image in found(tmp_path)] == ["debian-12"]
    remove_leftovers(folder)
    assert [path.name for path in folder.iterdir()] == ["debian-12"]


def test_an_image_that_nobody_holds_goes_when_it_is_replaced(tmp_path: Path) -> None:
    folder = tmp_path / FOLDER
    for text in ("first", "second"):
        put(plant(folder / "debian-12.part", text), folder / "debian-12")
    assert [path.name for path in folder.iterdir()] == ["debian-12"]
    image = find(tmp_path, "debian-12")
    assert image
    assert (image.root / "file").read_text() == "second"


def test_what_was_cut_off_goes_at_the_next_build(tmp_path: Path) -> None:
    folder = tmp_path / FOLDER
    plant(folder / "debian-12.part", "half")
    plant(folder / "debian-12", "whole")
    remove_leftovers(folder)
    assert [path.name for path in folder.iterdir()] == ["debian-12"]


def test_an_image_in_use_outlives_a_build_that_was_cut_off_as_it_put_the_new_one(
    tmp_path: Path,
) -> None:
    folder = tmp_path / FOLDER
    plant(folder / "debian-12", "old")
    with opened(tmp_path, "debian-12") as held:
        (folder / "debian-12").rename(folder / "debian-12.part")  # as the exchange does
        plant(folder / "debian-12", "new")
        remove_leftovers(folder)
        assert (held.root / "file").read_text() == "old"
        assert not (folder / "debian-12.part").exists()
    remove_leftovers(folder)
    assert [path.name for path in folder.iterdir()] == ["debian-12"]


def test_who_renames_the_folder_does_not_choose_where_root_builds(tmp_path: Path) -> None:
    """The data folder may be a normal user's."""
    folder, other = tmp_path / FOLDER, tmp_path / "other"
    other.mkdir()
    mounts = Path("/proc/self/mounts").read_text()
    with held_place(folder) as place:
        folder.rename(tmp_path / "renamed")
        folder.symlink_to(other)
        (place / "ours").write_text("")
        subprocess.run(["touch", place / "theirs"], check=True)  # of a step
    assert {each.name for each in (tmp_path / "renamed").iterdir()} == {"ours", "theirs"}
    assert list(other.iterdir()) == []
    assert not place.exists()
    assert Path("/proc/self/mounts").read_text() == mounts


@pytest.mark.parametrize("given", ["a link", "another's", "everybody's"])
def test_root_does_not_build_where_others_can_write(tmp_path: Path, given: str) -> None:
    folder, other = tmp_path / FOLDER, tmp_path / "other"
    plant(other / "debian-12.part", "precious")
    if given == "a link":
        folder.symlink_to(other)
    else:
        other.rename(folder)
        other = folder
        os.chown(folder, 65534 if given == "another's" else 0, 0)
        folder.chmod(0o755 if given == "another's" else 0o777)
    code, said = occd("--data-dir", tmp_path, "images", "debian-12", "--mirror", "http://[::1]:1/")
    assert (code, said.count("\n")) == (125, 1)
    assert "nobody else can choose what root runs: move it away, or give it to root" in said
    assert str(folder) in said
    assert (other / "debian-12.part/root/file").read_text() == "precious"


@pytest.mark.parametrize("whose", ["another's", "everybody's", "another's within", "a link"])
def test_root_uses_no_image_of_which_others_choose_the_files(tmp_path: Path, whose: str) -> None:
    """The data folder may be a normal user's, who can put anything there by renaming."""
    image = plant(tmp_path / FOLDER / "debian-12", "")
    root = image / "root"
    with opened(tmp_path, "debian-12"):
        pass
    if whose == "a link":
        root.rename(tmp_path / "theirs")
        root.symlink_to(tmp_path / "theirs")
    elif whose == "everybody's":
        image.chmod(0o777)
    else:
        os.chown(root if "within" in whose else image, 65534, 0)
    with (
        pytest.raises(SandboxUnavailable, match="others than root can write"),
        opened(tmp_path, "debian-12"),
    ):
        raise AssertionError("it was opened")
    code, said = occd("--data-dir", tmp_path, "images", "--docker", "--no-build", "debian-12")
    assert (code, said.count("\n")) == (125, 1)
    assert said.endswith("Move it away, and build it, as root: occd images debian-12\n")


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"name": "debian-12"}'])
def test_an_image_without_its_facts_is_none(tmp_path: Path, text: str) -> None:
    """A power cut may leave a file empty."""
    plant(tmp_path / FOLDER / "debian-12", "")
    (tmp_path / FOLDER / "debian-12/image.json").write_text(text)
    assert found(tmp_path) == []
    with pytest.raises(SandboxUnavailable, match="was not built"), opened(tmp_path, "debian-12"):
        pass


def test_facts_that_only_a_later_version_knows_do_not_matter(tmp_path: Path) -> None:
    told = plant(tmp_path / FOLDER / "debian-12", "") / "image.json"
    told.write_text(json.dumps(json.loads(told.read_text()) | {"later": 1}))
    assert [image.name for image in found(tmp_path)] == ["debian-12"]


def test_the_second_of_two_builds_says_so(tmp_path: Path) -> None:
    (tmp_path / FOLDER).mkdir()
    with (tmp_path / FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        code, said = occd(
            "--data-dir", tmp_path, "images", "debian-12", "--mirror", "http://[::1]:1/"
        )
    assert (code, said.count("\n")) == (125, 1)
    assert f"another occd builds in {tmp_path}/images: wait until it has ended" in said


def test_not_to_build_makes_sense_with_docker_alone(tmp_path: Path) -> None:
    code, said = occd("--data-dir", tmp_path / "new", "images", "debian-12", "--no-build")
    told = "images: --no-build gives Docker what was built before: add --docker"
    assert (code, said) == (125, f"occd: {told}\n")
    assert not (tmp_path / "new").exists()


def test_who_builds_nothing_needs_no_right_to_build() -> None:
    code, said = occd("--data-dir", "/nowhere", "images", "--docker", "--no-build", before=NOBODY)
    assert (code, said) == (
        125,
        "occd: the image debian-12 was not built. Build it, as root: occd images debian-12\n",
    )


@pytest.fixture
def everybodys() -> Iterator[Path]:
    """A folder that all users may enter, as pytest's may not be."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.parametrize(
    ("closed", "mode", "named"),
    [
        ("", 0o700, "images"),
        ("images", 0o711, "images"),
        ("images/debian-12/image.json", 0o600, "images/debian-12/image.json"),
    ],
)
def test_images_at_which_this_user_may_not_look_are_told_in_a_line(
    everybodys: Path, closed: str, mode: int, named: str
) -> None:
    """As after `sudo make images` in a fresh clone, whose data folder is root's then."""
    plant(everybodys / FOLDER / "debian-12", "")
    (everybodys / closed).chmod(mode)
    told = f"images: {everybodys}/{named} cannot be read by this user: look as the owner of {everybodys}, or"
    told += " as root"
    code, said = occd("--data-dir", everybodys, "images", "--list", before=NOBODY)
    assert (code, said) == (125, f"occd: {told}\n")
    _, said = occd("--data-dir", everybodys, "doctor", before=NOBODY)
    assert f"weak  {told}\n" in said


def test_only_root_builds() -> None:
    code, said = occd("--data-dir", "/nowhere", "images", "debian-13", before=NOBODY)
    assert (code, said) == (
        125,
        "occd: images: they are built by root: sudo occd images debian-13\n",
    )


def test_an_image_that_is_not_described_is_refused(tmp_path: Path) -> None:
    code, said = occd("--data-dir", tmp_path, "images", "debian-11")
    assert (code, said) == (
        125,
        "occd: images: there is no debian-11; there are debian-12, debian-12-popular, debian-13\n",
    )


def test_a_release_that_debootstrap_does_not_know_is_refused() -> None:
    with pytest.raises(ConfigError, match="debootstrap does not know Debian forky"):
        refuse_what_cannot_begin(replace(describe("debian-13"), release="forky"))


def test_a_source_that_does_not_answer_is_told_with_the_last_words(tmp_path: Path) -> None:
    code, said = occd(
        "--data-dir", tmp_path, "images", "debian-12", "--mirror", "http://[::1]:1/debian"
    )
    assert code == 125
    assert "1/7 Debian bookworm from http://[::1]:1/debian" in said
    assert "\noccd: debian-12: step 1 failed with 1. It said last:\n" in said
    assert "E: " in said
    assert [path.name for path in (tmp_path / FOLDER).iterdir()] == ["lock"]


def test_an_image_that_was_not_built_is_told(tmp_path: Path) -> None:
    with pytest.raises(SandboxUnavailable) as told, opened(tmp_path, "debian-12"):
        pass
    assert str(told.value) == (
        "the image debian-12 was not built. Build it, as root: occd images debian-12"
    )


def test_an_image_that_cannot_be_read_is_not_told_to_be_built(tmp_path: Path) -> None:
    told = plant(tmp_path / FOLDER / "debian-12", "") / "image.json"
    told.unlink()
    told.mkdir()
    with (
        pytest.raises(SandboxUnavailable, match="debian-12 cannot be read: Is a directory"),
        opened(tmp_path, "debian-12"),
    ):
        raise AssertionError("it was opened")


def test_nothing_starts_without_an_image_that_is_named(tmp_path: Path) -> None:
    (tmp_path / "hello.sh").write_text("echo hello")
    for argv in (("run", tmp_path / "hello.sh"), ("--roles", "all", "--listen", "127.0.0.1:0")):
        code, said = occd(*argv, OCCD_SANDBOX__IMAGES="debian-12", OCCD_DATA_DIR=str(tmp_path))
        assert code == 125
        assert said.endswith(
            "the image debian-12 was not built. Build it, as root: occd images debian-12\n"
        )


def test_nothing_starts_with_a_runtime_and_no_engine(tmp_path: Path) -> None:
    """A request for gVisor must not end in nsjail."""
    code, said = occd("--roles", "all", OCCD_SANDBOX__RUNTIME="runsc", OCCD_DATA_DIR=str(tmp_path))
    assert code == 125
    assert "sandbox.runtime: runsc needs sandbox.kind: docker" in said


@pytest.mark.parametrize("given", ["../etc", "Debian", "debian-12,debian-12", "a.part"])
def test_names_that_no_image_has_are_refused(given: str) -> None:
    with pytest.raises(ConfigError, match=r"sandbox\.images"):
        load_config(flags={"sandbox": {"images": given}})
    assert load_config(flags={"sandbox": {"images": "debian-12, b"}}).sandbox.images == (
        "debian-12",
        "b",
    )


def test_the_list_tells_what_was_built_and_what_has_changed(tmp_path: Path) -> None:
    plant(tmp_path / FOLDER / "debian-12", "old")
    plant(tmp_path / FOLDER / "gone", "old", name="gone")
    code, said = occd("--data-dir", tmp_path, "images", "--list")
    first, popular, second, third = said.splitlines()
    assert code == 0
    assert popular == "debian-12-popular not built"
    assert first.startswith("debian-12         Debian bookworm, amd64, 2.0 GB, built ")
    assert first.endswith(" days ago; its description has changed since")
    assert second == "debian-13         not built"
    assert third.startswith("gone ")
    assert third.endswith(" days ago; not described")


def test_all_images_that_were_not_built_are_told_at_once(tmp_path: Path) -> None:
    images = "debian-12,debian-13"
    code, said = occd("--data-dir", tmp_path, "languages", OCCD_SANDBOX__IMAGES=images)
    assert code == 125
    assert said == (
        "occd: the image debian-12 was not built. Build it, as root: occd images debian-12\n"
        "the image debian-13 was not built. Build it, as root: occd images debian-13\n"
    )


def test_doctor_tells_images_and_what_to_do_when_their_description_has_changed(
    tmp_path: Path,
) -> None:
    plant(tmp_path / FOLDER / "debian-12", "", digest=describe("debian-12").digest)
    plant(tmp_path / FOLDER / "debian-13", "", name="debian-13")
    code, said = occd("--data-dir", tmp_path, "doctor")
    assert code == 0
    lines = said.splitlines()
    (fresh,) = [line for line in lines if "image debian-12: " in line]
    (stale,) = [line for line in lines if "image debian-13: " in line]
    assert fresh.startswith("ok    image debian-12: Debian bookworm, amd64, 2.0 GB, built ")
    assert stale.startswith("weak  ")
    assert stale.endswith("its description has changed since")
    remedy = lines[lines.index(stale) + 1]
    assert remedy == "      → Build it anew, as root: occd images debian-13"


async def test_description_that_makes_no_sense_is_one_finding_of_the_doctor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def describe(*_: object) -> None:
        raise ConfigError("debian-12.toml: 'release' is missing")

    monkeypatch.setattr("occd.images.status.describe", describe)
    monkeypatch.setattr("occd.images.docker.behind", describe)
    plant(tmp_path / FOLDER / "debian-12", "")
    sandbox = SandboxConfig(kind="docker", images=("debian-12",))
    config = Config(data_dir=tmp_path, sandbox=sandbox)
    findings = [*doctor._images(tmp_path), *await doctor._docker_images(config)]
    assert [each.text for each in findings] == ["debian-12.toml: 'release' is missing"] * 2
