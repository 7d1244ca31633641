"""Configuration is assembled once, and what cannot work is refused by name."""

from pathlib import Path

import pytest

from occd.config import ROLES, load_config
from occd.errors import ConfigError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config").mkdir()
    return tmp_path / "config"


def test_without_a_folder_everything_has_a_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = load_config()
    assert (config.roles, config.listen) == (ROLES, "127.0.0.1:8000")
    assert config.queue.length_max == 100_000
    assert (config.grace_s, config.results.keep_s) == (10, 86_400)


def test_the_environment_wins_over_files_and_flags_over_both(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "a.yaml").write_text("grace_s: 1\nlisten: a:1\nexecute: {slots: 1}\nnode: file\n")
    monkeypatch.setenv("OCCD_EXECUTE__SLOTS", "2")
    monkeypatch.setenv("OCCD_LISTEN", "b:2")
    config = load_config(flags={"listen": "c:3"})
    assert (config.grace_s, config.listen) == (1, "c:3")
    assert (config.execute.slots, config.node) == (2, "file")


def test_files_of_a_folder_add_up(folder: Path) -> None:
    (folder / "a.yaml").write_text("grace_s: 1\n")
    (folder / "b.yaml").write_text("queue: {length_max: 5}\n")
    (folder / "empty.yaml").write_text("# nothing\n")
    (folder / "notes.txt").write_text("not: [ours")
    config = load_config()
    assert (config.grace_s, config.queue.length_max) == (1, 5)


def test_one_key_in_two_files_is_refused(folder: Path) -> None:
    (folder / "a.yaml").write_text("grace_s: 1\n")
    (folder / "b.yaml").write_text("grace_s: 2\n")
    with pytest.raises(ConfigError, match=r"b\.yaml: grace_s is already set"):
        load_config()


def test_every_fault_is_named_in_one_go(folder: Path) -> None:
    (folder / "a.yaml").write_text("colour: red\nexecute: {slots: 0, slot: 1}\n")
    with pytest.raises(ConfigError) as error:
        load_config()
    for name in ("colour", "execute.slots", "execute.slot"):
        assert f"{name}: " in str(error.value)


@pytest.mark.parametrize("value", ["{", "x"])
def test_a_section_that_is_no_json_in_the_environment_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("OCCD_EXECUTE", value)
    with pytest.raises(ConfigError, match="execute"):
        load_config()


def test_secrets_are_not_shown(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCCD_REDIS__URL", "redis://:secret@host")
    config = load_config()
    assert config.redis
    assert config.redis.url.get_secret_value() == "redis://:secret@host"
    assert "secret" not in f"{config} {config.model_dump(mode='json')}"
    monkeypatch.setenv("OCCD_REDIS__COLOUR", "red")
    with pytest.raises(ConfigError) as error:
        load_config()
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("name", ["cpu_time", "wall_time", "memory", "processes", "output"])
def test_a_ceiling_below_the_default_is_refused(folder: Path, name: str) -> None:
    value = {"memory": 16 * 2**20}.get(name, 1)
    (folder / "a.yaml").write_text(f"ceilings: {{{name}: {value}}}\n")
    with pytest.raises(ConfigError, match=rf"ceilings\.{name}"):
        load_config()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("colour: red", "colour"),
        ("execute: {slot: 3}", "execute.slot"),
        ("execute: {slots: many}", "execute.slots"),
        ("execute: 3", "execute"),
        ("listen: nowhere", "listen"),
        ("ceilings: {memory: 1}", "ceilings.memory"),
        ("- a", "a.yaml"),
        ("a: [", "a.yaml"),
        ("roles: [submit]", "rabbitmq.url"),
        ("roles: [dance]", "roles"),
        ("sandbox: {kind: none}", "sandbox.kind"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(folder: Path, text: str, named: str) -> None:
    (folder / "a.yaml").write_text(text)
    with pytest.raises(ConfigError, match=named.replace(".", r"\.")):
        load_config()


@pytest.mark.parametrize("name", ["OCCD_FOO", "OCCD_FOO__BAR", "OCCD_EXECUTE__SLOT"])
def test_what_is_wrong_in_the_environment_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(ConfigError) as error:
        load_config()
    key = name.removeprefix("OCCD_").replace("__", ".").lower()
    assert f"{name}: unknown" in str(error.value) or f"{key}: unknown" in str(error.value)


RABBITMQ = "rabbitmq: {url: amqp://localhost}\n"
REDIS = "redis: {url: redis://localhost}\n"


@pytest.mark.parametrize(
    ("files", "missing"),
    [
        ("", "rabbitmq.url"),
        (RABBITMQ, "redis.url"),
        (REDIS, "rabbitmq.url"),
        (RABBITMQ + REDIS, "languages"),
    ],
)
def test_split_roles_are_refused_until_they_have_where_to_meet(
    folder: Path, files: str, missing: str
) -> None:
    (folder / "a.yaml").write_text(files)
    with pytest.raises(ConfigError, match=rf"{missing}.* must be set"):
        load_config(flags={"roles": ("submit",)})


def test_split_roles_with_rabbitmq_redis_and_languages_are_taken(folder: Path) -> None:
    (folder / "a.yaml").write_text(RABBITMQ + REDIS + "languages: [python]\n")
    assert load_config(flags={"roles": ("submit", "ws")}).languages == ("python",)


def test_the_customers_file_names_the_queues(folder: Path) -> None:
    (folder / "rabbitmq.yaml").write_text(
        "rabbitmq:\n  url: amqp://guest:guest@localhost:5672/\n"
        "  submission_queue: ours\n  execution_queue: theirs\n"
    )
    config = load_config()
    assert (config.submission_queue, config.execution_queue) == ("ours", "theirs")
