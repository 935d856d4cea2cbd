"""The same traffic as nginx would log it: pages, static files, bots, monitors, search engines, and broken lines."""

from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np

from etl.simulator.traffic import MS_PER_DAY, Block
from etl.simulator.world import World

SITE = "https://www.example.com"
AGENTS = (
    "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Mobile Safari/537.36",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Safari/537.36",
    "Mozilla/5.0 (iPad; CPU OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Safari/604.1",
)
BOTS = (
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "Mozilla/5.0 (compatible; Baiduspider/2.0; +http://www.baidu.com/search/spider.html)",
    "Feedly/1.0 (+http://www.feedly.com/fetcher.html; 42 subscribers)",
)
MONITOR = "DNSPod-Monitor/1.0"
REFERRERS = (
    "-",
    f"{SITE}/",
    "https://www.google.com/search?q=things",
    "https://www.baidu.com/s?wd=news&id=7",
    "http://t.co/x",
)
REFERRER_SHARE = (0.45, 0.3, 0.12, 0.09, 0.04)
STATIC = ("/static/site.css", "/static/app.js", "/static/logo.png", "/favicon.ico")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def write_block(world: World, block: Block, day: date, day_index: int, folder: Path) -> int:
    """Write one block's log lines in the order of their times; returns how many."""
    rng = world.rng(400, day_index, block.number)
    timed = _visitors(world, block, rng) + _machines(world, len(block.users), rng)
    timed.sort(key=lambda line: line[0])
    clock = _Clock(day)
    lines = [f"{host} - - [{clock.at(ms)}] {rest}" for ms, host, rest in timed]
    if block.number == 0:
        lines[len(lines) // 2 : len(lines) // 2] = _broken(lines, day)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"access-{block.number:04d}.log").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return len(lines)


def _visitors(world: World, block: Block, rng: np.random.Generator) -> list[tuple[int, str, str]]:
    lines = []
    referrers = rng.choice(len(REFERRERS), len(block.users), p=REFERRER_SHARE)
    assets = rng.integers(0, len(STATIC), (len(block.users), 3))
    for row, user in enumerate(block.users.tolist()):
        at, host, agent = int(block.at_ms[row]), _address(user), AGENTS[world.user_device[user]]
        page = f"/feed?page={1 + row % 3}"
        lines.append(
            (at, host, f'"GET {page} HTTP/1.1" 200 {5000 + row % 900} "{REFERRERS[referrers[row]]}" "{agent}"')
        )
        for asset in assets[row, : 2 + row % 2].tolist():
            status = 304 if asset % 2 else 200
            lines.append((at + 40, host, f'"GET {STATIC[asset]} HTTP/1.1" {status} 812 "{SITE}{page}" "{agent}"'))
        for place in np.flatnonzero(block.is_clicked[row]).tolist():
            clicked = at + int(block.click_delay_ms[row, place])
            url = f"/item/{block.items[row, place]}?from=feed&pos={place + 1}"
            lines.append((clicked, host, f'"GET {url} HTTP/1.1" 200 7214 "{SITE}{page}" "{agent}"'))
    return lines


def _machines(world: World, num_requests: int, rng: np.random.Generator) -> list[tuple[int, str, str]]:
    lines = []
    for _ in range(num_requests // 4):
        at, bot = int(rng.integers(0, MS_PER_DAY)), int(rng.integers(0, len(BOTS)))
        status = 200 if rng.random() < 0.93 else 404
        url = f"/item/{rng.integers(world.num_items)}"
        lines.append((at, f"66.249.64.{bot + 1}", f'"GET {url} HTTP/1.1" {status} 6120 "-" "{BOTS[bot]}"'))
    for at in range(0, MS_PER_DAY, 600_000):
        lines.append((at, "119.28.0.7", f'"HEAD / HTTP/1.1" 200 20 "-" "{MONITOR}"'))
    return lines


def _broken(lines: list[str], day: date) -> list[str]:
    stamp = _Clock(day).at(MS_PER_DAY // 2)
    empty = f'183.49.46.228 - - [{stamp}] "-" 400 0 "-" "-"'
    return [lines[0][: len(lines[0]) // 2], "", empty, "\\x16\\x03\\x01 garbage", lines[1].replace("[", "[99/")]


class _Clock:
    """Formats milliseconds of a day; a click after midnight still belongs to this day's file."""

    def __init__(self, day: date) -> None:
        self._midnight = datetime(day.year, day.month, day.day)

    def at(self, ms: int) -> str:
        moment = self._midnight + timedelta(milliseconds=ms)
        return f"{moment.day:02d}/{MONTHS[moment.month - 1]}/{moment.year}:{moment:%H:%M:%S} +0000"


def _address(user: int) -> str:
    return f"10.{user >> 16 & 255}.{user >> 8 & 255}.{user & 255}"
