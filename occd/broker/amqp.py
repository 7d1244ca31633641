"""One connection to RabbitMQ and the thread that owns it. `Link` keeps it up, `Talk` asks questions.

pika is used in the owner thread only. Two queues of calls lead in and out: `post` (from Trio) and `tell`
(from the thread). A side is woken once for all that has gathered meanwhile, since waking the other
thread costs more than most calls.
"""

import logging
import random
import ssl
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pika
import structlog
import trio
from pika import exceptions, spec
from pika.adapters.select_connection import IOLoop, SelectConnection

from occd.config import RabbitmqConfig
from occd.errors import BrokerError, BrokerUnavailable, ConfigError, OccdError

log = structlog.get_logger()

PATIENCE_S = 5.0
"""How long a caller waits for a connection that is lost, or for an answer that does not come."""

RETRY_AFTER_S = 5

_HEARTBEAT_S = 10
_BACKOFF_S = 0.25
_BACKOFF_MAX_S = 10.0
_CLOSE_S = 2.0
_START_S = 30.0


class _Properties(spec.BasicProperties):  # type: ignore[misc]
    """Of a foreign message too: a table that pika cannot decode must not cost the connection, which
    would bring the same message again, for ever."""

    def decode(self, encoded: bytes, offset: int = 0) -> "_Properties":
        try:
            super().decode(encoded, offset)
        except Exception as error:
            log.warning("a message's properties cannot be read", error=str(error))
        return self


def parameters(config: RabbitmqConfig) -> Any:
    """What to connect to. Raises ConfigError when it cannot be read."""
    url = config.url.get_secret_value()
    try:
        parts = urlsplit(url)
        if parts.scheme not in ("amqp", "amqps") or not parts.hostname:
            raise ValueError
        found = pika.URLParameters(url)
    except (ValueError, TypeError, AttributeError):
        raise ConfigError(
            "rabbitmq.url: expected amqp://USER:PASSWORD@HOST:PORT/VHOST, or amqps:// for TLS"
        ) from None
    user = unquote(parts.username or "guest")
    if config.password_file:
        password = _read(config.password_file, "rabbitmq.password_file").rstrip("\r\n")
        found.credentials = pika.PlainCredentials(user, password)
    if parts.scheme == "amqps":
        found.ssl_options = pika.SSLOptions(_tls(config), parts.hostname)
    elif config.ca_file or config.cert_file or config.key_file:
        raise ConfigError("rabbitmq.url: TLS files are given, so it must start with amqps://")
    found.heartbeat = _HEARTBEAT_S
    found.socket_timeout = PATIENCE_S
    found.stack_timeout = 2 * PATIENCE_S
    found.connection_attempts = 1
    return found


def _tls(config: RabbitmqConfig) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=config.ca_file)
        if config.cert_file:
            context.load_cert_chain(config.cert_file, config.key_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"rabbitmq: ca_file, cert_file or key_file: {error}") from error
    return context


def _read(path: Path, setting: str) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{setting}: {error}") from error


