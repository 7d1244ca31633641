"""The keys that were created: gives them out, replaces and revokes them, and tells whose one is.

State is believed about a key for FRESH_S, also that there is no such key. So a revoked key is dead on
every node within this time, and a busy key costs a look in two seconds.
"""

import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import replace
from typing import cast, get_args

import trio

from occd.accounts import AccountsConfig, fault_of_name
from occd.config import Config
from occd.errors import FieldError, OccdError, Rejected, UnknownKey
from occd.key import Issued, Key, Revoked, digest_of, is_key, new_id, new_secret
from occd.principal import KEY, SCOPES, Credential, Scope
from occd.state import Keys
from occd.trouble import Trouble

FRESH_S = 2.0
DEAD_S = 5.0
"""A key that was revoked is dead on every node within this time, with its WebSockets (`web/endings.py`)."""

NOTED_EVERY_S = 60.0
_BELIEVED_MAX = 10_000
LIFETIME_MAX_S = 100 * 366 * 24 * 3600.0


class Keyring:
    def __init__(
        self, config: Config, keys: Keys, cancel_all: Callable[[str], Awaitable[int]]
    ) -> None:
        """`cancel_all` cancels what an owner has that has not finished, and says how many that were."""
        self._accounts = config.accounts
        self._keys = keys
        self._cancel_all = cancel_all
        self._believed: dict[str, tuple[float, Key | None]] = {}
        """By SHA-256: since when, and what. The oldest first."""
        self._used: dict[str, float] = {}
        """By id: the last use, of those that state was not told yet."""
        self._trouble = Trouble("the last use of keys is noted later")

    async def run(self) -> None:
        """Tell state when keys were used last, until cancelled."""
        while True:
            await trio.sleep(NOTED_EVERY_S)
            await self.note()

    async def note(self) -> None:
        if not (used := self._used):
            return
        self._used = {}
        with self._trouble.survived():
            try:
                await self._keys.used(used)
            except OccdError:
                self._used = used | self._used
                raise

    async def find(self, sha256: str) -> Credential | None:
        """The key of this hash, if it holds. Raises StateUnavailable."""
        key, now = await self._look(sha256), time.time()
        if key is None or not key.lives(now):
            return None
        self._used[key.id] = now
        return key.credential

    async def _look(self, sha256: str) -> Key | None:
        asked_at = trio.current_time()
        since, key = self._believed.get(sha256, (-FRESH_S, None))
        if asked_at - since < FRESH_S:
            return key
        key = await self._keys.find(sha256)
        self._believed.pop(sha256, None)  # the new one comes last
        while len(self._believed) >= _BELIEVED_MAX:
            del self._believed[next(iter(self._believed))]
        self._believed[sha256] = asked_at, key
        return key

    async def all(self) -> Sequence[Key]:
        """By creation, those that have expired among them."""
        lately = self._used
        return [
            replace(key, used_at=lately[key.id]) if key.id in lately else key
            for key in await self._keys.all()
        ]

    async def create(
        self, owner: str, class_name: str, scopes: Collection[str], expires_s: float | None
    ) -> Issued:
        """A new key for the owner of this name, which expires in so many seconds. Raises Rejected."""
        accounts = self._need_accounts()
        if errors := list(_faults(accounts, owner, class_name, scopes, expires_s)):
            detail = "; ".join(f"{each.field} {each.message}" for each in errors)
            raise Rejected("invalid", detail, errors)
        now = time.time()
        expires_at = None if expires_s is None else now + expires_s
        known = frozenset(cast(Collection[Scope], scopes))
        return await self._issue(KEY + owner, class_name, known, now, expires_at)

    async def rotate(self, id: str, keep_s: float) -> Issued:
        """Another key for the same owner, of the same class and scopes, with a lifetime as long as the old
        one's. The old one expires in `keep_s` seconds. A death in between leaves both. Raises UnknownKey, or
        Rejected."""
        self._need_accounts()
        if not 0 <= keep_s <= LIFETIME_MAX_S:
            message = "must be a number of seconds, 0 or more"
            raise Rejected("invalid", f"keep_s {message}", [FieldError("keep_s", message)])
        old, now = await self._created(id), time.time()
        lasts = None if old.expires_at is None else old.expires_at - old.created_at
        expires_at = None if lasts is None else now + lasts
        issued = await self._issue(old.owner, old.class_name, old.scopes, now, expires_at)
        await self._keys.expire(id, now + keep_s)
        self._believed.pop(old.sha256, None)
        return issued

    async def revoke(self, id: str, *, cancel: bool) -> Revoked:
        """Forget a key. With `cancel`, cancel what its owner has that has not finished, unless another key of
        the owner holds: which key submitted what is not kept. Until the key is dead on every node it may
        submit more, so this waits. The key is forgotten last, so that what was cut off can be repeated.
        Raises UnknownKey, or Rejected."""
        key, now = await self._created(id), time.time()
        cancelled = None
        if cancel:
            await self._keys.expire(id, now)
            self._believed.pop(key.sha256, None)
        others = [
            each.id
            for each in await self._keys.all()
            if each.owner == key.owner and each.id != id and each.lives(now)
        ]
        listed = self._accounts.keys if self._accounts else ()
        others += [each.id for each in listed if each.credential.owner == key.owner]
        if cancel and not others:
            await trio.sleep(DEAD_S)
            cancelled = await self._cancel_all(key.owner)
        await self._keys.revoke(id)
        self._believed.pop(key.sha256, None)
        return Revoked(key.owner, tuple(others), cancelled)

    async def _issue(
        self,
        owner: str,
        class_name: str,
        scopes: frozenset[Scope],
        now: float,
        expires_at: float | None,
    ) -> Issued:
        secret = new_secret()
        key = Key(new_id(), digest_of(secret), owner, class_name, scopes, now, expires_at)
        await self._keys.add(key)
        return Issued(secret, key)

    async def _created(self, id: str) -> Key:
        for key in await self._keys.all():
            if key.id == id:
                return key
        if self._accounts and any(key.id == id for key in self._accounts.keys):
            raise Rejected(
                "configured", f"the key {id} stands in the configuration: change it there"
            )
        raise no_key(id)

    def _need_accounts(self) -> AccountsConfig:
        if self._accounts is None:
            raise Rejected(
                "no-accounts",
                "there are no accounts in the configuration, so no key would be asked for: docs/accounts.md",
            )
        return self._accounts


def no_key(id: str) -> UnknownKey:
    if is_key(id):  # which must not come into a log
        return UnknownKey(
            "this is a key itself; give its id, which stands in occd keys list; the key is in the history of "
            "your shell now"
        )
    return UnknownKey(
        f"no key {id} was created, or the key was revoked; occd keys list shows those that hold"
    )


def _faults(
    accounts: AccountsConfig,
    owner: str,
    class_name: str,
    scopes: Collection[str],
    expires_s: float | None,
) -> list[FieldError]:
    found = []
    if fault := fault_of_name(owner):
        found.append(FieldError("owner", fault))
    if class_name not in accounts.classes:
        message = f"must be a class of the configuration: {', '.join(accounts.classes)}"
        found.append(FieldError("class", message))
    if not scopes or not set(scopes) <= set(SCOPES):
        found.append(FieldError("scopes", f"must be some of {', '.join(get_args(Scope))}"))
    if expires_s is not None and not 0 < expires_s <= LIFETIME_MAX_S:
        found.append(
            FieldError("expires_s", "must be a number of seconds above 0, at most 100 years")
        )
    return found
