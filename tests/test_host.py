"""Which names the server answers to (`occd/web/host.py`), and that no foreign page gets in by another."""

import re
import socket
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from packaged import PACKAGING, kustomized
from serving import API, PATIENCE_S, Server, serving
from werkzeug.datastructures import Headers

from occd.app import Opened, _introduce
from occd.config import Config, HttpConfig, load_config
from occd.errors import ConfigError, Rejected
from occd.web.host import Hosts


def answers(hosts: Hosts, *given: str) -> bool:
    try:
        hosts.check(Headers([("Host", each) for each in given]), "/")
    except Rejected as error:
        return error.kind != "unknown-host"
    return True


def ours(listen: str = "127.0.0.1:8000", *names: str) -> Hosts:
    return Hosts(Config(listen=listen, http=HttpConfig(hosts=names)))


KNOWN = [
    "127.0.0.1", "127.0.0.1:8000", "127.0.0.1:1", "127.0.0.1:", "10.1.2.3", "192.0.2.1:80", "[::1]",
    "[::1]:8000", "[2001:db8::1]", "[::ffff:10.0.0.1]", "localhost", "LocalHost:8000", "localhost.",
    "localhost.:8000", "a.localhost", "A.B.LOCALHOST.", "occd.example.org", "OCCD.Example.Org.:9000",
    "a.example.net",    "a.b.example.net",
]  # fmt: skip
FOREIGN = [
    "evil.example", "localhost.evil.example", "evil-localhost", "127.0.0.1.evil.example", "0x7f.1",
    "2130706433", "127.1", "example.net", "notexample.net", "x.occd.example.org", "example.org",
    "*.example.net", "*.localhost", "", " ", ":8000", "[::1", "::1", "[::1]x", "[evil]",
    "[1.2.3.4]x", "a@localhost", "localhost/", "localhost,evil", "localhost evil",
    "localhost:8000:1", "localhost:x", "localhost:123456", "http://localhost", "locÄlhost",
    "localhost..", "127.0.0.1#", "127.0.0.1?", "[fe80::1%25eth0]", "1.2.3.4.5", "256.0.0.1",
    "localhost\0", "x" * 255,
]  # fmt: skip


@pytest.mark.parametrize("host", KNOWN)
def test_addresses_loopback_names_and_listed_names_are_answered(host: str) -> None:
    assert answers(ours("127.0.0.1:8000", "occd.example.org", "*.example.net"), host)


@pytest.mark.parametrize("host", FOREIGN)
def test_other_names_and_what_is_no_name_are_not(host: str) -> None:
    assert not answers(ours("127.0.0.1:8000", "occd.example.org", "*.example.net"), host)


def test_no_host_and_two_hosts_are_none_of_ours() -> None:
    assert not answers(ours())
    assert not answers(ours(), "localhost", "localhost")


def test_the_answer_holds_the_line_to_add_and_that_line_works() -> None:
    with pytest.raises(Rejected, match=r"http: \{hosts: \[occd\.example\.org\]\}") as refused:
        ours().check(Headers([("Host", "occd.example.org:8000")]), "/")
    (line,) = re.findall(r"http: .*", str(refused.value))
    section: dict[str, Any] = yaml.safe_load(line)["http"]
    assert answers(ours("127.0.0.1:8000", *section["hosts"]), "occd.example.org:8000")


@pytest.mark.parametrize(
    ("listen", "any_name"),
    [
        ("127.0.0.1:8000", False), ("127.1.2.3:8000", False), ("[::1]:8000", False),
        ("localhost:8000", False), ("occd.localhost:80", False), ("0.0.0.0:8000", True),
        ("[::]:8000", True), ("192.0.2.1:8000", True),
    ],
)  # fmt: skip
def test_beyond_loopback_every_name_is_answered_until_ours_are_listed(
    listen: str, any_name: bool
) -> None:
    assert answers(ours(listen), "evil.example") == any_name == ours(listen).any
    listed = ours(listen, "occd.example.org")
    assert not listed.any
    assert answers(listed, "occd.example.org")
    assert not answers(listed, "evil.example")


