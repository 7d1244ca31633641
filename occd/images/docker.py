"""Gives an image that was built to Docker's engine."""

import queue
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import docker
import docker.errors
import requests

from occd import __version__
from occd.errors import OccdError
from occd.images import describe, described, find, opened, tag
from occd.images.root import add_ours

_CALL_S = 600.0
_ASK_S = 10.0
_LIST_S = 3.0
_AT_ONCE = 2**20
LABEL = "org.occd.image"
"""Its value is the digest of the description of which the image was made."""
_BUILT_AT = f"{LABEL}.built-at"
VERSION = f"{LABEL}.version"
"""Its value is the version of occd that gave the image, with what this version needs in a container."""


def give(host: str, data_dir: Path, name: str) -> str:
    """Import an image, with what belongs to this version of occd. Returns its tag.

    Raises SandboxUnavailable when the image was not built, and OccdError with what the engine says.
    """
    try:
        with _asked(host, _CALL_S) as client, opened(data_dir, name) as image:
            labels = {
                LABEL: image.digest,
                f"{LABEL}.architecture": image.architecture,
                _BUILT_AT: str(image.built_at),
                VERSION: __version__,
            }
            client.import_image_from_data(
                _packed(image.root),
                repository=tag(name),
                changes=[f'LABEL {key}="{value}"' for key, value in labels.items()],
            )
            _remove_older(client)
    except (docker.errors.DockerException, requests.RequestException, OSError) as error:
        said = " ".join(str(error).split())
        raise OccdError(f"Docker does not take the image {name}: {said}") from error
    return tag(name)


@dataclass(frozen=True, slots=True)
class Given:
    """An image that Docker has. `version` is that of the occd that gave the image: empty where an older one
    did, None where none did. `built_at` is as of `Image`, in text."""

    bytes: int
    version: str | None
    built_at: str | None


def given(host: str) -> dict[str, Given] | None:
    """The images that Docker has of ours, by their names. None when the engine does not answer soon."""
    answers: queue.SimpleQueue[dict[str, Given] | None] = queue.SimpleQueue()

    def ask() -> None:
        try:
            with _asked(host, _LIST_S) as client:
                answers.put(_given(client))
        except (docker.errors.DockerException, requests.RequestException, OSError, ValueError):
            answers.put(None)
        except (KeyError, TypeError, AttributeError):  # an answer that no engine gives
            answers.put(None)

    # The SDK bounds each wait for the engine, and an engine may send a byte at a time.
    threading.Thread(target=ask, daemon=True).start()
    try:
        return answers.get(timeout=_LIST_S)
    except queue.Empty:
        return None


def _given(client: docker.APIClient) -> dict[str, Given]:
    found: dict[str, Given] = {}
    for each in client.images(filters={"reference": f"{tag('*')}:latest"}):
        labels = each["Labels"] or {}
        version = labels.get(VERSION, "" if LABEL in labels else None)
        for name in each["RepoTags"] or ():
            ours = name.removeprefix(tag("")).removesuffix(":latest")
            found[ours] = Given(each["Size"], version, labels.get(_BUILT_AT))
    return found


def behind(host: str, data_dir: Path, name: str) -> tuple[str, str] | None:
    """Why Docker's image is not what it could be, and what to do. None when nothing is known against it, as
    of an image that was not made by `give`, and when the engine does not answer.

    Raises ConfigError for a description that makes no sense."""
    try:
        with _asked(host, _ASK_S) as client:
            labels = client.inspect_image(tag(name))["Config"].get("Labels") or {}
    except (docker.errors.DockerException, requests.RequestException, OSError):
        return None
    except (KeyError, TypeError, AttributeError):  # an answer that no engine gives
        return None
    if LABEL not in labels:
        return None
    there = find(data_dir, name)
    if there and labels.get(_BUILT_AT) != str(there.built_at):
        return (
            f"Docker's image {tag(name)} is another than the one in {there.root.parent}",
            f"Give Docker that one, as root: {again(name)}",
        )
    if name in described() and labels[LABEL] != describe(name).digest:
        return (
            f"the description of Docker's image {tag(name)} has changed since",
            f"Build it anew, as root: occd images {name} --docker",
        )
    return None


def again(name: str) -> str:
    return f"occd images {name} --docker --no-build"


def _asked(host: str, within_s: float) -> closing[docker.APIClient]:
    return closing(docker.APIClient(base_url=host, version="1.41", timeout=within_s))


def _packed(root: Path) -> Iterator[bytes]:
    with tempfile.TemporaryDirectory(prefix="occd-") as ours:
        within = add_ours(Path(ours))
        places = [f"--exclude=./{path}" for path in within]
        argv = [
            "tar",
            "--create",
            *places,
            f"--directory={root.resolve()}",
            ".",
            f"--directory={ours}",
        ]
        with subprocess.Popen([*argv, *within], stdout=subprocess.PIPE) as tar:
            assert tar.stdout
            yield from iter(partial(tar.stdout.read, _AT_ONCE), b"")
        if tar.returncode != 0:
            raise OccdError(f"tar failed with {tar.returncode}")


def _remove_older(client: docker.APIClient) -> None:
    """Those that have lost their tag, unless a container has them."""
    for each in client.images(filters={"dangling": True, "label": LABEL}):
        with suppress(docker.errors.APIError):
            client.remove_image(each["Id"])
