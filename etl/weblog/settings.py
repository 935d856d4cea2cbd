"""Settings of the web logs: limits of lines and days, areas, funnels."""

import ipaddress
import re
from datetime import date
from pathlib import Path
from typing import ClassVar

from pydantic import Field, field_validator

from conf import Settings
from etl.weblog.formats.catalog import declared_formats
from etl.weblog.formats.keys import SiteSource, VisitorKey


class WeblogSettings(Settings):
    """Rules for web logs."""

    section: ClassVar[str] = "weblog"

    max_line_bytes: int = Field(default=65536, gt=0)
    """A longer line is quarantined: no browser or server sends one."""
    first_day: date = date(1990, 1, 1)
    """The calendar (dim_date) begins here; a line of an earlier day is quarantined."""
    last_day: date = date(2059, 12, 31)
    """The calendar ends here."""
    area_table: Path | None = None
    """CSV file with columns network (CIDR) and area: then visitors have areas (dim_area)."""
    log_format: str | dict[str, str] | None = None
    """Format of the lines: a name of docs/weblog.md, an nginx log_format, an Apache LogFormat, a W3C #Fields line or a
    JSON mapping of fields to paths; detected for each file when not given."""
    static_suffixes: list[str] = Field(default_factory=list)
    """Suffixes of files that are no page views, such as pdf, beside those of scripts, styles, fonts and media."""
    trusted_proxies: list[str] = Field(default_factory=list)
    """Networks (CIDR) of own proxies: a visitor's address is then the right-most one of X-Forwarded-For that is in none
    of them."""
    visitor_key: str = "address"
    """What tells visitors apart: address, address+agent, user, cookie:NAME or field:NAME; a line without it has its
    address."""
    site_from: SiteSource = "none"
    """The site of a request: none (all are one site), host (asked for), or referrer (of static files that of the page
    around them); visits are then of one site."""
    hosts: list[str] = Field(default_factory=list)
    """Sites whose requests count, as www.example.org or *.example.org; those of others are invalid. All when empty."""
    funnels: dict[str, list[str]] = Field(default_factory=dict)
    """Name -> regular expressions of URLs, in order; `main` names its steps step1, step2 …, others NAME.step1 …"""

    @field_validator("log_format")
    @classmethod
    def _is_format(cls, declaration: str | dict[str, str] | None) -> str | dict[str, str] | None:
        declared_formats(declaration)
        return declaration

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, networks: list[str]) -> list[str]:
        for network in networks:
            try:
                ipaddress.ip_network(network, strict=False)
            except ValueError as error:
                raise ValueError(f"{error}; write a network as 10.0.0.0/8") from None
        return networks

    @field_validator("visitor_key")
    @classmethod
    def _is_visitor_key(cls, key: str) -> str:
        VisitorKey.parse(key)
        return key

    @field_validator("hosts")
    @classmethod
    def _are_hosts(cls, hosts: list[str]) -> list[str]:
        for host in hosts:
            if not re.fullmatch(r"(\*\.)?[^\s/:*]+|\[[\da-fA-F:.]+\]", host):
                raise ValueError(f"{host!r} is no host: write it as www.example.org or *.example.org")
        return hosts

    @field_validator("static_suffixes")
    @classmethod
    def _are_suffixes(cls, suffixes: list[str]) -> list[str]:
        for suffix in suffixes:
            if not re.fullmatch(r"\.?[\w-]+", suffix):
                raise ValueError(f"{suffix!r} is no suffix: write it as pdf")
        return suffixes

    @field_validator("funnels")
    @classmethod
    def _are_patterns(cls, funnels: dict[str, list[str]]) -> dict[str, list[str]]:
        for name, steps in funnels.items():
            if not steps:
                raise ValueError(f"funnel {name} has no steps")
            for step in steps:
                try:
                    re.compile(step)
                except re.error as error:
                    raise ValueError(f"{step!r} is no regular expression: {error}") from None
        return funnels
