"""A real provider for tests: oidc-provider-mock in a process of its own, which can be told to answer falsely.

    python provider.py       prints its port

POST /told   {"token": {...}, "said": {...}, "rotate": true, "answer": {...}, "metadata": {...},
             "userinfo": {...}}: how the tokens from now on are made, and what comes beside them, new keys,
             another answer for a path (status, body, times, headers), and fields and claims that only the
             metadata and userinfo have
GET /told    what occd has asked so far
"""

import base64
import hashlib
import hmac
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.request import Request, urlopen

PATIENCE_S = 60.0


@dataclass
class Provider:
    process: subprocess.Popen[str]
    port: int

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def person(self, subject: str, **claims: object) -> None:
        self._ask("PUT", f"/users/{subject}", claims)

    def tell(self, **wanted: object) -> None:
        """Anew: what was told before is forgotten, but for the keys."""
        self._ask("POST", "/told", wanted)

    def asked(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self._ask("GET", "/told"))
        return found

    def stop(self) -> None:
        """It hangs: connections are made, and nobody answers."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def _ask(self, method: str, path: str, body: object = None) -> bytes:
        data = None if body is None else json.dumps(body).encode()
        head = {"Content-Type": "application/json"}
        with urlopen(
            Request(self.issuer + path, data, head, method=method), timeout=PATIENCE_S
        ) as said:
            found: bytes = said.read()
            return found


@contextmanager
def providing(port: int = 0) -> Iterator[Provider]:
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", __file__, str(port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout
    try:
        yield Provider(process, int(process.stdout.readline()))
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def main(port: int) -> None:
    import flask
    import joserfc.jwk
    import joserfc.jws
    import werkzeug.serving
    from authlib import jose  # type: ignore[import-untyped]
    from oidc_provider_mock._app import app as make_app  # type: ignore[import-untyped]
    from oidc_provider_mock._storage import storage  # type: ignore[import-untyped]

    app: flask.Flask = make_app()
    told: dict[str, Any] = {}
    asked: list[dict[str, Any]] = []
    challenges: set[str] = set()

    @app.post("/told")
    def tell() -> tuple[str, int]:
        told.clear()
        told.update(flask.request.json or {})
        if told.get("rotate"):
            flask.g.oidc_provider_mock_storage.jwk = jose.RSAKey.generate_key(is_private=True)
        return "", 204

    @app.get("/told")
    def tell_asked() -> flask.Response:
        return flask.jsonify(asked)

    @app.before_request
    def check() -> flask.Response | None:
        request = flask.request
        if request.path == "/told":
            return None
        authorization = request.headers.get("Authorization")
        asked.append(
            {"path": request.path, "authorization": authorization, **request.values.to_dict()}
        )
        if answer := told.get("answer", {}).get(request.path):
            body = answer["body"] * answer.get("times", 1)
            return flask.Response(body, answer.get("status", 200), answer.get("headers"))
        if request.path == "/oauth2/authorize" and request.method == "POST":
            assert request.args["code_challenge_method"] == "S256"
            challenges.add(request.args["code_challenge"])
        if request.path == "/oauth2/token":
            digest = hashlib.sha256(request.form["code_verifier"].encode()).digest()
            challenge = encoded(digest)
            if challenge not in challenges:
                return flask.Response('{"error": "invalid_grant"}', 400)
            challenges.remove(challenge)
        return None

    @app.after_request
    def twist(response: flask.Response) -> flask.Response:
        path = flask.request.path
        if path == "/userinfo" and told.get("userinfo"):
            response.set_data(json.dumps({**(response.json or {}), **told["userinfo"]}))
        if path == "/oauth2/token" and response.status_code == 200 and "token" in told:
            said = response.json or {}
            said["id_token"] = twisted(said["id_token"], told["token"])
            response.set_data(json.dumps(said | told.get("said", {})))
        if path == "/.well-known/openid-configuration" and "metadata" in told:
            response.set_data(json.dumps((response.json or {}) | told["metadata"]))
        return response

    def twisted(token: str, wanted: dict[str, Any]) -> str | None:
        """The token with other claims (null leaves one out), and perhaps signed by somebody else."""
        if wanted.get("none"):
            return None
        head, body, _ = (part + "=" * (-len(part) % 4) for part in token.split("."))
        header = json.loads(base64.urlsafe_b64decode(head))
        claims = json.loads(base64.urlsafe_b64decode(body)) | wanted.get("claims", {})
        claims["exp"] += wanted.get("later_s", 0)
        claims["iat"] += wanted.get("later_s", 0)
        claims = {name: value for name, value in claims.items() if value is not None}
        own = storage.jwk.as_dict(is_private=True)
        key: Any = joserfc.jwk.RSAKey.import_key(own)
        algorithm = wanted.get("alg", "RS256")
        if wanted.get("forged"):
            key = joserfc.jwk.RSAKey.generate_key(2048)
        header |= {"alg": algorithm, **wanted.get("header", {})}
        if algorithm != "RS256":
            signed = ".".join(
                map(encoded, (json.dumps(header).encode(), json.dumps(claims).encode()))
            )
            # With the public key, which everybody knows, as the secret.
            secret = key.as_pem(private=False)
            mac = hmac.digest(secret, signed.encode(), "sha256") if algorithm == "HS256" else b""
            return f"{signed}.{encoded(mac)}"
        return joserfc.jws.serialize_compact(header, json.dumps(claims), key)

    def encoded(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).decode().rstrip("=")

    server = werkzeug.serving.make_server("127.0.0.1", port, app, threaded=True)
    print(server.port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]))
