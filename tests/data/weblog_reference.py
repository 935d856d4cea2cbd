"""What the web-log tables must hold, computed in plain Python line by line: another route to the same rules."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from urllib.parse import urlsplit

STATIC = re.compile(
    r"\.(m?js|css|map|wasm|woff2?|ttf|eot|otf|a?png|jpe?g|jfif|gif|ico|cur|svgz?|webp|avif|jxl|heic|bmp|tiff?|mp3|mp4|m4[av]|"
    r"webm|og[gav]|opus|wav|flac|aac|mov|avi|m3u8|vtt|swf|webmanifest)$",
    re.IGNORECASE,
)
COMBINED = re.compile(
    rb'^(\S+) (\S+) (\S+(?: +[^\s\[]+)*|) \[([^\]]*)\] "((?:[^"\\]|\\.)*)" (\d{3}) (\d+|-)(?: "((?:[^"\\]|\\.)*)" "((?:[^"\\]|\\.)*)")?\s*$'
)
# strptime alone is too kind: it reads "6/feb/2026:0:0:0", too.
TIME = re.compile(r"\d\d/(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)/\d{4}:\d\d:\d\d:\d\d", re.ASCII)
CALENDAR = (date(1990, 1, 1), date(2059, 12, 31))  # the days of dim_date
REQUEST = re.compile(r"^(\S+) (\S.*?)(?: HTTP/\d(?:\.\d)?)?$", re.DOTALL)
GAP = timedelta(minutes=30)


@dataclass(frozen=True)
class Request:
    """One line that could be read."""

    addr: str
    at: datetime
    method: str | None
    request: str
    status: int
    referer: str
    agent: str

    @property
    def is_valid(self) -> bool:
        return self.method is not None and self.status < 400 and not STATIC.search(self.request.split("?")[0])

    @property
    def ref_host(self) -> str | None:
        return urlsplit(self.referer.replace('"', "")).hostname if self.referer != "-" else None


def parse(line: bytes) -> Request | None:
    """The request, or None for a line to quarantine."""
    found = COMBINED.match(line)
    if not found:
        return None
    try:
        addr, _, _, moment, said, status, _, referer, agent = ((part or b"-").decode() for part in found.groups())
        moment = moment[:20].replace(":59:60", ":59:59")  # a leap second
        at = datetime.strptime(moment, "%d/%b/%Y:%H:%M:%S")
    except ValueError:
        return None
    if not TIME.fullmatch(moment) or not CALENDAR[0] <= at.date() <= CALENDAR[1]:
        return None
    asked = REQUEST.match(said)
    return Request(addr, at, asked and asked[1], asked[2] if asked else said, int(status), referer or "-", agent or "-")


@dataclass
class Visit:
    """A run of a visitor's views."""

    views: list[Request] = field(default_factory=list)

    @property
    def row(self) -> tuple[str, str, str, str, str, str, int]:
        first, last = self.views[0], self.views[-1]
        return (first.addr, str(first.at), str(last.at), first.request, last.request, first.referer, len(self.views))


def visits(views: Sequence[Request]) -> list[Visit]:
    """Visits of all days, from views in the order of the log."""
    open_visit: dict[str, Visit] = {}
    found = []
    for view in sorted(views, key=lambda view: view.at):
        visit = open_visit.get(view.addr)
        if visit is None or view.at - visit.views[-1].at > GAP:
            visit = open_visit[view.addr] = Visit()
            found.append(visit)
        visit.views.append(view)
    return found


def funnel(found: Sequence[Visit], steps: Sequence[str]) -> list[int]:
    """Visitors who reached each step within one of the visits."""
    reached: list[set[str]] = [set() for _ in steps]
    for visit in found:
        step = 0
        for view in visit.views:
            if step < len(steps) and re.search(steps[step], view.request):
                reached[step].add(view.addr)
                step += 1
    return [len(visitors) for visitors in reached]


def top_hosts(views: Sequence[Request]) -> set[tuple[str, str, int, int]]:
    """(hour, host, pvs, rank) of the three hosts of each hour."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for view in views:
        if view.ref_host:
            counts[f"{view.at:%H}"][view.ref_host] += 1
    ranked = {hour: sorted(count.items(), key=lambda item: (-item[1], item[0]))[:3] for hour, count in counts.items()}
    return {(hour, host, pvs, n) for hour, top in ranked.items() for n, (host, pvs) in enumerate(top, 1)}


def of_day(views: Sequence[Request], day: date) -> list[Request]:
    return [view for view in views if view.at.date() == day]