class Link:
    """Use `open_link`. `up` and `down` are called in the owner thread, `failure` is for Trio's."""

    def __init__(self, name: str, parameters: Any) -> None:
        self.up: list[Callable[[Any], None]] = []
        self.down: list[Callable[[], None]] = []
        self.connection: Any = None
        """Only for the owner thread; None while there is none."""
        self.failure: OccdError | None = BrokerUnavailable("not connected yet", RETRY_AFTER_S)
        self.changed = trio.Event()
        self.ended = trio.Event()
        self.blocked = False
        self._name = name
        self._parameters = parameters
        self._token = trio.lowlevel.current_trio_token()
        self._loop = IOLoop()
        self._posted: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._told: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._post_due = self._tell_due = self._stopping = False
        self._failures = 0
        self._opening: Any = None
        self.thread = threading.Thread(target=self._run, name=f"occd-{name}", daemon=True)

    @property
    def where(self) -> str:
        return f"{self._parameters.host}:{self._parameters.port}"

    def post(self, call: Callable[..., None], *args: Any) -> None:
        """Call it in the owner thread, in order."""
        self._posted.append((call, args))
        if not self._post_due:
            self._post_due = True
            self._loop.add_callback_threadsafe(self._run_posted)

    def tell(self, call: Callable[..., None], *args: Any) -> None:
        """Call it in Trio's thread, in order."""
        self._told.append((call, args))
        if not self._tell_due:
            self._tell_due = True
            try:
                self._token.run_sync_soon(self._run_told)
            except trio.RunFinishedError:
                self._loop.stop()

    def later(self, delay_s: float, call: Callable[[], None]) -> None:
        """Call it in the owner thread, from which this is called as well."""
        self._loop.call_later(delay_s, call)

    async def wait_up(self) -> None:
        """Raises ConfigError as soon as no waiting will help."""
        while self.failure:
            if isinstance(self.failure, ConfigError):
                raise self.failure
            await self.changed.wait()

    def _run_posted(self) -> None:
        self._post_due = False  # before taking: what comes from now on wakes us again
        _run_all(self._posted)

    def _run_told(self) -> None:
        self._tell_due = False
        _run_all(self._told)

    def _run(self) -> None:
        self._connect()
        while not self._stopping:
            try:
                self._loop.start()
                break
            except Exception:  # of pika, since callbacks of ours are guarded: do not end over it
                log.exception("the connection to RabbitMQ failed", link=self._name)
                self._abort()
        self._loop.close()
        self.tell(self.ended.set)

    def _connect(self) -> None:
        if self._stopping:
            return
        self._opening = SelectConnection(
            self._parameters,
            on_open_callback=self._opened,
            on_open_error_callback=self._lost,
            on_close_callback=self._lost,
            custom_ioloop=self._loop,
        )

    def _opened(self, connection: Any) -> None:
        self._failures = 0
        connection.add_on_connection_blocked_callback(lambda *_: self._set_blocked(True))
        connection.add_on_connection_unblocked_callback(lambda *_: self._set_blocked(False))
        self.connection = connection
        self.tell(self._set_failure, None)
        for call in list(self.up):
            call(connection)

    def _lost(self, _connection: Any, error: Exception) -> None:
        was_up, self.connection, self.blocked = self.connection is not None, None, False
        for call in list(self.down) if was_up else ():
            call()
        if self._stopping:
            self._loop.stop()
            return
        failure = explain(error, self._parameters)
        delay = min(_BACKOFF_MAX_S, _BACKOFF_S * 2**self._failures) * random.uniform(0.5, 1)  # noqa: S311
        if was_up or self._failures in (0, 4) or self._failures % 16 == 15:
            log.warning("no connection to RabbitMQ", link=self._name, error=str(failure))
        self._failures = min(self._failures + 1, 1000)
        self.tell(self._set_failure, failure)
        self._loop.call_later(delay, self._connect)

    def _set_failure(self, failure: OccdError | None) -> None:
        self.failure = failure
        self.changed.set()
        self.changed = trio.Event()

    def _set_blocked(self, blocked: bool) -> None:
        log.warning(
            "RabbitMQ takes no messages now (memory or disk)" if blocked else "it does again"
        )
        self.blocked = blocked

    def stop(self) -> None:
        """In the owner thread: say goodbye, or end at once when there is nobody to say it to."""
        self._stopping = True
        if self.connection is not None and self.connection.is_open:
            self.connection.close()
        else:
            self._loop.stop()

    def _abort(self) -> None:
        """Drop the connection without a word, as a crash would; `_lost` follows."""
        connection = self.connection or self._opening
        if not connection.is_closed:
            connection._terminate_stream(exceptions.StreamLostError("dropped by its owner"))


@asynccontextmanager
async def open_link(name: str, parameters: Any) -> AsyncIterator[Link]:
    """Connected when it yields. Raises ConfigError at once for what only a person can mend,
    BrokerUnavailable when the server could not be reached for a while."""
    spec.props[spec.BasicProperties.INDEX] = _Properties
    logging.getLogger("pika").setLevel(
        logging.CRITICAL + 1
    )  # what it says with traces, we say in a line
    link = Link(name, parameters)
    link.thread.start()
    try:
        with trio.move_on_after(_START_S):
            await link.wait_up()
        if link.failure:
            raise link.failure
        yield link
    finally:
        link.post(link.stop)
        with trio.move_on_after(_CLOSE_S, shield=True):
            await link.ended.wait()
        if not link.ended.is_set():  # a server that does not answer
            link.post(link._loop.stop)
            with trio.move_on_after(_CLOSE_S, shield=True):
                await link.ended.wait()


def _run_all(calls: deque[tuple[Callable[..., None], tuple[Any, ...]]]) -> None:
    while calls:
        call, args = calls.popleft()
        try:
            call(*args)
        except exceptions.AMQPError as error:  # closed in between: its closing tells who must know
            log.debug("not done, as the connection is closing", error=repr(error))
        except Exception:
            log.exception("a call between the threads failed")


