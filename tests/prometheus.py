"""A real Prometheus for tests: on a free port of loopback, in a folder of its own, with the rules of
`packaging/prometheus`, whose times are shortened."""

import json
import re
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from packaged import PACKAGING
from redis_server import free_port

RULES = PACKAGING / "prometheus"
PATIENCE_S = 120.0
EVERY_S = 2
WINDOW_S = 10


def tool(name: str) -> str:
    found = shutil.which(name)
    assert found, f"{name} is missing; to have it: apt-get install prometheus"
    return found


def rules(name: str) -> list[dict[str, Any]]:
    """The rules of `rules.yml` or `alerts.yml`."""
    (group,) = yaml.safe_load((RULES / name).read_text())["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def shortened(text: str) -> str:
    """With every `for:` a second, every window a few scrapes, and a minute in the queue a few seconds."""
    text = text.replace("oldest_seconds:max > 60", "oldest_seconds:max > 5")
    text = re.sub(r"for: \d+[smh]", "for: 1s", text)
    return re.sub(r"\[\d+[smh]\]", f"[{WINDOW_S}s]", text)


class Prometheus:
    def __init__(self, port: int) -> None:
        self.port = port

    def ask(self, path: str, **query: str) -> Any:
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
            return json.load(answer)["data"]

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """The series that the expression has now."""
        found = self.ask("query", query=expression)["result"]
        return [(each["metric"], float(each["value"][1])) for each in found]

    def firing(self, job: str) -> set[str]:
        return {
            each["labels"]["alertname"]
            for each in self.ask("alerts")["alerts"]
            if each["state"] == "firing" and each["labels"]["job"] == job
        }

    def until(self, job: str, alert: str, *, fires: bool) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while (alert in (found := self.firing(job))) != fires:
            assert time.monotonic() < deadline, (alert, fires, found)
            time.sleep(0.2)


@contextmanager
def prometheus(folder: Path, jobs: Mapping[str, Sequence[str]]) -> Iterator[Prometheus]:
    """It scrapes the addresses of each job."""
    folder.mkdir()
    for name in ("rules.yml", "alerts.yml"):
        (folder / name).write_text(shortened((RULES / name).read_text()))
    config = yaml.safe_load((RULES / "prometheus.yml").read_text())
    every = f"{EVERY_S}s"
    config["global"] = dict.fromkeys(config["global"], every)
    config["scrape_configs"] = [
        {"job_name": job, "static_configs": [{"targets": list(targets)}]}
        for job, targets in jobs.items()
    ]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = free_port()
    command = [
        tool("prometheus"),
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + PATIENCE_S
        while "Server is ready" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield Prometheus(port)
    finally:
        process.terminate()
        process.wait(PATIENCE_S)
