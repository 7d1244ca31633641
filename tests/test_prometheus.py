"""Prometheus's own tools take `packaging/prometheus`. `tests/test_alerts.py` makes the faults."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import yaml
from packaged import PACKAGING
from prometheus import RULES, rules, tool

ROOT = Path(__file__).parent.parent
RECORDED = {each["record"] for each in rules("rules.yml")}


def promtool(*arguments: str | Path) -> tuple[int, str]:
    done = subprocess.run(
        [tool("promtool"), *arguments], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def test_the_configuration_and_its_rules_are_right() -> None:
    code, said = promtool("check", "config", RULES / "prometheus.yml")
    assert code == 0, said
    assert said.count("SUCCESS: ") == 4, said


def test_the_configuration_of_compose_is_right(tmp_path: Path) -> None:
    for path in (
        PACKAGING / "compose/monitoring/prometheus.yml",
        RULES / "rules.yml",
        RULES / "alerts.yml",
    ):
        shutil.copy(path, tmp_path)
    code, said = promtool("check", "config", tmp_path / "prometheus.yml")
    assert code == 0, said


def test_the_configuration_for_a_cluster_is_right(tmp_path: Path) -> None:
    """But for its service discovery, which Debian's Prometheus is built without."""
    config = yaml.safe_load((RULES / "prometheus-kubernetes.yml").read_text())
    (scrape,) = config["scrape_configs"]
    assert scrape.pop("kubernetes_sd_configs") == [
        {"role": "pod", "namespaces": {"names": ["occd"]}}
    ]
    assert config["rule_files"] == ["rules.yml", "alerts.yml"]
    for name in config["rule_files"]:
        shutil.copy(RULES / name, tmp_path)
    (tmp_path / "config.yml").write_text(yaml.safe_dump(config))
    code, said = promtool("check", "config", tmp_path / "config.yml")
    assert code == 0, said


def test_in_a_cluster_pods_that_have_ended_are_no_targets(tmp_path: Path) -> None:
    """An evicted pod stays in the API, and would be `OccdNodeGone` for as long."""
    config = yaml.safe_load((RULES / "prometheus-kubernetes.yml").read_text())
    del config["rule_files"], config["scrape_configs"][0]["kubernetes_sd_configs"]
    found = {"pod_label_app_kubernetes_io_part_of": "occd", "pod_container_port_name": "metrics"}
    config["scrape_configs"][0]["static_configs"] = [
        {
            "targets": [f"{phase}:9464"],
            "labels": {
                f"__meta_kubernetes_{name}": value
                for name, value in (found | {"pod_name": phase, "pod_phase": phase}).items()
            },
        }
        for phase in ("Pending", "Running", "Succeeded", "Failed", "Unknown")
    ]
    (tmp_path / "config.yml").write_text(yaml.safe_dump(config))
    _, said = promtool(
        "check", "service-discovery", "--timeout=1s", tmp_path / "config.yml", "occd"
    )
    targets = [each["labels"] for each in json.loads(said)]
    assert {each["pod"] for each in targets if each} == {"Pending", "Running", "Unknown"}
    assert len(targets) == 5


def run_their_tests(folder: Path, alerts: str) -> tuple[int, str]:
    shutil.copy(RULES / "rules.yml", folder)
    shutil.copy(ROOT / "tests/alerts_test.yml", folder)
    (folder / "alerts.yml").write_text(alerts)
    return promtool("test", "rules", folder / "alerts_test.yml")


def test_the_rules_pass_their_tests(tmp_path: Path) -> None:
    code, said = run_their_tests(tmp_path, (RULES / "alerts.yml").read_text())
    assert code == 0, said


def test_the_tests_of_the_rules_miss_each_alert_that_never_fires(tmp_path: Path) -> None:
    alerts = yaml.safe_load((RULES / "alerts.yml").read_text())
    for rule in alerts["groups"][0]["rules"]:
        rule["expr"] = f"({rule['expr']}) and on () vector(1) > 2"
    code, said = run_their_tests(tmp_path, yaml.safe_dump(alerts))
    assert code == 1, said
    assert set(re.findall(r'alertname="(\w+)"', said)) == {
        each["alert"] for each in rules("alerts.yml")
    }


def test_each_alert_says_what_to_do_and_stands_in_the_docs() -> None:
    text = (ROOT / "docs/operating.md").read_text()
    named = re.findall(r"^\| `(Occd\w+)` \|", text, re.MULTILINE)
    assert named == [each["alert"] for each in rules("alerts.yml")]
    for each in rules("alerts.yml"):
        assert each["labels"]["severity"] in {"warning", "critical"}
        assert set(each["annotations"]) == {"summary", "description", "action"}
        found = re.search(
            r'\(docs/operating\.md, "(\w+( \w+)*)"\)\.$', each["annotations"]["action"]
        )
        assert found, each["alert"]
        assert re.search(rf"^(## {found[1]}$|\*\*{found[1]}\.\*\*)", text, re.MULTILINE)


def test_each_name_in_a_rule_is_a_metric_or_a_rule() -> None:
    listed = (ROOT / "docs/metrics.md").read_text()
    for each in rules("rules.yml") + rules("alerts.yml"):
        for name in re.findall(r"\boccd[_:][\w:]+", each["expr"]):
            plain = re.sub(r"_(bucket|count|sum)$", "", name)
            assert name in RECORDED or f"| `{plain}` |" in listed, name
