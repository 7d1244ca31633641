"""The address of a client, also behind proxies."""

from collections.abc import Sequence
from ipaddress import IPv6Address, ip_address, ip_network

from occd.accounts import Network, is_within
from occd.quotas import ADDRESS

_HOPS_MAX = 32
_UNKNOWN = ip_network("0.0.0.0/32")


def client_network(peer: str, forwarded: Sequence[str], proxies: Sequence[Network]) -> Network:
    """The client, as a network of one address. `peer` is who is connected, `forwarded` are the values of the
    headers `X-Forwarded-For`. Each proxy of ours has added the address of its own peer at the end, so the
    last address that is not a proxy's is the client's. What stands before that address, the client may have
    made up."""
    found = _network(peer) or _UNKNOWN
    hops = [each.strip() for each in ",".join(forwarded).split(",")][-_HOPS_MAX:]
    for hop in reversed(hops):
        if not any(is_within(found, proxy) for proxy in proxies):
            break
        if (further := _network(hop)) is None:
            break
        found = further
    return found


def share_of(network: Network) -> str:
    """The name under which a client is counted. A household has a whole /64 of IPv6."""
    if network.version == 6:
        network = network.supernet(new_prefix=64)
    return f"{ADDRESS}{network.network_address}"


def payer_of(network: Network) -> str:
    """The name of this client as a payer. A site of IPv6 has a /48, and so 65,536 households: what they use
    together is bounded, too."""
    if network.version == 6:
        return f"{share_of(network)} {network.supernet(new_prefix=48)}"
    return share_of(network)


def _network(text: str) -> Network | None:
    """Also of an address in brackets, and with a port, as some proxies write."""
    bare = text.partition("]")[0].strip("[") if text.startswith("[") else text
    if bare.count(":") == 1:
        bare = bare.partition(":")[0]
    try:
        address = ip_address(bare.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return ip_network(address)