class Talk:
    """A channel for questions, one at a time. Each raises BrokerError: Unavailable when no answer
    came, or what the server said."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._channel: Any = None
        self._asked: _Asked | None = None

    async def declare(self, queue: str, arguments: dict[str, Any]) -> None:
        await self._ask(
            lambda channel, answer: channel.queue_declare(
                queue, durable=True, arguments=arguments, callback=answer
            )
        )

    async def depth(self, queue: str) -> int:
        """How many messages wait there."""
        (frame,) = await self._ask(
            lambda channel, answer: channel.queue_declare(queue, passive=True, callback=answer)
        )
        return int(frame.method.message_count)

    async def get(self, queue: str) -> tuple[int, Any, bytes] | None:
        """The next message's tag, properties and body. It goes back when the talk ends."""
        found = await self._ask(lambda channel, answer: channel.basic_get(queue, answer))
        if len(found) == 1:  # only the frame that says that there is none
            return None
        _, method, properties, body = found
        return method.delivery_tag, properties, body

    def ack(self, tag: int) -> None:
        self._link.post(lambda: self._channel.basic_ack(tag))

    async def _ask(self, question: Callable[[Any, Callable[..., None]], Any]) -> tuple[Any, ...]:
        asked = _Asked(self._link)
        self._link.post(self._start, asked, question)
        with trio.move_on_after(PATIENCE_S):
            await asked.done.wait()
        if asked.error:
            raise asked.error
        if not asked.done.is_set():
            raise BrokerUnavailable(
                f"RabbitMQ at {self._link.where} does not answer", RETRY_AFTER_S
            )
        return asked.answer

    def _start(self, asked: "_Asked", question: Callable[[Any, Callable[..., None]], Any]) -> None:
        connection, self._asked = self._link.connection, asked
        if connection is None or not connection.is_open:
            asked.fail(self._link.failure or unavailable(self._link.where))
        elif self._channel is None:

            def opened(channel: Any) -> None:
                channel.add_callback(
                    lambda frame: self._answer(frame), [spec.Basic.GetEmpty], False
                )
                question(channel, self._answer)

            self._channel = connection.channel(on_open_callback=opened)
            self._channel.add_on_close_callback(self._closed)
        elif self._channel.is_open:
            question(self._channel, self._answer)
        else:
            asked.fail(unavailable(self._link.where))

    def _answer(self, *answer: Any) -> None:
        if self._asked:
            self._asked.succeed(answer)

    def _closed(self, _channel: Any, reason: Exception) -> None:
        if self._asked:
            self._asked.fail(explain(reason, self._link._parameters))

    def close(self) -> None:
        """In the owner thread."""
        self._asked = None
        if self._channel is not None and self._channel.is_open:
            self._channel.close()


class _Asked:
    def __init__(self, link: Link) -> None:
        self._link = link
        self.done = trio.Event()
        self.answer: tuple[Any, ...] = ()
        self.error: Exception | None = None

    def succeed(self, answer: tuple[Any, ...]) -> None:
        self.answer = answer
        self._link.tell(self.done.set)

    def fail(self, error: Exception) -> None:
        self.error = error
        self._link.tell(self.done.set)


@asynccontextmanager
async def open_talk(link: Link) -> AsyncIterator[Talk]:
    talk = Talk(link)
    try:
        yield talk
    finally:
        link.post(talk.close)


def unavailable(where: str) -> BrokerUnavailable:
    return BrokerUnavailable(f"RabbitMQ at {where} cannot be reached", RETRY_AFTER_S)


def explain(error: BaseException, parameters: Any) -> OccdError:
    """pika's and the server's words as one line that says what to do, without the password."""
    where, user = f"{parameters.host}:{parameters.port}", parameters.credentials.username
    chain = list(_causes(error))
    text = _text(error)
    code = next((each.reply_code for each in chain if hasattr(each, "reply_code")), 0)
    if isinstance(error, exceptions.ChannelClosedByBroker):
        return _explain_channel(code, text)
    if any(isinstance(each, exceptions.ProbableAuthenticationError) for each in chain) or (
        code == 403
    ):
        return ConfigError(
            f"rabbitmq.url: {where} refuses the user {user!r} with this password; "
            "mend the URL or rabbitmq.password_file"
        )
    if any(isinstance(each, exceptions.ProbableAccessDeniedError) for each in chain) or code == 530:
        vhost = parameters.virtual_host
        return ConfigError(
            f"rabbitmq.url: {where} has no virtual host {vhost!r}, or {user!r} may not use it; "
            f"mend with: rabbitmqctl add_vhost {vhost}; "
            f"rabbitmqctl set_permissions -p {vhost} {user} '.*' '.*' '.*'"
        )
    if (wrong := next((each for each in chain if isinstance(each, ssl.SSLError)), None)) and (
        isinstance(wrong, ssl.SSLCertVerificationError) or "ALERT" in str(wrong)
    ):
        return ConfigError(
            f"rabbitmq: TLS with {where} fails ({wrong.reason or wrong}): "
            "see ca_file, cert_file, key_file, and the host name in the URL"
        )
    return BrokerUnavailable(f"RabbitMQ at {where} cannot be reached: {text}", RETRY_AFTER_S)


def _explain_channel(code: int, text: str) -> OccdError:
    if code == 406 and "inequivalent arg" in text:
        return ConfigError(
            f"rabbitmq: {text}. Somebody declared this queue otherwise: when it is empty, delete it "
            "(rabbitmqctl delete_queue), or name another, or give the settings it was declared with "
            "(rabbitmq.queue_type, queue.length_max)"
        )
    if code == 403:
        return ConfigError(
            f"rabbitmq: {text}; mend with: rabbitmqctl set_permissions (configure, write and read)"
        )
    return BrokerError(f"RabbitMQ refuses: {text}")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it wraps: pika nests them in arguments and attributes."""
    if error is None:
        return
    yield error
    inner = [*error.args, getattr(error, "exception", None), error.__cause__]
    for each in inner:
        if isinstance(each, BaseException) and each is not error:
            yield from _causes(each)


def _text(error: BaseException) -> str:
    """The innermost words."""
    last = list(_causes(error))[-1]
    reply = getattr(last, "reply_text", None)
    return str(reply or last or type(last).__name__)
