"""Files that come into the page from outside, as a person brings them."""

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

from e2e.editor import Editor


def drop(editor: Editor, *paths: Path) -> None:
    """Files and folders, onto the middle of the editor."""
    box = editor.part("editor").bounding_box()
    assert box
    at = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
    data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    session = editor.page.context.new_cdp_session(editor.page)
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": kind, "data": data, **at})
    session.detach()


def zipped(files: Mapping[str, bytes | str], executable: tuple[str, ...] = ()) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.create_system = 3
            info.external_attr = (0o100755 if name in executable else 0o100644) << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
    return packed.getvalue()
