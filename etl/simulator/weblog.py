"""The same traffic as nginx would log it: pages, static files, crawlers, monitors, search engines, malformed lines."""

from datetime import date, datetime, time, timedelta
from pathlib import Path

import numpy as np

from etl.simulator.traffic import MS_PER_DAY, RequestBlock
from etl.simulator.world import World

SITE = "https://www.example.com"
# In the order of world.DEVICES.
AGENTS = (
    "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Mobile Safari/537.36",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Safari/537.36",
    "Mozilla/5.0 (iPad; CPU OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Safari/604.1",
)
CRAWLERS = (
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "Mozilla/5.0 (compatible; Baiduspider/2.0; +http://www.baidu.com/search/spider.html)",
    "Feedly/1.0 (+http://www.feedly.com/fetcher.html; 42 subscribers)",
)
MONITOR = "DNSPod-Monitor/1.0"
MONITOR_PERIOD_MS = 600_000
REFERRERS = (
    "-",
    f"{SITE}/",
    "https://www.google.com/search?q=things",
    "https://www.baidu.com/s?wd=news&id=7",
    "http://t.co/x",
)
REFERRER_SHARE = (0.45, 0.3, 0.12, 0.09, 0.04)
STATIC = ("/static/site.css", "/static/app.js", "/static/logo.png", "/favicon.ico")
MONTHS = (
    "Jan",
    "Feb",
    "Mar",
    "Apr",
    "May",
    "Jun",
    "Jul",
    "Aug",
    "Sep",
    "Oct",
    "Nov",
    "Dec",
)

LogEntry = tuple[int, str, str]  # milliseconds since midnight, address, the line after its time


def write_block(world: World, block: RequestBlock, day: date, day_index: int, folder: Path) -> int:
    """Write one block's log lines in the order of their times, as `access-NNNN.log` in combined format.

    A click after midnight still belongs to this day's file, with the next day's date. The day's first block also has
    a few malformed lines in its middle.

    Returns:
        The number of lines.
    """
    rng = world.rng(400, day_index, block.number)
    entries = _visitor_entries(world, block, rng) + _machine_entries(world, len(block.users), rng)
    entries.sort(key=lambda entry: entry[0])  # by time only: entries of one moment stay in order
    lines = [f"{host} - - [{_nginx_time(day, at_ms)}] {rest}" for at_ms, host, rest in entries]
    if block.number == 0:
        lines[len(lines) // 2 : len(lines) // 2] = _malformed_lines(lines, day)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"access-{block.number:04d}.log").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return len(lines)


def _visitor_entries(world: World, block: RequestBlock, rng: np.random.Generator) -> list[LogEntry]:
    """For each request a page, two or three static files of it, and a page per click."""
    entries = []
    referrers = rng.choice(len(REFERRERS), len(block.users), p=REFERRER_SHARE)  # (n,)
    assets = rng.integers(0, len(STATIC), (len(block.users), 3))  # (n, 3)
    for row, user in enumerate(block.users.tolist()):
        at_ms, agent = int(block.at_ms[row]), AGENTS[world.user_device[user]]
        host = f"10.{user >> 16 & 255}.{user >> 8 & 255}.{user & 255}"  # a private address per user
        page, referrer = f"/feed?page={1 + row % 3}", REFERRERS[referrers[row]]
        entries.append((at_ms, host, f'"GET {page} HTTP/1.1" 200 {5000 + row % 900} "{referrer}" "{agent}"'))
        for asset in assets[row, : 2 + row % 2].tolist():
            status = 304 if asset % 2 else 200
            request = f'"GET {STATIC[asset]} HTTP/1.1" {status} 812'
            entries.append((at_ms + 40, host, f'{request} "{SITE}{page}" "{agent}"'))
        for column in np.flatnonzero(block.is_clicked[row]).tolist():
            clicked_at_ms = at_ms + int(block.click_delay_ms[row, column])
            url = f"/item/{block.items[row, column]}?from=feed&pos={column + 1}"
            entries.append((clicked_at_ms, host, f'"GET {url} HTTP/1.1" 200 7214 "{SITE}{page}" "{agent}"'))
    return entries


def _machine_entries(world: World, num_requests: int, rng: np.random.Generator) -> list[LogEntry]:
    """Crawlers that fetch random items, one for every four requests of people, and a monitor every ten minutes."""
    entries = []
    for _ in range(num_requests // 4):
        at_ms, crawler = int(rng.integers(0, MS_PER_DAY)), int(rng.integers(0, len(CRAWLERS)))
        status = 200 if rng.random() < 0.93 else 404
        url = f"/item/{rng.integers(world.num_items)}"
        rest = f'"GET {url} HTTP/1.1" {status} 6120 "-" "{CRAWLERS[crawler]}"'
        entries.append((at_ms, f"66.249.64.{crawler + 1}", rest))
    for at_ms in range(0, MS_PER_DAY, MONITOR_PERIOD_MS):
        entries.append((at_ms, "119.28.0.7", f'"HEAD / HTTP/1.1" 200 20 "-" "{MONITOR}"'))
    return entries


def _malformed_lines(lines: list[str], day: date) -> list[str]:
    """A truncated line, an empty one, a request without URL, a TLS handshake on a plain port, and a bad date."""
    no_url = f'183.49.46.228 - - [{_nginx_time(day, MS_PER_DAY // 2)}] "-" 400 0 "-" "-"'
    truncated, bad_date = lines[0][: len(lines[0]) // 2], lines[1].replace("[", "[99/")
    return [truncated, "", no_url, "\\x16\\x03\\x01 garbage", bad_date]


def _nginx_time(day: date, at_ms: int) -> str:
    """`07/Jan/2026:13:05:59 +0000`, of milliseconds since the day's midnight."""
    moment = datetime.combine(day, time()) + timedelta(milliseconds=at_ms)
    return f"{moment.day:02d}/{MONTHS[moment.month - 1]}/{moment.year}:{moment:%H:%M:%S} +0000"
