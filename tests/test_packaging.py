"""The image, the compose file and the seccomp profile agree with the code and with one another.

They are built and started by `tests/images` (`make test-all`).
"""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaged import (
    PACKAGING,
    accepted,
    compose_services,
    dockerfile,
    image_settings,
    seccomp,
    seconds,
)
from serving import API, OCCD, serving

from occd.config import ROLES, Config
from occd.images import describe
from occd.languages.installing import in_set
from occd.languages.loading import load_languages
from occd.web.stream import ALIVE_S

PUBLISHED = {
    "nginx": ["127.0.0.1:8000:8000"],
    "rabbitmq": ["127.0.0.1:15672:15672"],
    "prometheus": ["127.0.0.1:9090:9090"],
    "grafana": ["127.0.0.1:3000:3000"],
}


@pytest.fixture
def ours() -> dict[str, Any]:
    return {name: service for name, service in compose_services().items() if name in ROLES}


def test_the_base_is_pinned_and_nobody_is_root() -> None:
    bases = [rest.split(" AS ") for name, rest in dockerfile() if name == "FROM"]
    assert bases == [
        ["debian:bookworm-slim", "build"],
        ["debian:bookworm-slim", "base"],
        ["base", "small"],
        ["build", "packages"],
        ["base", "full"],
    ]
    users = [rest for name, rest in dockerfile() if name == "USER"]
    assert users == ["1000:1000", "1000:1000"]


def test_the_full_image_installs_what_an_image_of_our_own_has() -> None:
    """`tests/images` builds it and asks every language."""
    after = dockerfile()[dockerfile().index(("FROM", "build AS packages")) :]
    usual, made, full, copied, installed, *_ = after[1:]
    assert usual == ("ARG", "IMAGE=debian-12")
    assert made == ("RUN", '/opt/occd/bin/occd images --script "$IMAGE" > /install')
    assert full == ("FROM", "base AS full")
    assert copied == ("COPY", "--from=packages /install /usr/local/share/occd-install")
    assert installed[1].startswith("sh /usr/local/share/occd-install && ")
    said = subprocess.run(
        [OCCD, "images", "--script", "debian-12"], capture_output=True, text=True, check=True
    ).stdout
    packages = describe("debian-12").packages
    for name in (*packages.apt, *packages.pip, *packages.npm):
        assert f" {name}" in said
    assert subprocess.run(["sh", "-n"], input=said.encode(), check=True)


def test_the_image_listens_where_its_health_is_asked_for(tmp_path: Path) -> None:
    config = accepted(tmp_path, image_settings(), ["--roles", ",".join(ROLES)])
    port = int(config.listen.rpartition(":")[2])
    assert ("EXPOSE", str(port)) in dockerfile()
    (check,) = [rest for name, rest in dockerfile() if name == "HEALTHCHECK"]
    assert f"'127.0.0.1', {port}" in check
    assert "'/readyz'" in check


