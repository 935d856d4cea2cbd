"""Areas of addresses, from a table of networks that the user has: a CSV with columns `network` (CIDR) and `area`."""

import csv
import ipaddress
from bisect import bisect_right
from functools import cache
from pathlib import Path
from typing import NamedTuple

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from conf import UserError

NO_PARENT = -1


class Network(NamedTuple):
    """A range of addresses as integers, both ends included, and the index of the smallest network that contains it."""

    first: int
    last: int
    area: str
    parent: int = NO_PARENT


def locate_visitors(views: DataFrame, table: Path) -> DataFrame:
    """dim_area: each address of each day's page views with its area, null where no network contains it.

    Python sees only the distinct addresses, and its workers read the table themselves: it must lie under the same path
    on every executor.

    Args:
        views: page views, of one or several days.
        table: the CSV of networks, as an absolute path.

    Raises:
        UserError: if the table is missing, lacks a column or has a bad network.
    """
    load_networks(str(table))  # a bad table fails here, with one line, and not in a worker
    find = F.udf(lambda address: area_of(address, str(table)), "string", useArrow=False)
    return views.select("datestr", "remote_addr").distinct().withColumn("area", find("remote_addr"))


def area_of(address: str, table: str) -> str | None:
    """The area of the smallest network that contains the address (longest prefix match); None for host names, too.

    CIDR networks contain one another or are disjoint. The match is therefore the last network that begins at or before
    the address, or one of its parents: one binary search, and a few steps up.

    Args:
        address: an IPv4 or IPv6 address as the log has it.
        table: path of the CSV of networks.

    Raises:
        UserError: as `load_networks`.
    """
    try:
        target = ipaddress.ip_address(address)
    except ValueError:  # a host name, where the server resolves addresses
        return None
    networks = load_networks(table).get(target.version, [])
    index = bisect_right(networks, int(target), key=lambda network: network.first) - 1
    while index != NO_PARENT:
        network = networks[index]
        if int(target) <= network.last:
            return network.area
        index = network.parent
    return None


@cache  # one table for the life of a process, in the driver as in each Python worker
def load_networks(table: str) -> dict[int, list[Network]]:
    """Read the table of networks.

    Args:
        table: path of a CSV with the columns `network` (CIDR) and `area`.

    Returns:
        Networks by IP version, ordered by first address, larger ones first.

    Raises:
        UserError: if the file is missing, lacks a column or has a bad network; names the line.
    """
    by_version: dict[int, list[Network]] = {}
    try:
        with Path(table).open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            for row in reader:
                cidr = ipaddress.ip_network(row["network"].strip())
                network = Network(int(cidr.network_address), int(cidr.broadcast_address), row["area"])
                by_version.setdefault(cidr.version, []).append(network)
    except FileNotFoundError:
        raise UserError(f"no such file: {table} (weblog.area_table)") from None
    except (KeyError, AttributeError):  # no such column, or a row that is too short
        raise UserError(f"{table} needs the columns network and area in its first line") from None
    except ValueError as error:
        raise UserError(f"{table}, line {reader.line_num}: {error}") from None
    return {version: _link_parents(networks) for version, networks in by_version.items()}


def _link_parents(networks: list[Network]) -> list[Network]:
    """Sort the networks and give each the index of the one around it: a sweep with a stack of open networks."""
    ordered = sorted(networks, key=lambda network: (network.first, -network.last))
    linked: list[Network] = []
    stack: list[int] = []
    for index, network in enumerate(ordered):
        while stack and ordered[stack[-1]].last < network.first:
            stack.pop()
        linked.append(network._replace(parent=stack[-1] if stack else NO_PARENT))
        stack.append(index)
    return linked
