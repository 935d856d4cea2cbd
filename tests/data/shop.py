"""A small shop with columns of its own, on which nothing but these says who clicks what."""

import csv
import json
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

DAYS = [f"2026-05-{day:02d}" for day in range(1, 7)]
SITE = """
from conf.site import *

SITE = Site(
    "bike-shop",
    items=Items(
        Files("products.csv"),
        key="sku",
        title="label",
        columns={"Price (EUR)": Number(transform="log1p"), "brand": Category(buckets=64),
                 "uses": Tags(separator=",", slots=2, buckets=64), "label": Tokens(slots=2, buckets=64)},
    ),
    users=Users(Files("customers.jsonl"), key="customer", city="town", columns={"plan": Category(buckets=16)}),
    impressions=Impressions(
        Files("shown-*.csv"), user="who", item="what", clicked="bought_it", at="when", position="place",
        columns={"weather": Category(buckets=16), "margin": Weight(), "reviewed": Outcome("review")},
    ),
    actions=[Action("add_to_cart", Files("carts/{date}.csv"), user="who", item="what", at="when")],
    features=[
        Cross(("user_plan", "item_brand", "context_weather"), name="plan_brand_weather"),
        Rate(("user_plan", "item_brand")), Rate(("item_id", "context_weather", "position"), name="wet_rate"),
        Rate(("city",)), Rate(("item_brand",), days=2),
        Last("add_to_cart", 5), Last("click", 10, of="item_brand", name="clicked_brands"),
        Dense("dear_for_plan", "item_price_eur / position", "price by place", default=0.0),
    ],
)
"""
BRANDS, PLANS, WEATHER = ("acme", "bolt", "cora", "dent"), ("free", "pro"), ("rain", "sun")
YES_NO = {False: "no", True: "yes"}


def write_shop(folder: Path, *, seed: int = 5, users: int = 100, items: int = 40, shown: int = 5000) -> Path:
    """Write the shop's files and its declaration; returns the declaration."""
    rng = np.random.default_rng(seed)
    (folder / "carts").mkdir(parents=True)
    with (folder / "products.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["sku", "label", "Price (EUR)", "brand", "uses"])
        for item in range(items):
            uses = ",".join(("road", "city", "trail")[: 1 + item % 3])
            price = "on request" if item == 3 else f"{9.5 + 20 * item}"
            rows.writerow([f"p{item}", f"part {item}", price, BRANDS[item % 4], uses])
    with (folder / "customers.jsonl").open("w") as file:
        for user in range(users):
            file.write(json.dumps({"customer": f"c{user}", "town": f"t{user % 3}", "plan": PLANS[user % 2]}) + "\n")
    start = datetime(2026, 5, 1)
    moments = sorted(start + timedelta(seconds=int(s)) for s in rng.integers(0, len(DAYS) * 86_400, shown))
    files = {day: (folder / f"shown-{day}.csv").open("w", newline="") for day in DAYS}
    carts = {day: (folder / "carts" / f"{day}.csv").open("w", newline="") for day in DAYS}
    writers = {day: csv.writer(file, delimiter=";") for day, file in files.items()}
    for day in DAYS:
        writers[day].writerow(["when", "who", "what", "place", "weather", "margin", "bought_it", "reviewed"])
        carts[day].write("when,who,what\n")
    for at in moments:
        user, item, wet = int(rng.integers(users)), int(rng.integers(items)), int(rng.integers(2))
        # Who pays wants acme and bolt when it rains, and the others then want cora and dent.
        fits = (user % 2 == 1) == (item % 4 < 2) == (wet == 0)
        clicked = rng.random() < (0.6 if fits else 0.08)
        day = at.date().isoformat()
        place, margin = 1 + int(rng.integers(5)), 1 + item % 3 / 2
        row = [at.isoformat(), f"c{user}", f"p{item}", place, WEATHER[wet], margin, YES_NO[clicked]]
        in_cart = clicked and rng.random() < 0.3
        writers[day].writerow([*row, YES_NO[bool(in_cart)]])
        if in_cart:
            carts[day].write(f"{at.isoformat()},c{user},p{item}\n")
    for file in (*files.values(), *carts.values()):
        file.close()
    site = folder / "site.py"
    site.write_text(SITE.lstrip())
    return site