def test_the_name_in_the_public_address_is_ours_and_counts_as_listed() -> None:
    http = HttpConfig(public_url="https://Code.example.org:8443/at/a/path/")
    found = Hosts(Config(listen="0.0.0.0:8000", http=http))
    assert not found.any
    assert answers(found, "code.example.org:8443")
    assert answers(found, "192.0.2.1")
    assert not answers(found, "evil.example")
    assert not answers(found, "x.code.example.org")


def test_a_name_to_listen_on_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    loopback = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.1.1", 0))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: loopback)
    hosts = ours("Box:8000")
    assert answers(hosts, "box:8000")
    assert not answers(hosts, "evil.example")


@pytest.mark.parametrize(
    ("hosts", "said"), [((), ["hosts: every name"]), (("occd.example.org",), [])]
)
def test_one_line_at_the_start_says_that_every_name_is_answered(
    capsys: pytest.CaptureFixture[str], hosts: tuple[str, ...], said: list[str]
) -> None:
    nothing: Any = None
    config = Config(listen="0.0.0.0:8000", http=HttpConfig(hosts=hosts))
    _introduce(config, ["0.0.0.0:8000"], Opened(nothing, nothing, {}))
    assert re.findall("hosts: every name", capsys.readouterr().out) == said


@pytest.mark.parametrize(
    ("listen", "accounts", "said"),
    [
        ("0.0.0.0:8000", None, 1),
        ("127.0.0.1:8000", None, 0),
        ("0.0.0.0:8000", {"anonymous": "refuse", "default_class": "a", "classes": {"a": {}}}, 0),
    ],
)
def test_one_line_at_the_start_says_that_everybody_may_run_programs(
    capsys: pytest.CaptureFixture[str], listen: str, accounts: dict[str, Any] | None, said: int
) -> None:
    nothing: Any = None
    config = Config.model_validate({"listen": listen, "accounts": accounts})
    _introduce(config, [listen], Opened(nothing, nothing, {}))
    assert capsys.readouterr().out.count("everybody who reaches this port") == said


@pytest.mark.parametrize(
    "name",
    [
        "https://occd.example.org",
        "a:80",
        "a/b",
        "",
        "*",
        "*.",
        "a b",
        "ä.example",
        "x" * 300,
        "-a",
        ".",
    ],
)
def test_a_setting_that_is_no_name_is_refused_with_what_to_write(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("OCCD_HTTP__HOSTS", f'["ok.example", "{name}"]')
    with pytest.raises(ConfigError, match=r"OCCD_HTTP__HOSTS.*write occd\.example\.org"):
        load_config()


def test_the_setting_is_a_list_in_the_environment_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCCD_HTTP__HOSTS", '["OCCD.example.org.", "*.example.net"]')
    assert load_config().http.hosts == ("occd.example.org", "*.example.net")


# A server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(
        tmp_path_factory.mktemp("host") / "data", http__hosts='["ours.example"]'
    ) as server:
        yield server


UPGRADE = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


def said(server: Server, head: bytes, body: bytes = b"") -> tuple[int, bytes]:
    """The status and the rest of what the server answers to these bytes."""
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE_S) as client:
        client.sendall(head + b"Connection: close\r\n" * (b"Upgrade:" not in head) + b"\r\n" + body)
        answer = client.recv(65_536)
        while not answer.startswith(b"HTTP/1.1 101") and (more := client.recv(65_536)):
            answer += more
    return int(answer.split()[1]), answer


