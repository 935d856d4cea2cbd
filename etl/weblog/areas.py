"""Where addresses are, from a table of networks that the user has: a CSV with columns `network` (CIDR) and `area`."""

import csv
import ipaddress
from bisect import bisect_right
from functools import cache
from pathlib import Path

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from conf import UserError


def areas(views: DataFrame, table: Path) -> DataFrame:
    """dim_area: each address of the days with the area of the smallest network that holds it, null for none.

    Python sees only the distinct addresses; its workers read the table themselves. Raises UserError for a bad table.
    """
    networks(str(table))
    find = F.udf(lambda address: area_of(address, str(table)), "string", useArrow=False)
    return views.select("datestr", "remote_addr").distinct().withColumn("area", find("remote_addr"))


def area_of(address: str, table: str) -> str | None:
    """The area of the smallest network that holds the address.

    Networks hold one another or have nothing in common: it is the last that begins before the address, or a holder.
    """
    try:
        wanted = ipaddress.ip_address(address)
    except ValueError:  # a host name
        return None
    known = networks(table).get(wanted.version, [])
    place = bisect_right(known, int(wanted), key=lambda network: network[0]) - 1
    while place >= 0:
        _, last, area, holder = known[place]
        if int(wanted) <= last:
            return area
        place = holder
    return None


@cache
def networks(table: str) -> dict[int, list[tuple[int, int, str, int]]]:
    """By IP version, in order: first and last address, area, and the place of the network that holds it (-1: none)."""
    found: dict[int, list[tuple[int, int, str]]] = {}
    try:
        with Path(table).open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            for row in reader:
                network = ipaddress.ip_network(row["network"].strip())
                cells = (int(network.network_address), int(network.broadcast_address), row["area"])
                found.setdefault(network.version, []).append(cells)
    except FileNotFoundError:
        raise UserError(f"no such file: {table} (weblog.area_table)") from None
    except (KeyError, AttributeError):
        raise UserError(f"{table} needs the columns network and area in its first line") from None
    except ValueError as error:
        raise UserError(f"{table}, line {reader.line_num}: {error}") from None
    return {version: _nested(sorted(rows, key=lambda row: (row[0], -row[1]))) for version, rows in found.items()}


def _nested(rows: list[tuple[int, int, str]]) -> list[tuple[int, int, str, int]]:
    nested: list[tuple[int, int, str, int]] = []
    holders: list[int] = []
    for place, (first, last, area) in enumerate(rows):
        while holders and rows[holders[-1]][1] < first:
            holders.pop()
        nested.append((first, last, area, holders[-1] if holders else -1))
        holders.append(place)
    return nested
