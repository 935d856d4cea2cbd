"""The client of a request behind trusted proxies, from the header X-Forwarded-For."""

import ipaddress
from collections.abc import Sequence
from functools import reduce
from operator import or_

from pyspark.sql import Column
from pyspark.sql import functions as F


def client_address(proxies: Sequence[str]) -> Column:
    """The right-most address that is no trusted proxy's, of those in `forwarded` and that of the connection.

    Each proxy appends the address that it was asked from. What stands left of the first address that is not trusted
    may have been made up by the client.
    """
    hops = F.array_append(F.split("forwarded", r"\s*,\s*"), F.col("addr"))
    # Some proxies add the port: 1.2.3.4:5678, [2001:db8::1]:5678.
    bare = F.transform(
        hops, lambda hop: F.regexp_replace(hop, r"^\s*(?:\[([^\]]*)\]|(\d+\.\d+\.\d+\.\d+))(?::\d+)?\s*\z", "$1$2")
    )
    addresses = F.filter(bare, lambda hop: _sortable(hop).isNotNull())
    clients = F.filter(addresses, lambda hop: ~_is_within(_sortable(hop), proxies))
    of_connection = F.col("addr")
    is_proxy = F.coalesce(_is_within(_sortable(of_connection), proxies), F.lit(False))
    return (
        F.when(~is_proxy, of_connection)
        .when(F.size(clients) > 0, F.try_element_at(clients, F.lit(-1)))
        .otherwise(F.try_element_at(addresses, F.lit(1)))
    )


def _is_within(address: Column, networks: Sequence[str]) -> Column:
    ranges = [ipaddress.ip_network(network, strict=False) for network in networks]
    return reduce(
        or_,
        [
            (F.length(address) == len(network.network_address.packed) * 2)
            & address.between(network.network_address.packed.hex(), network.broadcast_address.packed.hex())
            for network in ranges
        ],
    )


def _sortable(address: Column) -> Column:
    """An address as hexadecimal digits, 8 of IPv4 and 32 of IPv6; null for anything else."""
    v4 = F.regexp_extract(address, r"^(?:::ffff:)?(\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3})\z", 1)
    octets = F.transform(F.split(v4, r"\."), lambda octet: F.lpad(F.lower(F.hex(octet.try_cast("bigint"))), 2, "0"))

    def groups(part: Column) -> Column:
        texts = F.filter(F.split(part, ":"), lambda text: text != "")
        return F.array_join(F.transform(texts, lambda text: F.lpad(F.lower(text), 4, "0")), "")

    head, rest = groups(F.substring_index(address, "::", 1)), groups(F.substring_index(address, "::", -1))
    zeros = F.repeat(F.lit("0"), F.greatest(F.lit(0), F.lit(32) - F.length(head) - F.length(rest)))
    full = F.when(F.contains(address, F.lit("::")), F.concat(head, zeros, rest)).otherwise(head)
    is_v6 = F.rlike(address, F.lit(r"^(?=.*:)[\da-fA-F:]{2,39}\z")) & (F.length(full) == 32)
    return F.when(v4 != "", F.array_join(octets, "")).when(is_v6, full)
