"""The manifests are well-formed, agree with the code, and give nobody more than they need.

Without a cluster: what `kubectl kustomize` makes is checked against the API's schemas. The objects of
KEDA and of the Prometheus Operator are not part of the API; only their fields are looked at.
"""

import base64
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from packaged import PACKAGING, accepted, image_settings, kustomized

from occd.config import ROLES, RabbitmqConfig
from occd.languages.installing import in_set
from occd.languages.loading import load_languages

VERSION = "1.33"  # the first in which all that is asked for is switched on by default
FOLDERS = ("base", "with-keda", "with-accounts", "with-monitoring")
OTHERS = {"ScaledObject", "TriggerAuthentication", "ServiceMonitor"}
"""Kinds that KEDA and the Prometheus Operator bring along."""
BROKER_AND_STATE = {"rabbitmq", "redis"}


@pytest.fixture(scope="module")
def base() -> list[dict[str, Any]]:
    return kustomized("base")


@pytest.fixture(scope="module")
def with_keda() -> list[dict[str, Any]]:
    return kustomized("with-keda")


def of_kind(objects: list[dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    return {each["metadata"]["name"]: each for each in objects if each["kind"] == kind}


def contents(secret: dict[str, Any]) -> dict[str, str]:
    plain: dict[str, str] = dict(secret.get("stringData", {}))
    for name, encoded in secret.get("data", {}).items():
        plain[name] = base64.b64decode(encoded).decode()
    return plain


@pytest.fixture(scope="module")
def pods(base: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The pod of each role."""
    deployments = of_kind(base, "Deployment")
    return {name: each["spec"]["template"]["spec"] for name, each in deployments.items()}


@pytest.fixture(scope="module")
def containers(pods: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {name: pod["containers"][0] for name, pod in pods.items()}


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_object_fits_the_schemas(folder: str) -> None:
    for each in kustomized(folder):
        if each["kind"] not in OTHERS:
            kubernetes_validate.validate(each, VERSION, strict=True)


def test_with_accounts_submit_alone_has_the_clients_secret(tmp_path: Path) -> None:
    objects = kustomized("with-accounts")
    (files,) = of_kind(objects, "ConfigMap").values()
    for name, text in files["data"].items():
        (tmp_path / name).write_text(text)
    secrets = of_kind(objects, "Secret")
    (oidc,) = [name for name in secrets if name.startswith("oidc")]
    (ours,) = [contents(each) for name, each in secrets.items() if name.startswith("occd")]
    have = set()
    for role, each in of_kind(objects, "Deployment").items():
        pod = each["spec"]["template"]["spec"]
        config = accepted(tmp_path, image_settings() | ours, pod["containers"][0]["args"])
        assert config.accounts
        assert config.accounts.oidc
        assert config.http.public_url == "https://occd.example.org"
        mounts = {
            mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]
        }
        for volume in pod["volumes"]:
            if volume.get("secret", {}).get("secretName") == oidc:
                (key,) = contents(secrets[oidc])
                assert (
                    str(config.accounts.oidc.client_secret_file)
                    == f"{mounts[volume['name']]}/{key}"
                )
                have.add(role)
    assert have == {"submit"}


def test_each_role_is_a_deployment(containers: dict[str, dict[str, Any]]) -> None:
    assert set(containers) == set(ROLES)
    for role, container in containers.items():
        assert container["args"] == ["--roles", role]
        assert container["image"].endswith("/occd:full" if role == "execute" else "/occd:small")


def test_every_setting_is_one_of_ours(
    base: list[dict[str, Any]], pods: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    (secret,) = of_kind(base, "Secret").values()
    settings = contents(secret)
    (files,) = of_kind(base, "ConfigMap").values()
    for name, text in files["data"].items():
        (tmp_path / name).write_text(text)
    for role, pod in pods.items():
        (container,) = pod["containers"]
        assert container["envFrom"] == [{"secretRef": {"name": secret["metadata"]["name"]}}]
        assert "env" not in container
        config = accepted(tmp_path, settings, container["args"])
        assert config.roles == (role,)
        assert config.rabbitmq is not None
        assert config.redis is not None
        assert set(config.languages) == {
            each.id for each in in_set(load_languages().values(), "core")
        }
        (config_volume,) = [each for each in pod["volumes"] if each["name"] == "config"]
        assert config_volume["configMap"]["name"] == files["metadata"]["name"]
        assert _stops_after(container) + config.grace_s < pod["terminationGracePeriodSeconds"]


def _stops_after(container: dict[str, Any]) -> float:
    if "lifecycle" not in container:
        return 0
    tool, duration = container["lifecycle"]["preStop"]["exec"]["command"]
    assert tool == "sleep"
    return float(duration)


def test_the_example_secrets_are_nobodys(with_keda: list[dict[str, Any]]) -> None:
    for secret in of_kind(with_keda, "Secret").values():
        for value in contents(secret).values():
            assert "REPLACE-ME@" in value


def test_no_variable_comes_from_service_links(pods: dict[str, dict[str, Any]]) -> None:
    for pod in pods.values():
        assert pod["enableServiceLinks"] is False
        assert pod["automountServiceAccountToken"] is False


def test_ports_and_probes(containers: dict[str, dict[str, Any]]) -> None:
    for container in containers.values():
        assert container["ports"] == [
            {"name": "http", "containerPort": 8000},
            {"name": "metrics", "containerPort": 9464},
        ]
        paths = {
            kind: container[f"{kind}Probe"]["httpGet"]
            for kind in ("startup", "liveness", "readiness")
        }
        assert paths == {
            "startup": {"path": "/healthz", "port": "http"},
            "liveness": {"path": "/healthz", "port": "http"},
            "readiness": {"path": "/readyz", "port": "http"},
        }


def test_clients_come_in_by_submit_and_ws(base: list[dict[str, Any]]) -> None:
    services = of_kind(base, "Service")
    assert set(services) == {"submit", "ws"}
    for name, service in services.items():
        assert service["spec"]["selector"]["app.kubernetes.io/name"] == name
        assert service["spec"]["ports"][0]["targetPort"] == "http"
    (ingress,) = of_kind(base, "Ingress").values()
    (rule,) = ingress["spec"]["rules"]
    routes = {path["path"]: path["backend"]["service"]["name"] for path in rule["http"]["paths"]}
    events = "/api/v1/submissions/[^/]+/events$"
    assert routes == {"/api/v1/ws": "ws", events: "ws", "/": "submit"}


def test_nothing_has_a_privilege(pods: dict[str, dict[str, Any]]) -> None:
    for role, pod in pods.items():
        security = pod["securityContext"]
        assert (security["runAsNonRoot"], security["runAsUser"]) == (True, 1000)
        (container,) = pod["containers"]
        own = container["securityContext"]
        assert own["allowPrivilegeEscalation"] is False
        assert own["readOnlyRootFilesystem"] is True
        assert own["capabilities"] == {"drop": ["ALL"]}
        assert own["seccompProfile"]["type"] == (
            "Localhost" if role == "execute" else "RuntimeDefault"
        )
        assert ("procMount" in own) == (role == "execute")
        assert not pod.keys() & {"hostNetwork", "hostPID", "hostIPC"}


def test_execute_unmasks_proc_in_a_user_namespace_only(pods: dict[str, dict[str, Any]]) -> None:
    """The API server refuses it otherwise."""
    assert pods["execute"]["hostUsers"] is False
    assert pods["execute"]["containers"][0]["securityContext"]["procMount"] == "Unmasked"


def test_memory_is_limited_and_every_role_may_be_disrupted_one_by_one(
    base: list[dict[str, Any]], containers: dict[str, dict[str, Any]]
) -> None:
    budgets = of_kind(base, "PodDisruptionBudget")
    assert set(budgets) == set(ROLES)
    for role, container in containers.items():
        assert "memory" in container["resources"]["limits"]
        assert set(container["resources"]["requests"]) == {"cpu", "memory"}
        assert budgets[role]["spec"]["maxUnavailable"] == 1
        assert budgets[role]["spec"]["selector"]["matchLabels"]["app.kubernetes.io/name"] == role


def selects(selector: dict[str, Any], role: str) -> bool:
    labels = {"app.kubernetes.io/name": role, "app.kubernetes.io/part-of": "occd"}
    wanted = selector.get("matchLabels", {}).items() <= labels.items()
    return wanted and all(
        labels[each["key"]] in each["values"] for each in selector.get("matchExpressions", ())
    )


def test_execute_is_reached_by_nobody_and_reaches_the_broker_and_the_state(
    base: list[dict[str, Any]],
) -> None:
    policies = [each["spec"] for each in of_kind(base, "NetworkPolicy").values()]
    mine = [each for each in policies if selects(each["podSelector"], "execute")]
    assert {kind for each in mine for kind in each["policyTypes"]} == {"Ingress", "Egress"}
    assert not any("ingress" in each for each in mine)
    reached: set[str] = set()
    for rule in (rule for each in mine for rule in each.get("egress", ())):
        (target,) = rule["to"]
        ports = {each["port"] for each in rule["ports"]}
        if "podSelector" in target:
            reached.add(target["podSelector"]["matchLabels"]["app.kubernetes.io/name"])
        else:
            assert ports == {53}
    assert reached == BROKER_AND_STATE


def test_keda_counts_the_lanes_and_not_the_dead(with_keda: list[dict[str, Any]]) -> None:
    (scaled,) = of_kind(with_keda, "ScaledObject").values()
    assert scaled["spec"]["scaleTargetRef"] == {"name": "execute"}
    assert "replicas" not in of_kind(with_keda, "Deployment")["execute"]["spec"]
    (trigger,) = scaled["spec"]["triggers"]
    assert trigger["type"] == "rabbitmq"
    metadata = trigger["metadata"]
    assert set(metadata) == {"protocol", "useRegex", "queueName", "operation", "mode", "value"}
    assert all(isinstance(each, str) for each in metadata.values())  # KEDA wants nothing else
    queue = RabbitmqConfig.model_fields["submission_queue"].default
    found = re.compile(metadata["queueName"])
    assert all(found.search(name) for name in (queue, f"{queue}.1", f"{queue}.63"))
    assert not any(found.search(name) for name in (f"{queue}.dead", "execution_queue", f"x{queue}"))


def test_keda_expects_of_a_pod_what_it_has_slots(
    with_keda: list[dict[str, Any]], tmp_path: Path
) -> None:
    (files,) = of_kind(with_keda, "ConfigMap").values()
    (tmp_path / "occd.yaml").write_text(files["data"]["occd.yaml"])
    config = accepted(tmp_path, {}, ["--roles", ",".join(ROLES)])
    (scaled,) = of_kind(with_keda, "ScaledObject").values()
    assert scaled["spec"]["triggers"][0]["metadata"]["value"] == str(config.execute.slots)


def test_kedas_secret_is_found(with_keda: list[dict[str, Any]]) -> None:
    (scaled,) = of_kind(with_keda, "ScaledObject").values()
    (authentication,) = of_kind(with_keda, "TriggerAuthentication").values()
    (reference,) = authentication["spec"]["secretTargetRef"]
    assert scaled["spec"]["triggers"][0]["authenticationRef"]["name"] == "occd-rabbitmq"
    assert reference["parameter"] == "host"
    assert reference["key"] in contents(of_kind(with_keda, "Secret")[reference["name"]])


def test_prometheus_finds_the_metrics_of_every_role(
    base: list[dict[str, Any]], tmp_path: Path
) -> None:
    (files,) = of_kind(base, "ConfigMap").values()
    (tmp_path / "occd.yaml").write_text(files["data"]["occd.yaml"])
    listen = accepted(tmp_path, {}, ["--roles", ",".join(ROLES)]).metrics.listen
    assert listen == "0.0.0.0:9464"
    for each in of_kind(base, "Deployment").values():
        assert each["spec"]["template"]["metadata"]["annotations"] == {
            "prometheus.io/scrape": "true",
            "prometheus.io/port": "9464",
            "prometheus.io/path": "/metrics",
        }


def test_the_service_monitor_finds_every_pod_and_gives_the_job_its_name() -> None:
    objects = kustomized("with-monitoring")
    (monitor,) = of_kind(objects, "ServiceMonitor").values()
    service = of_kind(objects, "Service")["metrics"]
    labels = service["metadata"]["labels"]
    wanted = monitor["spec"]["selector"]["matchLabels"]
    found = [
        name
        for name, each in of_kind(objects, "Service").items()
        if wanted.items() <= each["metadata"]["labels"].items()
    ]
    assert found == ["metrics"]
    assert labels[monitor["spec"]["jobLabel"]] == "occd"
    (endpoint,) = monitor["spec"]["endpoints"]
    (port,) = service["spec"]["ports"]
    assert endpoint["port"] == port["name"] == "metrics"
    for each in of_kind(objects, "Deployment").values():
        pod = each["spec"]["template"]
        assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
        ports = {each["name"]: each for each in pod["spec"]["containers"][0]["ports"]}
        assert ports[port["targetPort"]]["containerPort"] == port["port"]


def test_prometheus_alone_reaches_the_metrics() -> None:
    policies = of_kind(kustomized("with-monitoring"), "NetworkPolicy")
    (rule,) = policies["metrics"]["spec"]["ingress"]
    assert rule["ports"] == [{"protocol": "TCP", "port": 9464}]
    others = [
        port["port"]
        for name, each in policies.items()
        if name != "metrics"
        for rule in each["spec"].get("ingress", ())
        for port in rule["ports"]
    ]
    assert others == [8000]
    for role in ROLES:
        assert selects(policies["metrics"]["spec"]["podSelector"], role)


def test_the_docs_make_the_rules_into_objects(tmp_path: Path) -> None:
    text = (PACKAGING.parent / "docs/operating.md").read_text()
    (script,) = [each for each in re.findall(r"```sh\n(.*?)```", text, re.S) if "Rule" in each]
    kubectl = tmp_path / "kubectl"
    kubectl.write_text("#!/bin/sh\nexec cat\n")
    kubectl.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-ec", script],
        cwd=PACKAGING.parent,
        env={"PATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    made = [each for each in yaml.safe_load_all(done.stdout) if each]
    assert [each["metadata"]["name"] for each in made] == ["occd-rules", "occd-alerts"]
    for each, name in zip(made, ("rules", "alerts"), strict=True):
        given = yaml.safe_load((PACKAGING / f"prometheus/{name}.yml").read_text())
        assert each["kind"] == "PrometheusRule"
        assert each["spec"] == given
