"""The pages and their files, with the headers that keep a page from doing what ours does not."""

import hashlib
import json
import mimetypes
import re
import secrets
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace

from jinja2 import Environment, FileSystemLoader, select_autoescape
from quart import Blueprint, Response, request
from werkzeug.exceptions import NotFound

from occd import __version__
from occd.data import data_folder
from occd.web.compressed import compress, respond

_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'nonce-{nonce}'; img-src 'self' data:; "
    "connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)


@dataclass(frozen=True)
class _Static:
    body: bytes
    etag: str
    type: str

    @cached_property
    def zipped(self) -> bytes:
        """Made when a browser asks for it first: most processes are asked for few files or none."""
        return compress(self.body)


class Pages:
    """The files of the page, and what is made of the templates."""

    def __init__(self) -> None:
        self.files = _load_static(data_folder("static"))
        # A handful of templates, all ours: no loader looks for changes.
        self._jinja = Environment(
            loader=FileSystemLoader(data_folder("templates")),
            autoescape=select_autoescape(),
            auto_reload=False,
        )
        # Not a dict, whose methods a template would find before its words.
        self._words = SimpleNamespace(
            **json.loads((data_folder("templates") / "words.json").read_text("utf-8"))
        )

    def page(
        self,
        template: str,
        status: int = 200,
        root: str = "",
        *,
        cached: bool = False,
        **values: object,
    ) -> Response:
        """`root` leads from the page's address to the editor's: the page may stand below a path of another
        site. `cached`: a browser may keep the page, and asks whether it is still the same."""

        def static(path: str) -> str:
            return f"{root}static/{path}?v={self.files[path].etag}"

        nonce = secrets.token_urlsafe(16)
        page = self._jinja.get_template(template).render(
            nonce=nonce, version=__version__, static=static, words=self._words, root=root, **values
        )
        headers = {"Content-Security-Policy": _CSP.format(nonce=nonce)}
        if cached:
            headers["Cache-Control"] = "no-cache"
        response = respond(page.encode(), "text/html; charset=utf-8", compress, headers)
        response.status_code = status
        return response


def page_routes(pages: Pages, *, sign_in: str | None, accounts: bool) -> Blueprint:
    """`sign_in`: where people sign in, if they can."""
    routes = Blueprint("pages", __name__)
    files = pages.files
    names = _names(files)
    modules = _imported(files, "app.js")

    @routes.get("/")
    async def index() -> Response:
        return pages.page(
            "index.html", cached=True, modules=modules, sign_in=sign_in, accounts=accounts
        )

    @routes.get("/status")
    async def status() -> Response:
        there = sign_in and f"{sign_in}?next=/status"
        return pages.page("status.html", cached=True, sign_in=there, accounts=accounts)

    @routes.get("/static/<path:path>")
    async def static(path: str) -> Response:
        file, asked = files.get(path), request.args.get("v")
        # Another content under the same name would be no part of the page that asks, and be kept for a year.
        if file is None or (asked is not None and (path, asked) not in names):
            raise NotFound
        return _serve(file)

    @routes.get("/favicon.ico")
    async def favicon() -> Response:
        return _serve(files["favicon.svg"])

    return routes


def _imported(files: dict[str, _Static], name: str) -> list[str]:
    """The modules that this one needs, and that those need, each as it is asked for: name and query.
    A browser that is told of them fetches all of them at once."""
    found: dict[str, None] = {}
    for asked in re.findall(rb'(?:from|import)"\./([^"]+)"', files[name].body):
        module = asked.decode()
        if module not in found:
            found |= dict.fromkeys([module, *_imported(files, module.partition("?")[0])])
    return list(found)


def _names(files: dict[str, _Static]) -> set[tuple[str, str]]:
    """Paths, each with a `v` that names the content: the page names a file by its hash, and a module names
    others by what the build has named them."""
    built = re.compile(rb'"\./([\w.-]+)\?v=(\w+)"')
    named = {
        (path.decode(), name.decode())
        for file in files.values()
        for path, name in built.findall(file.body)
    }
    return named | {(path, file.etag) for path, file in files.items()}


def _serve(file: _Static) -> Response:
    # What `v` names never changes; without it browsers ask again.
    kept = "public, max-age=31536000, immutable" if "v" in request.args else "no-cache"
    headers = {"Cache-Control": kept, "ETag": f'"{file.etag}"', "Vary": "Accept-Encoding"}
    if request.if_none_match.contains_weak(file.etag):
        return Response(b"", 304, headers)
    return respond(file.body, file.type, lambda _: file.zipped, headers)


def _load_static(folder: Path) -> dict[str, _Static]:
    return {
        path.relative_to(folder).as_posix(): _load(path)
        for path in folder.rglob("*")
        if path.is_file()
    }


def _load(path: Path) -> _Static:
    body = path.read_bytes()
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    kind = {".js": "text/javascript", ".svg": "image/svg+xml"}.get(path.suffix, kind)
    if kind.startswith("text/"):
        kind += "; charset=utf-8"
    return _Static(body, hashlib.sha256(body).hexdigest()[:16], kind)


ALWAYS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}
"""Headers of every response."""

UNLESS = {
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cache-control": "no-store",
}
"""Headers of every response that has no others of these names. What is no page gets a policy under which it
can do nothing."""


async def secure(response: Response) -> Response:
    for name, value in UNLESS.items():
        response.headers.setdefault(name, value)
    for name, value in ALWAYS.items():
        response.headers[name] = value
    return response
