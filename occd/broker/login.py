"""The address and credentials of RabbitMQ; and its errors, each as one line that says what to do."""

import re
import ssl
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote, urlsplit

import pika
from pika import exceptions

from occd.config import RabbitmqConfig
from occd.errors import BrokerError, BrokerUnavailable, ConfigError, OccdError
from occd.settings import check_readable, read_password

RETRY_AFTER_S = 5

_CONNECT_S = 5.0
_HEARTBEAT_S = 10
_TLS = re.compile(r"\[SSL: (\w+)\]")


def parameters(config: RabbitmqConfig) -> Any:
    """The parameters of a connection. Raises ConfigError when the settings cannot be used."""
    url = config.url.get_secret_value()
    try:
        parts = urlsplit(url)
        if parts.scheme not in ("amqp", "amqps") or not parts.hostname:
            raise ValueError
        where = parts._replace(netloc=parts.netloc.rpartition("@")[2])
        found = pika.URLParameters(where.geturl())
    except (ValueError, TypeError, AttributeError):
        raise ConfigError(
            "rabbitmq.url: expected amqp://USER:PASSWORD@HOST:PORT/VHOST, or amqps:// for TLS"
        ) from None
    user = unquote(parts.username or "guest")
    password = unquote(parts.password or ("" if parts.username else "guest"))
    if config.password_file:
        password = read_password(config.password_file, "rabbitmq.password_file")
    found.credentials = pika.PlainCredentials(user, password)
    if parts.scheme == "amqps":
        found.ssl_options = pika.SSLOptions(_tls(config), parts.hostname)
    elif config.ca_file or config.cert_file or config.key_file:
        raise ConfigError("rabbitmq.url: TLS files are given, so it must start with amqps://")
    found.heartbeat = _HEARTBEAT_S
    found.socket_timeout = _CONNECT_S
    found.stack_timeout = 2 * _CONNECT_S
    found.connection_attempts = 1
    return found


def _tls(config: RabbitmqConfig) -> ssl.SSLContext:
    for name in ("ca_file", "cert_file", "key_file"):
        if path := getattr(config, name):
            check_readable(path, f"rabbitmq.{name}")
    try:
        context = ssl.create_default_context(cafile=config.ca_file)
        if config.cert_file:
            context.load_cert_chain(config.cert_file, config.key_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            "rabbitmq: ca_file, cert_file or key_file: they are not in PEM, or the key "
            f"belongs to another certificate ({getattr(error, 'reason', None) or error})"
        ) from error
    return context


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
    tls = _TLS.search(" ".join(map(repr, chain)))
    if tls and any(word in tls[1] for word in ("CERT", "ALERT", "VERSION")):
        why = next((each.verify_message for each in chain if hasattr(each, "verify_message")), "")
        return ConfigError(
            f"rabbitmq: TLS with {where} fails ({why or tls[1].replace('_', ' ').lower()}): see ca_file, "
            "cert_file and key_file, and the host name and port in the URL"
        )
    if code == 541:
        return BrokerUnavailable(
            f"RabbitMQ at {where} has an error of its own ({text}), which its log explains; if the error "
            "stays, restart RabbitMQ: after a crash its quorum queues may stay down",
            RETRY_AFTER_S,
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
    inner = [
        *error.args,
        *getattr(error, "exceptions", ()),
        getattr(error, "exception", None),
        error.__cause__,
    ]
    for each in inner:
        if isinstance(each, BaseException) and each is not error:
            yield from _causes(each)


def _text(error: BaseException) -> str:
    """The innermost words."""
    last = list(_causes(error))[-1]
    words = getattr(last, "reply_text", None) or getattr(last, "strerror", None) or str(last)
    return str(words) or type(last).__name__
