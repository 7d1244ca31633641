"""What docs/operating.md shows of nginx works: occd below a path of a site, with accounts."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from http.client import HTTPConnection

import pytest
from pages import Page
from redis_server import free_port
from serving import API, PATIENCE_S, Server, serving

SITE = """\
daemon off; pid {folder}/pid; error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    {map}
    server {{
        listen 127.0.0.1:{port};
        {location}
    }}
}}
"""
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "MDEyMzQ1Njc4OWFiY2RlZg==",
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """As a server to be asked; occd is below /code."""
    program = shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin")
    assert program, "nginx is missing; to have it: apt-get install nginx-light"
    folder, port = tmp_path_factory.mktemp("site"), free_port()
    accounts = {
        "anonymous": {"class": "strangers"},
        "networks": {"127.0.0.2": "neighbours"},
        "default_class": "strangers",
        "classes": {"strangers": {}, "neighbours": {}},
    }
    with serving(
        folder / "data",
        accounts=json.dumps(accounts),
        http__public_url=f"http://localhost:{port}/code",
        trusted_proxies="127.0.0.1",
    ) as server:
        (location,) = Page("operating.md").blocks("nginx")
        _, _, mapping = location.partition("# in http: ")
        text = SITE.format(
            folder=folder,
            port=port,
            map=mapping.splitlines()[0],
            location=location.replace("127.0.0.1:8000", f"127.0.0.1:{server.port}"),
        )
        (folder / "nginx.conf").write_text(text)
        process = subprocess.Popen([program, "-c", str(folder / "nginx.conf"), "-p", str(folder)])
        try:
            deadline = time.monotonic() + PATIENCE_S
            while not (folder / "pid").exists():
                assert process.poll() is None, text
                assert time.monotonic() < deadline
                time.sleep(0.02)
            yield replace(server, port=port)
        finally:
            process.terminate()
            process.wait()


def test_page_and_calls_stand_below_the_path(site: Server) -> None:
    host = {"host": f"localhost:{site.port}"}
    assert site.get("/code/", **host).status == 200
    body = json.dumps({"language": "python", "source": "print(6 * 7)"}).encode()
    address = f"/code{API}/submissions?wait={PATIENCE_S}"
    result = site.request("POST", address, body, origin=f"http://{host['host']}", **host)
    assert result.json()["run"]["stdout"] == "42\n"


def test_a_websocket_passes(site: Server) -> None:
    connection = HTTPConnection("127.0.0.1", site.port, timeout=PATIENCE_S)
    head = UPGRADE | {"Host": f"localhost:{site.port}", "Origin": f"http://localhost:{site.port}"}
    connection.request("GET", f"/code{API}/ws", headers=head)
    assert connection.getresponse().status == 101
    connection.close()


def test_a_caller_counts_by_the_address_that_the_proxy_saw(site: Server) -> None:
    """What the caller says itself changes nothing."""
    for own, says, found in (
        ("127.0.0.2", "192.0.2.1", "neighbours"),
        ("127.0.0.3", "127.0.0.2", "strangers"),
    ):
        connection = HTTPConnection(
            "127.0.0.1", site.port, timeout=PATIENCE_S, source_address=(own, 0)
        )
        connection.request("GET", f"/code{API}/me", headers={"X-Forwarded-For": says})
        assert json.loads(connection.getresponse().read())["class"] == found
        connection.close()


def test_an_address_without_the_slash_is_led_to_the_page(site: Server) -> None:
    assert site.get("/code").status == 301