@pytest.mark.parametrize(
    "path", ["/", f"{API}/languages", f"{API}/submissions", "/static/x", "/none", "/healthz/"]
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE", "OPTIONS"])
def test_a_foreign_name_gets_421_whatever_it_asks(server: Server, method: str, path: str) -> None:
    head = f"{method} {path} HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 2\r\n".encode()
    status, answer = said(server, head, b"{}")
    assert status == 421
    assert b"unknown-host" in answer or method == "HEAD"


def test_a_page_that_rebinds_its_name_can_neither_submit_nor_follow(server: Server) -> None:
    """Its Origin and the Host are the same, so that only the name tells."""
    rebound = b"Host: evil.example\r\nOrigin: http://evil.example\r\n"
    body = b'{"language": "python", "source": "print(1)"}'
    post = f"POST {API}/submissions HTTP/1.1\r\nContent-Length: {len(body)}\r\n".encode()
    assert said(server, post + rebound, body)[0] == 421
    follow = f"GET {API}/ws HTTP/1.1\r\n".encode() + UPGRADE
    status, answer = said(server, follow + rebound)
    assert (status, b"hosts: [evil.example]" in answer) == (421, True)
    assert said(server, follow + b"Host: ours.example\r\nOrigin: http://ours.example\r\n")[0] == 101


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_supervisors_may_use_any_name(server: Server, path: str) -> None:
    assert said(server, f"GET {path} HTTP/1.1\r\nHost: evil.example\r\n".encode())[0] == 200


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"HTTP/1.1\r\nHost: ours.example:1\r\n", 200),
        (b"HTTP/1.1\r\nHost: 127.0.0.1\r\n", 200),
        (b"HTTP/1.0\r\nHost: OURS.example.\r\n", 200),
        (b"HTTP/1.1\r\n", 400),
        (b"HTTP/1.0\r\n", 421),
        (b"HTTP/1.1\r\nHost:\r\n", 421),
        (b"HTTP/1.1\r\nHost: ours.example\r\nHost: evil.example\r\n", 400),
        (b"HTTP/1.0\r\nHost: ours.example\r\nhost: ours.example\r\n", 400),
        (b"HTTP/1.1\r\nHost: ours.example, evil.example\r\n", 421),
        (b"HTTP/1.1\r\nHost: evil.example\r\nX-Forwarded-Host: ours.example\r\n", 421),
        (b"HTTP/1.1\r\nHost: evil.example\r\nForwarded: host=ours.example\r\n", 421),
    ],
)
def test_the_one_host_header_decides(server: Server, head: bytes, status: int) -> None:
    assert said(server, b"GET /api/v1/limits " + head)[0] == status


@pytest.mark.parametrize(
    ("target", "host", "status"),
    [
        (b"http://ours.example", b"ours.example", 200),
        (b"http://evil.example", b"ours.example", 421),
        (b"http://ours.example", b"evil.example", 421),
        (b"https://evil.example:80", b"localhost", 421),
        (b"http://a@ours.example", b"ours.example", 421),
        (b"http://", b"ours.example", 421),
    ],
)
def test_a_name_in_the_request_line_counts_too(
    server: Server, target: bytes, host: bytes, status: int
) -> None:
    head = b"GET %s/api/v1/limits HTTP/1.1\r\nHost: %s\r\n" % (target, host)
    assert said(server, head)[0] == status


@pytest.mark.parametrize(
    "origin", [b"http://[", b"http://", b"//", b"x", b"http://ours.example:x", b"null", b"\xff"]
)
def test_an_origin_that_is_none_is_foreign(server: Server, origin: bytes) -> None:
    head = (
        b"POST /api/v1/submissions HTTP/1.1\r\nHost: ours.example\r\nContent-Length: 0\r\nOrigin: "
    )
    assert said(server, head + origin + b"\r\n")[0] == 403


# What packaging sets


def test_what_packaging_publishes_is_answered_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OCCD_LISTEN", "0.0.0.0:8000")
    composed = Hosts(load_config(PACKAGING / "compose"))
    assert [answers(composed, each) for each in ("127.0.0.1:8000", "localhost:8000", "evil.example")] == [
        True, True, False,
    ]  # fmt: skip
    assert "proxy_set_header Host $http_host;" in (PACKAGING / "compose/nginx.conf").read_text()


def test_the_ingress_of_kubernetes_leads_to_a_name_that_is_answered() -> None:
    objects = kustomized("base")
    (ingress,) = [each for each in objects if each["kind"] == "Ingress"]
    (settings,) = [each["data"]["occd.yaml"] for each in objects if each["kind"] == "ConfigMap"]
    hosts = Hosts(
        Config(listen="0.0.0.0:8000", http=HttpConfig(**yaml.safe_load(settings)["http"]))
    )
    for rule in ingress["spec"]["rules"]:
        assert answers(hosts, rule["host"])
    assert not answers(hosts, "evil.example")