def test_what_is_probed_and_routed_is_served(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as server:
        assert server.get("/healthz").status == 200
        assert server.get("/readyz").status == 200
        assert server.get(f"{API}/ws").status != 404
        id = server.submit("pass")
        assert server.get(f"{API}/submissions/{id}/events").status == 200
    routes = (PACKAGING / "compose/nginx.conf").read_text()
    assert f"location = {API}/ws {{" in routes
    assert f"location ~ ^{API}/submissions/[^/]+/events$ {{" in routes


def test_every_role_runs_with_settings_that_exist(ours: dict[str, Any]) -> None:
    assert set(ours) == set(ROLES)
    for name, service in ours.items():
        config = accepted(PACKAGING / "compose", image_settings(), service["command"])
        assert config.roles == (name,)
        assert config.rabbitmq is not None
        assert config.redis is not None
        core = {each.id for each in in_set(load_languages().values(), "core")}
        assert set(config.languages) == core
        assert seconds(service["stop_grace_period"]) > config.grace_s


def test_the_example_of_one_process_loads() -> None:
    config = accepted(PACKAGING / "config", {}, ["--roles", ",".join(ROLES)])
    assert config.execute.slots == 4


def test_few_ports_are_published_and_on_loopback() -> None:
    ports = {name: each["ports"] for name, each in compose_services().items() if "ports" in each}
    assert ports == PUBLISHED


def test_execute_shares_its_network_with_the_broker_the_state_and_prometheus_alone() -> None:
    services = compose_services()
    (network,) = services["execute"]["networks"]
    assert {name for name, each in services.items() if network in each["networks"]} == {
        "execute",
        "rabbitmq",
        "redis",
        "prometheus",
    }


def test_every_service_is_limited_watched_and_restarted(ours: dict[str, Any]) -> None:
    for name, service in compose_services().items():
        assert "mem_limit" in service, name
        assert service["restart"] == "unless-stopped", name
        assert name in ours or "healthcheck" in service, name  # ours have the image's
        assert any(each.startswith("no-new-privileges") for each in service["security_opt"]), name
        for needed in service.get("depends_on", {}).values():
            assert needed == {"condition": "service_healthy"}


def test_ours_have_no_privilege(ours: dict[str, Any]) -> None:
    for service in ours.values():
        assert service["cap_drop"] == ["ALL"]
        assert service["read_only"] is True
        assert not {"privileged", "cap_add", "user", "devices", "pid"} & set(service)
    loosened = {
        name: set(each["security_opt"]) - {"no-new-privileges"} for name, each in ours.items()
    }
    assert loosened.pop("execute") == {
        "seccomp=./seccomp.json",
        "systempaths=unconfined",
        "apparmor=unconfined",
    }
    assert set().union(*loosened.values()) == set()


def test_nginx_lets_occd_answer_for_what_is_too_big_or_takes_long() -> None:
    text = (PACKAGING / "compose/nginx.conf").read_text()
    http = Config().http
    assert int(_directive(text, "client_max_body_size")[:-1]) * 2**20 > http.body_max_bytes
    assert "proxy_read_timeout 75s" in text
    assert http.wait_max_s < 75
    assert 2 * ALIVE_S < 60  # nginx's time-out where the file sets none


def _directive(text: str, name: str) -> str:
    (line,) = [each for each in text.splitlines() if each.strip().startswith(name)]
    return line.split()[1].rstrip(";")


def test_the_seccomp_profile_means_the_same_to_every_engine() -> None:
    """containerd and CRI-O leave out what only Docker knows, such as conditions, without a word."""
    profile = seccomp()
    assert set(profile) == {"defaultAction", "defaultErrnoRet", "architectures", "syscalls"}
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    for rule in profile["syscalls"]:
        assert set(rule) <= {"comment", "names", "action", "args", "errnoRet"}


def test_the_seccomp_profile_adds_what_jails_are_made_of_and_nothing_else() -> None:
    rules = seccomp()["syscalls"]
    added = {
        name for rule in rules if rule["comment"].startswith("occd:") for name in rule["names"]
    }
    assert added == {"clone", "unshare", "mount", "umount2", "pivot_root", "sethostname"}
    allowed = {
        name for rule in rules if rule["action"] == "SCMP_ACT_ALLOW" for name in rule["names"]
    }
    never = {
        "bpf", "perf_event_open", "init_module", "finit_module", "delete_module", "kexec_load", "reboot",
        "kexec_file_load", "open_by_handle_at", "setns", "keyctl", "add_key", "request_key", "userfaultfd",
        "swapon", "acct", "settimeofday", "clock_settime", "iopl", "ioperm", "io_uring_setup", "chroot",
        "fsopen", "fsmount", "move_mount", "open_tree", "quotactl", "syslog", "process_vm_writev",
    }  # fmt: skip
    assert allowed & never == set()


def test_the_build_sees_no_more_than_it_needs() -> None:
    listed = (PACKAGING.parent / ".dockerignore").read_text().splitlines()
    shown = {line[1:] for line in listed if line.startswith("!")}
    assert listed[1] == "*"
    assert not any(name.split("/")[0] in {"data", "config", "tests", ".git"} for name in shown)


def test_the_accounts_of_compose_are_taken_by_every_role(tmp_path: Path) -> None:
    added = yaml.safe_load((PACKAGING / "compose-accounts.yaml").read_text())
    for name in ("compose/occd.yaml", "accounts/accounts.yaml"):
        (tmp_path / Path(name).name).write_text((PACKAGING / name).read_text())
    services = compose_services()
    assert set(added["services"]) == set(ROLES)
    for role, service in added["services"].items():
        settings = image_settings() | service["environment"]
        config = accepted(tmp_path, settings, services[role]["command"])
        assert config.accounts
        assert config.accounts.oidc
        assert Path(f"/run/secrets/{added['services']['submit']['secrets'][0]}") == (
            config.accounts.oidc.client_secret_file
        )
        assert ("secrets" in service, "networks" in service) == (role == "submit", role == "submit")


def test_exact_limits_loosen_execute_by_its_own_control_group_alone() -> None:
    """What the engine then gives is tried in `vm/test_cgroup_v2.py`."""
    added = yaml.safe_load((PACKAGING / "compose-exact-limits.yaml").read_text())
    assert added == {
        "services": {"execute": {"cgroup": "private", "security_opt": ["writable-cgroups=true"]}}
    }
    assert "init" not in compose_services()["execute"]


def test_prometheus_of_compose_asks_every_role_where_it_answers() -> None:
    services = compose_services()
    config = yaml.safe_load((PACKAGING / "compose/monitoring/prometheus.yml").read_text())
    (scrape,) = config["scrape_configs"]
    (found,) = scrape["dns_sd_configs"]
    assert scrape["job_name"] == "occd"
    assert set(found["names"]) == set(ROLES)
    networks = set(services["prometheus"]["networks"])
    for role in ROLES:
        own = accepted(PACKAGING / "compose", image_settings(), services[role]["command"])
        assert own.metrics.listen == f"0.0.0.0:{found['port']}"
        assert networks & set(services[role]["networks"])


def test_monitoring_is_started_only_when_it_is_asked_for() -> None:
    profiles = {name: each.get("profiles") for name, each in compose_services().items()}
    assert {name for name, given in profiles.items() if given} == {"prometheus", "grafana"}
    assert profiles["prometheus"] == profiles["grafana"] == ["monitoring"]


def test_what_monitoring_mounts_is_there_and_provisioned() -> None:
    services = compose_services()
    at: dict[str, Path] = {}
    for name in ("prometheus", "grafana"):
        for volume in services[name]["volumes"]:
            source, target = volume.split(":")[:2]
            if source.startswith("."):
                assert (PACKAGING / source).exists(), source
                at[target] = PACKAGING / source
    provider = yaml.safe_load(at["/etc/grafana/provisioning/dashboards/occd.yaml"].read_text())
    (boards,) = [each["options"]["path"] for each in provider["providers"]]
    assert {path.suffix for path in at[boards].iterdir()} == {".json"}
    source = yaml.safe_load(at["/etc/grafana/provisioning/datasources/occd.yaml"].read_text())
    (prometheus,) = source["datasources"]
    assert prometheus["url"] == "http://prometheus:9090"
    assert set(services["grafana"]["networks"]) & set(services["prometheus"]["networks"])
    rules = yaml.safe_load(at["/etc/prometheus/prometheus.yml"].read_text())["rule_files"]
    assert all(f"/etc/prometheus/{name}" in at for name in rules)
