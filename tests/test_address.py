"""The address of a client is the connection's, and a proxy's word counts only where the proxy is trusted."""

from ipaddress import ip_network

import pytest

from occd.quotas import records_of
from occd.web.address import client_network, payer_of, share_of

PROXIES = [ip_network("10.0.0.0/8"), ip_network("fd00::/8")]


@pytest.mark.parametrize(
    ("peer", "forwarded", "found"),
    {
        "nobody in between": ("203.0.113.7", [], "203.0.113.7"),
        "a lie": ("203.0.113.7", ["198.51.100.1"], "203.0.113.7"),
        "a proxy": ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        "a lie before the proxy": ("10.0.0.1", ["192.0.2.9, 198.51.100.1"], "198.51.100.1"),
        "a lie that names a proxy": ("10.0.0.1", ["10.0.0.5, 198.51.100.1"], "198.51.100.1"),
        "two proxies": ("10.0.0.1", ["198.51.100.1, 10.0.0.2"], "198.51.100.1"),
        "two headers": ("10.0.0.1", ["192.0.2.9", "198.51.100.1"], "198.51.100.1"),
        "a proxy that says nothing": ("10.0.0.1", [], "10.0.0.1"),
        "no address": ("10.0.0.1", ["unknown"], "10.0.0.1"),
        "with a port": ("10.0.0.1", ["198.51.100.1:4711"], "198.51.100.1"),
        "IPv6 with a port": ("fd00::1", ["[2001:db8::7]:4711"], "2001:db8::7"),
        "IPv4 in IPv6": ("::ffff:10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        "a zone": ("fe80::1%eth0", [], "fe80::1"),
        "a client that has left": ("", ["198.51.100.1"], "0.0.0.0"),
        "very many": ("10.0.0.1", [",".join(["10.0.0.2"] * 100_000)], "10.0.0.2"),
    }.values(),
)
def test_what_a_trusted_proxy_says_is_believed(peer: str, forwarded: list[str], found: str) -> None:
    assert client_network(peer, forwarded, PROXIES) == ip_network(found)


def test_a_client_counts_with_its_household() -> None:
    assert share_of(ip_network("2001:db8:1:2:3:4:5:6")) == "addr:2001:db8:1:2::"
    assert share_of(ip_network("198.51.100.1")) == "addr:198.51.100.1"


def test_a_household_pays_with_its_site() -> None:
    wide = payer_of(ip_network("2001:db8:1:2:3:4:5:6"))
    assert records_of(wide) == ["addr:2001:db8:1:2::", "addr:2001:db8:1::/48"]
    assert records_of(payer_of(ip_network("198.51.100.1"))) == ["addr:198.51.100.1"]
    assert records_of("key:a b") == ["key:a b"]
