"""Configuration is assembled once, and what cannot work is refused by name."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
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


def test_output_is_as_long_as_it_likes_since_answers_do_not_hold_it(folder: Path) -> None:
    (folder / "a.yaml").write_text(f"ceilings: {{output: {2**30}}}\n")
    assert load_config().ceilings.output == 2**30


@pytest.mark.parametrize("name", ["held_bytes", "held_client_bytes", "held_connection_bytes"])
@pytest.mark.parametrize(
    ("body", "artifact", "enough"),
    [(16, 8, 65), (1, 40, 41), (1, 1, 9)],
)
def test_memory_for_clients_holds_the_largest_request_artifact_and_answer(
    folder: Path, name: str, body: int, artifact: int, enough: int
) -> None:
    for size in (enough, enough - 1):
        (folder / "a.yaml").write_text(
            f"http: {{body_max_bytes: {body * 2**20}, {name}: {size * 2**20}}}\n"
            f"artifacts: {{file_bytes: {artifact * 2**20}}}\n"
        )
        if size == enough:
            load_config()
    with pytest.raises(ConfigError, match=name):
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
        ("trusted_proxies: [10.0.0.1/8]", "trusted_proxies"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(folder: Path, text: str, named: str) -> None:
    (folder / "a.yaml").write_text(text)
    with pytest.raises(ConfigError, match=named.replace(".", r"\.")):
        load_config()


A_KEY = f"occd_{'A' * 43}"
LISTED = f"{{id: k1, owner: moodle, class: all, sha256: '{'a' * 64}'}}"


@pytest.mark.parametrize(
    ("part", "named"),
    {
        "an unknown class": ("default_class: lab", "default_class: there is no class 'lab'"),
        "an unknown class of strangers": (
            "anonymous: {class: lab}",
            "anonymous: there is no class",
        ),
        "an unknown class of a network": ("networks: {10.1.0.0/16: lab}", "networks: 10.1.0.0/16"),
        "no network": ("networks: {10.1.2.0/33: all}", "'10.1.2.0/33' is not a network"),
        "an unknown class of a key": (
            "keys: [{}]".format(LISTED.replace("all", "lab")),
            "keys: k1",
        ),
        "an id twice": (
            f"keys: [{LISTED}, {LISTED.replace('a' * 64, 'b' * 64)}]",
            "id k1 is there",
        ),
        "a key twice": (f"keys: [{LISTED}, {LISTED.replace('k1', 'k2')}]", "sha256 a+ is there"),
        "no digest": (
            "keys: [{}]".format(LISTED.replace("a" * 64, "zz")),
            r"keys \(number 1\)\.sha256: expected the 64",
        ),
        "no owner": (
            "keys: [{}]".format(LISTED.replace("moodle", "a b")),
            r"keys \(number 1\)\.owner: 'a b' is not",
        ),
        "no scope": (
            "keys: [{}]".format(LISTED.replace("id:", "scopes: [fly], id:")),
            r"keys \(number 1\)\.scopes: must",
        ),
        "a scope as text": (
            "keys: [{}]".format(LISTED.replace("id:", "scopes: run, id:")),
            r"scopes: expected a list",
        ),
        "scopes of nothing": (
            "keys: [{}]".format(LISTED.replace("id:", "scopes: [], id:")),
            "scopes: must have at least 1 entry",
        ),
        "one key of several": (
            f"keys: [{LISTED}, {LISTED.replace('a' * 64, 'zz').replace('k1', 'k2')}]",
            r"keys \(number 2\)\.sha256",
        ),
        "an address with a length": (
            "networks: {10.1.2.3/8: all}",
            r"'10\.1\.2\.3/8' is not a network, but an address in one: write 10\.0\.0\.0/8",
        ),
        "a quota of no end": (
            f"classes: {{all: {{unfinished: {10**30}}}}}",
            "unfinished: must be at most 999999999999999",
        ),
        "a quota of nothing": (
            "classes: {all: {cpu_seconds_per_hour: 1.0e-300}}",
            "per_hour: must be at least 1",
        ),
        "nothing at all": ("classes: {}", "in classes, which has none"),
        "a name that is a number": ("classes: {all: {}, 7: {}}", "7 is no name .* in quotes"),
        "a negative quota": ("classes: {all: {unfinished: -1}}", "classes.all.unfinished: must be"),
        "half a run": ("classes: {all: {runs_per_minute: 1.5}}", "all.runs_per_minute: expected a"),
        "more runs than a header can tell": (
            "classes: {all: {runs_per_minute: 1000000000000000}}",
            "all.runs_per_minute: must be at most 999999999999999",
        ),
        "more bytes than the store can count": (
            f"classes: {{all: {{stored_bytes: {10**30}}}}}",
            "all.stored_bytes: must be at most",
        ),
        "a debt that is never paid": (
            "classes: {all: {cpu_seconds_per_hour: 1.0e-300}}",
            "all.cpu_seconds_per_hour: must be at least 1",
        ),
        "a truth": (
            "classes: {all: {cpu_seconds_per_day: yes}}",
            "cpu_seconds_per_day: expected a",
        ),
        "a quota of another name": ("classes: {all: {runs: 1}}", "classes.all.runs: unknown"),
        "no name": ("classes: {all: {}, 'ä': {}}", "classes.ä: 'ä' is not a name"),
        "strangers of no class": ("anonymous: allow", "anonymous: expected refuse, or a class"),
        "a ceiling of nothing": (
            "classes: {all: {ceilings: {cpu_time: 0}}}",
            "cpu_time: must be above",
        ),
    }.values(),
)
def test_what_is_wrong_with_accounts_is_one_clear_line(folder: Path, part: str, named: str) -> None:
    parts = {"anonymous": "refuse", "default_class": "all", "classes": "{all: {}}"}
    name, _, value = part.partition(": ")
    lines = [f"  {key}: {text}" for key, text in (parts | {name: value}).items()]
    (folder / "accounts.yaml").write_text("\n".join(["accounts:", *lines]))
    with pytest.raises(ConfigError, match=named) as error:
        load_config()
    assert len(str(error.value).splitlines()) == 1
    assert not any(word in str(error.value) for word in PYTHONS)


@pytest.mark.parametrize(
    ("network", "proxy", "fits"),
    [
        ("10.1.0.0/16", "10.0.0.0/8", False),
        ("10.1.0.0/16", "10.1.0.0/16", False),
        ("2001:db8:1::/48", "2001:db8::/32", False),
        ("10.1.0.0/16", "10.1.0.5/32", True),  # its only proxy
        ("10.1.0.0/16", "10.2.0.0/16", True),
        ("10.1.0.0/16", "::/0", True),
    ],
)
def test_clients_of_a_network_are_no_proxies(
    folder: Path, network: str, proxy: str, fits: bool
) -> None:
    """They could say any address."""
    (folder / "accounts.yaml").write_text(
        "accounts: {anonymous: refuse, default_class: all, classes: {all: {}}, "
        f"networks: {{'{network}': all}}}}\ntrusted_proxies: ['{proxy}']\n"
    )
    if fits:
        load_config()
        return
    with pytest.raises(ConfigError, match="is within trusted_proxies"):
        load_config()


@pytest.mark.parametrize(
    ("found", "instead", "named"),
    [
        ("a" * 64, A_KEY, "sha256: this is the key itself"),
        ("k1", A_KEY, "id: 'occd_…' is not a name: must be a name, not a key"),
        ("moodle", A_KEY, "owner: 'occd_…' is not a name: must be a name, not a key"),
        ("class: all", f"class: {A_KEY}", "there is no class 'occd_…'"),
        (LISTED, A_KEY, "accounts.keys: expected keys with values"),
        ("{id", f"{{{A_KEY}: 1, id", "occd_…: unknown setting"),
        ("{id", f"{{{A_KEY}: 1, {A_KEY}: 1, id", "occd_… is set twice"),
    ],
)
def test_a_key_in_a_wrong_place_is_not_repeated(
    folder: Path, found: str, instead: str, named: str
) -> None:
    listed = LISTED.replace(found, instead)
    (folder / "accounts.yaml").write_text(
        f"accounts: {{anonymous: refuse, default_class: all, classes: {{all: {{}}}}, keys: [{listed}]}}"
    )
    with pytest.raises(ConfigError) as error:
        load_config()
    assert named in str(error.value)
    assert A_KEY not in str(error.value)


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("  b: 1", "line 3: this line does not fit"),
        (" b: 1", "line 3: this line does not fit"),
        ("\tb: 1", "line 3: a tab"),
        ("    b: 1: 2", "line 3: a second colon in one line"),
        ("    b:1\n    c: 2", "line 4: a key without a colon"),
    ],
)
def test_a_slip_of_yaml_is_told_in_words(folder: Path, line: str, named: str) -> None:
    (folder / "a.yaml").write_text(f"execute:\n    slots: 1\n{line}\n")
    with pytest.raises(ConfigError) as error:
        load_config()
    assert named in str(error.value)
    assert "<" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "accounts.yaml: is empty"),
        ("\ufeff \n", "accounts.yaml: is empty"),
        ("accounts:\n", "accounts.yaml: accounts: has nothing in it"),
        ("accounts:\n  # anonymous: refuse\n", "accounts.yaml: accounts: has nothing in it"),
    ],
)
def test_accounts_that_became_empty_do_not_open_the_server(
    folder: Path, text: str, named: str
) -> None:
    (folder / "accounts.yaml").write_text(text)
    with pytest.raises(ConfigError) as error:
        load_config()
    assert named in str(error.value)


def test_a_setting_of_the_environment_can_be_null(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCCD_METRICS__LISTEN", "null")
    assert load_config().metrics.listen is None


def test_a_byte_order_mark_and_other_ends_of_lines_are_taken(folder: Path) -> None:
    (folder / "a.yaml").write_bytes(b"\xef\xbb\xbfexecute:\r\n  slots: 3\r\n")
    assert load_config().execute.slots == 3


@pytest.mark.parametrize(
    ("oidc", "site", "named"),
    [
        ({}, None, "http.public_url must be set for accounts.oidc"),
        ({}, "http://code.example.org", "http.public_url must begin with https:// for accounts"),
        (
            {"issuer": "login.example.org"},
            "https://a",
            "issuer: 'login.example.org' is not an issuer",
        ),
        ({"issuer": "http://login.example.org"}, "https://a", "must begin with https://"),
        ({"issuer": "https://a/?x"}, "https://a", "without ? and #"),
        ({"issuer": "https://a/#x"}, "https://a", "without ? and #"),
        ({"scopes": ["a b"]}, "https://a", "oidc.scopes: must look like"),
        ({"class_of": {"staff": "other"}}, "https://a", "there is no class 'other'"),
    ],
)
def test_what_is_wrong_with_a_sign_in_is_one_clear_line(
    folder: Path, oidc: dict[str, object], site: str | None, named: str
) -> None:
    settings = {"issuer": "https://login.example.org", "client_id": "occd"} | oidc
    accounts = {"anonymous": "refuse", "default_class": "all", "classes": {"all": {}}}
    given = {"accounts": accounts | {"oidc": settings}, "http": {"public_url": site}}
    (folder / "accounts.yaml").write_text(json.dumps(given))
    with pytest.raises(ConfigError) as error:
        load_config()
    assert named in str(error.value)
    assert len(str(error.value).splitlines()) == 1
    assert not any(word in str(error.value) for word in PYTHONS)


@pytest.mark.parametrize("site", ["http://127.0.0.1:8000", "http://[::1]", "http://x.localhost"])
def test_a_sign_in_on_this_machine_needs_no_https(folder: Path, site: str) -> None:
    oidc = {"issuer": "http://localhost:9000", "client_id": "occd"}
    accounts = {"anonymous": "refuse", "default_class": "all", "classes": {"all": {}}}
    given = {"accounts": accounts | {"oidc": oidc}, "http": {"public_url": site}}
    (folder / "accounts.yaml").write_text(json.dumps(given))
    assert load_config().http.public_origin == site


def test_a_public_address_may_have_a_path(folder: Path) -> None:
    (folder / "http.yaml").write_text("http: {public_url: 'https://Example.org/code/'}")
    http = load_config().http
    assert (http.public_origin, http.public_path) == ("https://example.org", "/code")


@pytest.mark.parametrize("name", ["OCCD_FOO", "OCCD_FOO__BAR", "OCCD_EXECUTE__SLOT"])
def test_what_is_wrong_in_the_environment_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(ConfigError) as error:
        load_config()
    key = name.removeprefix("OCCD_").replace("__", ".").lower()
    assert f"{name}: unknown" in str(error.value) or f"{key}: unknown" in str(error.value)


PYTHONS = (
    "Source",
    "tuple",
    "dictionary",
    "instance",
    "Input should",
    "codec",
    "Errno",
    "Traceback",
)
"""Words of Python and of its libraries, which no operator needs to know."""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("grace_s: 1\nlisten: a:1\ngrace_s: 2", "{file}: line 3: grace_s is set twice"),
        ("execute: {slots: 1, slots: 2}", "{file}: line 1: slots is set twice"),
        ("1: 2", "{file}: line 1: 1 is no name of a setting"),
        ("true: 2", "{file}: line 1: true is no name of a setting"),
        ("? [a]\n: 1", "{file}: line 1: this is no name of a setting"),
        ("grace_s: 1\n\tlisten: a:1", "{file}: line 2: a tab where only spaces are allowed"),
        ("grace_s: \udcff", "{file}: is not UTF-8 text"),
        ("[a]", "{file}: expected keys with values"),
        ("just words", "{file}: expected keys with values"),
        ("a: [", "{file}: line 1: "),
        ("!!python/object:os.system {}", "{file}: line 1: "),
        ("[" * 5000, "{file}: is nested too deeply"),
        ("execute: [1]", "{file}: execute: expected keys with values"),
        ("execute: 3", "{file}: execute: expected keys with values"),
        ("roles: 5", "{file}: roles: expected a list"),
        ("roles: [dance]", "{file}: roles: must be all, or some of submit, execute"),
        ("roles: []", "{file}: roles: must be all, or some of"),
        ("http: {origins: '*'}", "{file}: http.origins: '*' is not an origin: write https://"),
        ("http: {origins: a.example}", "{file}: http.origins: 'a.example' is not an origin"),
        ("http: {origins: ['https://a/']}", "{file}: http.origins: 'https://a/' is not an origin"),
        ("http: {origins: ['https://a:443']}", "{file}: http.origins: 'https://a:443' is not"),
        ("http: {public_url: code.example}", "{file}: http.public_url: 'code.example' is not the"),
        (
            "http: {public_url: 'ftp://a/'}",
            "{file}: http.public_url: 'ftp://a/' is not the address",
        ),
        (
            "http: {public_url: 'https://a/?x'}",
            "{file}: http.public_url: 'https://a/?x' is not the",
        ),
        ("http: {public_url: 'https://a:443'}", "{file}: http.public_url: 'https://a:443' is not"),
        ("http: {public_url: 'https://x@a/'}", "{file}: http.public_url: 'https://x@a' is not"),
        ("execute: {slots: many}", "{file}: execute.slots: expected a whole number"),
        ("execute: {slots: 1.5}", "{file}: execute.slots: expected a whole number"),
        ("execute: {slots: 0}", "{file}: execute.slots: must be at least 1"),
        ("execute: {slots: }", "{file}: execute.slots: expected a whole number"),
        ("grace_s: yes", "{file}: grace_s: expected a number, not yes or no"),
        ("grace_s: .inf", "{file}: grace_s: expected a number that is not infinite"),
        ("listen: nowhere", "{file}: listen: expected HOST:PORT"),
        ("listen: a:99999", "{file}: listen: expected HOST:PORT"),
        ("listen: 8000", "{file}: listen: expected text"),
        ("node: ''", "{file}: node: must have at least 1 character"),
        ("rabbitmq: {}", "{file}: rabbitmq.url: must be set"),
        ("rabbitmq: {url: amqp://x, lanes: 65}", "{file}: rabbitmq.lanes: must be at most 64"),
        ("redis: {url: redis://x, prefix: a b}", "{file}: redis.prefix: must look like"),
    ],
)
@pytest.mark.parametrize("name", ["a.yaml", "a.yml"])
def test_each_mistake_in_a_file_is_one_line_with_file_key_and_remedy(
    folder: Path, name: str, text: str, said: str
) -> None:
    (folder / name).write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ConfigError) as error:
        load_config()
    line = str(error.value)
    assert line.startswith(said.format(file=f"config/{name}")), line
    assert "\n" not in line
    assert not [word for word in PYTHONS if word in line]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("OCCD_EXECUTE", "x", "OCCD_EXECUTE: expected keys with values"),
        ("OCCD_EXECUTE", "{", "OCCD_EXECUTE: expected keys with values"),
        ("OCCD_EXECUTE", '{"slots": 0}', "OCCD_EXECUTE: execute.slots: must be at least 1"),
        ("OCCD_EXECUTE", '{"slots": 1, "slots": 2}', "OCCD_EXECUTE: slots is set twice"),
        ("OCCD_EXECUTE__SLOTS", "many", "OCCD_EXECUTE__SLOTS: expected a whole number"),
        ("OCCD_EXECUTE__SLOTS__X", "1", "OCCD_EXECUTE__SLOTS__X: expected a whole"),
        ("OCCD_GRACE_S", "", "OCCD_GRACE_S: expected a number"),
        ("OCCD_ROLES", "dance", "OCCD_ROLES: must be "),
        ("OCCD_FOO__BAR", "1", "OCCD_FOO__BAR: unknown setting"),
        ("OCCD_", "1", "OCCD_: unknown setting"),
        ("occd_colour", "red", "occd_colour: unknown setting"),
    ],
)
def test_each_mistake_in_the_environment_is_one_line_that_names_the_variable(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as error:
        load_config()
    line = str(error.value)
    assert line.startswith(said), line
    assert not [word for word in PYTHONS if word in line]


OPEN = "anonymous: refuse, default_class: all"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sandbox: {kin: docker}", "sandbox.kin: unknown setting; did you mean sandbox.kind?"),
        ("kind: docker", "kind: unknown setting; did you mean sandbox.kind?"),
        ("sandbox.kind: docker", "sandbox.kind: unknown setting; write `sandbox: {kind: …}`"),
        ("log_level: debug", "log_level: unknown setting; did you mean log.level?"),
        ("data-dir: x", "data-dir: unknown setting; did you mean data_dir?"),
        (
            "log: {colour: 1}",
            "log.colour: unknown setting; the settings of log are format, level",
        ),
        (
            f"accounts: {{{OPEN}, classes: {{all: {{unfinishd: 1}}}}}}",
            "accounts.classes.all.unfinishd: unknown setting; did you mean accounts.classes.all.unfinished?",
        ),
        (
            f"accounts: {{{OPEN}, classes: {{ceilings: {{traze: 1}}}}}}",
            "accounts.classes.ceilings.traze: unknown setting; did you mean accounts.classes.ceilings.trace?",
        ),
    ],
)
def test_an_unknown_setting_names_those_that_there_are(folder: Path, text: str, said: str) -> None:
    (folder / "a.yaml").write_text(text)
    with pytest.raises(ConfigError) as error:
        load_config()
    assert str(error.value) == f"config/a.yaml: {said}"


@pytest.mark.parametrize("name", ["[key]", "sandbox: {'[key]'"])
def test_a_setting_that_is_called_as_pydantic_calls_a_key_is_unknown_as_any_other(
    folder: Path, name: str
) -> None:
    (folder / "a.yaml").write_text("'[key]': 1" if name == "[key]" else f"{name}: 1}}")
    with pytest.raises(ConfigError, match=r"\[key\]: unknown setting; the settings "):
        load_config()


def test_a_key_in_place_of_a_name_is_not_repeated_among_the_settings(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    classes = f"classes: {{all: {{}}, {A_KEY}: {{colour: 1}}}}"
    (folder / "a.yaml").write_text(
        f"accounts: {{anonymous: refuse, default_class: all, {classes}}}"
    )
    with pytest.raises(
        ConfigError, match=r"the settings of accounts\.classes\.occd_… are "
    ) as error:
        load_config()
    assert A_KEY not in str(error.value)
    (folder / "a.yaml").unlink()
    monkeypatch.setenv(f"OCCD_ACCOUNTS__CLASSES__{A_KEY}__COLOUR", "1")
    with pytest.raises(ConfigError) as error:
        load_config()
    *_, listed = str(error.value).split("the settings are ")
    assert listed.startswith("OCCD_ACCOUNTS__CLASSES__OCCD_…__UNFINISHED, ")


def test_the_settings_of_a_section_are_listed_once(folder: Path) -> None:
    (folder / "a.yaml").write_text("log: {colour: 1, hue: 2}")
    with pytest.raises(ConfigError) as error:
        load_config()
    first, second = str(error.value).splitlines()
    assert first.endswith("log.colour: unknown setting; the settings of log are format, level")
    assert second.endswith("log.hue: unknown setting")


def test_of_an_unknown_setting_nobody_reads_more_than_a_screen(folder: Path) -> None:
    (folder / "a.yaml").write_text(f"? {'x' * 100_000}\n: 1")
    with pytest.raises(ConfigError) as error:
        load_config()
    said = str(error.value)
    assert (
        f"{'x' * 100}…: unknown setting; the settings are roles, listen, data_dir, node, " in said
    )
    assert "config_dir" not in said  # which only a flag says
    assert len(said) < 500


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("OCCD_SANDBOX__KIN", "did you mean OCCD_SANDBOX__KIND?"),
        ("OCCD_SANDBOX_KIND", "did you mean OCCD_SANDBOX__KIND?"),
        ("OCCD_SANDBOXX__KIND", "did you mean OCCD_SANDBOX__KIND?"),
        ("occd_images", "did you mean OCCD_SANDBOX__IMAGES?"),
        (
            "OCCD_EXECUTE__COLOUR",
            "the settings are OCCD_EXECUTE__SLOTS, OCCD_EXECUTE__INTERACTIVE, OCCD_EXECUTE__MEMORY_USED_MAX",
        ),
    ],
)
def test_an_unknown_variable_names_those_that_there_are(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, said: str
) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(ConfigError) as error:
        load_config()
    assert str(error.value) == f"{name}: unknown setting; {said}"


def test_one_setting_under_two_names_in_the_environment_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCCD_EXECUTE__SLOTS", "1")
    monkeypatch.setenv("occd_execute__slots", "2")
    with pytest.raises(ConfigError) as error:
        load_config()
    said = "occd_execute__slots: is set as OCCD_EXECUTE__SLOTS, too; keep one of them"
    assert str(error.value) == said


def test_a_list_in_the_environment_is_written_with_commas_or_as_json(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCCD_LANGUAGES", "python, java")
    monkeypatch.setenv("OCCD_HTTP__ORIGINS", '["https://A.example", "https://b.example"]')
    monkeypatch.setenv("OCCD_LISTEN", "[::1]:8000")
    config = load_config()
    assert config.languages == ("python", "java")
    assert config.http.origins == ("https://a.example", "https://b.example")
    assert config.listen == "[::1]:8000"


def test_files_that_end_in_yml_are_read_too(folder: Path) -> None:
    (folder / "a.yml").write_text("grace_s: 1\n")
    (folder / "b.yaml").write_text("execute:\n#  slots: 3\n")  # an empty section is none
    assert load_config().grace_s == 1
    (folder / "a.yaml").write_text("grace_s: 1\n")
    with pytest.raises(ConfigError, match=r"a\.yml: grace_s is already set in config/a\.yaml"):
        load_config()


@contextmanager
def as_nobody() -> Iterator[None]:
    """Whom modes of files bind, as they do not bind root."""
    if os.geteuid() == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        if os.getuid() == 0:
            os.seteuid(0)


def test_a_folder_that_cannot_be_read_is_named(folder: Path) -> None:
    folder.parent.chmod(0o755)
    folder.chmod(0)
    with as_nobody(), pytest.raises(ConfigError, match=r"^config: cannot be read: Permission"):
        load_config()
    folder.chmod(0o700)


def test_in_a_folder_of_another_user_it_says_what_to_do(folder: Path, tmp_path: Path) -> None:
    """As `sudo -u occd occd …` in root's home. No configuration is not what may be there."""
    tmp_path.chmod(0)
    with as_nobody(), pytest.raises(ConfigError, match=r"\./config: .* --config, .* \(cd /\)$"):
        load_config()
    with as_nobody():
        assert load_config(Path("/")).config_dir == Path("/")
    tmp_path.chmod(0o700)


def test_files_that_cannot_be_read_are_named(folder: Path) -> None:
    (folder / "a.yaml").mkdir()
    with pytest.raises(ConfigError, match=r"config/a\.yaml: cannot be read: Is a directory"):
        load_config()
    (folder / "a.yaml").rmdir()
    (folder / "a.yaml").symlink_to("/nowhere")
    with pytest.raises(ConfigError, match=r"config/a\.yaml: cannot be read: No such file"):
        load_config()
    (folder / "a.yaml").unlink()
    folder.rmdir()
    folder.write_text("grace_s: 1\n")
    with pytest.raises(ConfigError, match="config: cannot be read: Not a directory"):
        load_config()


RABBITMQ = "rabbitmq: {url: amqp://localhost}\n"
REDIS = "redis: {url: redis://localhost}\n"


@pytest.mark.parametrize(
    ("files", "missing"),
    [
        ("grace_s: 1", "rabbitmq.url"),
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
