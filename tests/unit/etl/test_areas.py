"""The smallest network that holds an address, against a search through all of them."""

import ipaddress
import random
from pathlib import Path

import pytest

from conf import UserError
from etl.weblog.areas import area_of


def table(folder: Path, *rows: str, head: str = "network,area") -> str:
    path = folder / "networks.csv"
    path.write_text("\n".join([head, *rows]) + "\n")
    return str(path)


def test_the_smallest_network_wins(tmp_path: Path) -> None:
    known = table(
        tmp_path, "10.0.0.0/8,big", "10.1.0.0/16,small", "10.1.0.0/30,tiny", "2001:db8::/32,six", '1.2.3.0/24,"a, b"'
    )
    found = [
        area_of(address, known)
        for address in ("10.1.0.2", "10.1.0.9", "10.2.0.0", "11.0.0.0", "2001:db8::1", "1.2.3.4")
    ]
    assert found == ["tiny", "small", "big", None, "six", "a, b"]
    assert area_of("proxy.example.com", known) is None


def test_it_agrees_with_a_search_through_all(tmp_path: Path) -> None:
    chance = random.Random(4)
    some = {
        ipaddress.ip_network((chance.getrandbits(12) << 20, length), strict=False)
        for length in range(1, 25)
        for _ in range(6)
    }
    known = table(tmp_path, *[f"{network},{network}" for network in some])
    for _ in range(3000):
        address = ipaddress.ip_address(chance.getrandbits(32))
        holding = max((net for net in some if address in net), key=lambda net: net.prefixlen, default=None)
        assert area_of(str(address), known) == (str(holding) if holding else None)


def test_a_bad_table_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"line 3: '10.0.0.0/99' does not appear"):
        area_of("1.1.1.1", table(tmp_path, "1.0.0.0/8,a", "10.0.0.0/99,b"))
    with pytest.raises(UserError, match="no such file"):
        area_of("1.1.1.1", str(tmp_path / "none.csv"))
    (tmp_path / "other").mkdir()
    with pytest.raises(UserError, match="needs the columns network and area"):
        area_of("1.1.1.1", table(tmp_path / "other", "1.0.0.0/8,a", head="cidr,where"))
