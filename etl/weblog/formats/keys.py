"""What `weblog.site_from` and `weblog.visitor_key` may say: every command reads settings, and few need Spark."""

import re
from dataclasses import dataclass
from typing import Literal

SiteSource = Literal["none", "host", "referrer"]


@dataclass(frozen=True)
class VisitorKey:
    """What tells visitors apart: `address`, `address+agent`, `user`, or a cookie or field of a `name`."""

    kind: str = "address"
    name: str = ""

    @classmethod
    def parse(cls, text: str) -> "VisitorKey":
        """The key that a setting says.

        Raises:
            ValueError: it says none.
        """
        if text in ("address", "address+agent", "user"):
            return cls(text)
        if match := re.fullmatch(r"(cookie|field):(\S+)", text):
            return cls(match[1], match[2])
        raise ValueError(f"{text!r} is no key; write address, address+agent, user, cookie:NAME or field:NAME")


ADDRESS = VisitorKey()
