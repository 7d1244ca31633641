"""The files that a program left: which are wanted, and where they go."""

import hashlib
from collections.abc import Sequence

from occd.config import ArtifactsConfig
from occd.media import media_type
from occd.model import Artifact, Artifacts
from occd.sandbox import Collect, Collected
from occd.state import Blobs


def wanted(patterns: Sequence[str], limits: ArtifactsConfig, bytes_max: int) -> Collect | None:
    """`bytes_max` is what state takes of one submission."""
    if not patterns:
        return None
    most = min(limits.bytes, bytes_max)
    return Collect(patterns, limits.files, min(limits.file_bytes, most), most)


async def store(blobs: Blobs, subject: str, collected: Collected) -> Artifacts:
    """Store the files. They are there before the result that names them."""
    kept = []
    for file in collected.files:
        digest = hashlib.sha256(file.content).hexdigest()
        await blobs.put(subject, digest, file.content)
        kept.append(
            Artifact(file.name, len(file.content), digest, media_type(file.name, file.content))
        )
    return Artifacts(tuple(kept), collected.left_out, collected.left_out_count)
