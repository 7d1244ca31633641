"""The images on which ours stand, where none can be pulled: Debian itself by debootstrap, the servers from
Debian's packages."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from debian import bootstrap
from engine import Engine, call

HERE = Path(__file__).parent
BASE = "debian:bookworm-slim"
STAND_INS = ("rabbitmq", "redis", "nginx", "prometheus")


def make_base(engine: Engine) -> None:
    """With the machine's own ways to Debian's packages and PyPI, which a build would not know."""
    root = engine.folder / "root"
    bootstrap(root)
    shutil.rmtree(root / "var/cache/apt")
    _copy_apt(root)
    _copy_pip(root)
    _copy_npm(root)
    with subprocess.Popen(["tar", "-C", root, "-c", "."], stdout=subprocess.PIPE) as tar:
        subprocess.run(
            ["docker", "-H", f"unix://{engine.folder}/socket", "import", "-", BASE],
            stdin=tar.stdout, check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
    shutil.rmtree(root)


def make_stand_ins(engine: Engine) -> None:
    for name in STAND_INS:
        build(engine, HERE / "Dockerfile", name, f"occd-stand-in:{name}", HERE)


def build(engine: Engine, dockerfile: Path, target: str, tag: str, context: Path) -> None:
    options = ("--network", "host", "--pull=false", "--target", target, "--tag", tag)
    engine.docker("build", "--quiet", *options, "--file", dockerfile, context)


def _copy_apt(root: Path) -> None:
    """Debian's sources with what is needed to reach them; not others, whose keys Debian lacks."""
    (root / "etc/apt/sources.list").unlink(missing_ok=True)
    lists = [Path("/etc/apt/sources.list"), *Path("/etc/apt/sources.list.d").glob("*")]
    for source in lists:
        if source.is_file() and re.search(
            r"^(deb|URIs:) .*/debian", source.read_text(), re.MULTILINE
        ):
            shutil.copy(
                source,
                root / "etc/apt/sources.list.d"
                if source.suffix == ".sources"
                else root / "etc/apt",
            )
    settings = call("apt-config", "dump", "--format", '%F "%v";%n', "Acquire")
    needed = re.findall(r"^Acquire::(?:https?|Check-|Retries)\S* .*\n", settings, re.MULTILINE)
    (root / "etc/apt/apt.conf.d/90machine").write_text("".join(needed))


def _copy_pip(root: Path) -> None:
    lines = ["[global]", "timeout = 180"]
    if authorities := os.environ.get("PIP_CERT") or os.environ.get("SSL_CERT_FILE"):
        # Not where Debian has its own: installing ca-certificates would put those there again.
        shutil.copy(authorities, root / "etc/machine-authorities.pem")
        lines.append("cert = /etc/machine-authorities.pem")
    for name in ("index-url", "proxy", "trusted-host"):
        found = subprocess.run(
            ["python3", "-m", "pip", "config", "get", f"global.{name}"],
            capture_output=True,
            text=True,
        )
        value = os.environ.get(f"PIP_{name.upper().replace('-', '_')}") or found.stdout.strip()
        if value:
            lines.append(f"{name} = {value}")
    (root / "etc/pip.conf").write_text("\n".join(lines) + "\n")


def _copy_npm(root: Path) -> None:
    registry = subprocess.run(
        ["npm", "config", "get", "registry"], capture_output=True, text=True, check=True
    ).stdout.strip()
    lines = [f"registry={registry}"]
    if (root / "etc/machine-authorities.pem").exists():
        lines.append("cafile=/etc/machine-authorities.pem")
    (root / "etc/npmrc").write_text("\n".join(lines) + "\n")
