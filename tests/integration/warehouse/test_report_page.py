"""The page of the day: its numbers against values computed by hand, and its charts in a real browser."""

import base64
import json
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from plotly.offline import get_plotlyjs
from pyspark.sql import SparkSession
from support import chromium_dom

from conf import Config, Paths, UserError
from conf.runs import decision_file
from etl.report import page
from etl.report.charts import CHARTS
from etl.report.day_tables import DayTables
from etl.report.headline import Comparison, headline
from etl.report.health import promotion
from etl.stage import stage_run
from etl.table import Table
from etl.tables import ads, dim, dwd, ods
from etl.warehouse.store import Warehouse

DAYS = [date(2031, 5, day) for day in (1, 2, 3)]
FIRST, LAST = DAYS[0], DAYS[-1]
HOSTILE = '<!--<script>alert("x")</script>'
MAX_BYTES = 2_000_000
CALIBRATED = "Reliability by place and exposure"


def put(warehouse: Warehouse, table: Table, day: date, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the partition of a day; columns that a row lacks are null."""
    values = [tuple(row.get(name) for name in table.column_names) for row in rows]
    frame = warehouse.spark.createDataFrame(values, table.schema_text)
    warehouse.write(table, table.with_partition(frame, day), [day])


def write_day(warehouse: Warehouse, config: Config, number: int) -> None:
    """Day 0, 1 or 2: what is read off below follows from `number`."""
    day = DAYS[number]
    clicks = 10 * (number + 1)
    rate = {"impressions": 200, "clicks": clicks, "ctr": clicks / 200, "users": 20}
    put(warehouse, ads.ctr_daily, day, [rate])
    put(warehouse, ads.visitor_daily, day, [{"pvs": 100, "visitors": 40 + number, "new_visitors": 1, "visits": 50}])
    hours = [{"month": "05", "day": "01", "hour": f"{hour:02}", "pvs": 5, "pvs_human": 3} for hour in range(6)]
    put(warehouse, ads.pv_hourly, day, hours)
    hosts = [{"month": "05", "day": "01", "hour": "00", "ref_host": host, "pvs": 9} for host in ("a.com", HOSTILE)]
    put(warehouse, ads.pv_ref_host_hourly, day, hosts)
    metrics = [
        {"run_id": f"{model}-{day}", "model": model, "stage": "fine", "split": "test", "metric": "auc",
         "value": 0.6 + number / 100, "rows": 100, "trained_at": datetime(2031, 5, 9, tzinfo=UTC)}
        for model in ("fm", "deepfm")
    ]  # fmt: skip
    metrics += [
        {**metrics[0], "stage": "report", "metric": f"psi {feature}", "value": value}
        for feature, value in ((HOSTILE, 0.25), ("age", 0.5))
    ]
    metrics += [
        {**metrics[0], "model": "blend", "stage": "evaluate", "metric": f"{kind}_{suffix}", "k": k, "value": 0.1 * k}
        for kind in ("position", "exposure")
        for suffix in ("predicted", "clicked")
        for k in (1, 3)
    ]
    put(warehouse, ads.model_metric, day, metrics)
    put(warehouse, ads.recall_daily, day, [{"channel": "ease", "k": 10, "recall": 0.3, "users": 5}])
    _write_shown(warehouse, day)
    with stage_run(warehouse, "weblog", [day]) as counts:
        counts[day].rows_in, counts[day].rows_out, counts[day].rows_quarantined = 8, 6, 2
    refused = {"stage": "weblog", "reason": HOSTILE, "file": "f", "line": "x"}
    put(warehouse, ods.quarantine, day, [{**refused, "line_number": n} for n in (1, 2)])


def _write_shown(warehouse: Warehouse, day: date) -> None:
    """Two impressions, one of an item on the list of the day before, which is clicked and bought for 12.5."""
    shown = [
        {"impression_id": f"{day}-{item}", "request_id": "r", "user_id": "u1", "item_id": item, "position": 1,
         "shown_at": datetime(day.year, day.month, day.day, 9, tzinfo=UTC), "is_clicked": int(item == "i1")}
        for item in ("i1", "i2")
    ]  # fmt: skip
    put(warehouse, dwd.impression, day, shown)
    act = {"user_id": "u1", "item_id": "i1", "acted_at": datetime(day.year, day.month, day.day, 10, tzinfo=UTC)}
    acts = [
        {**act, "event_id": f"{day}-a", "action": "click", "value": 1.0, "impression_id": f"{day}-i1"},
        {**act, "event_id": f"{day}-b", "action": "purchase", "value": 12.5, "impression_id": f"{day}-i1"},
        {**act, "event_id": f"{day}-c", "action": "purchase", "value": 2.5 * day.day},
    ]
    put(warehouse, dwd.interaction, day, acts)
    put(warehouse, ads.recommendation, day, [{"user_id": "u1", "rank": 1, "item_id": "i1", "score": 0.5}])


@dataclass(frozen=True)
class Pages:
    """The page of the first day, made when there was no other, and that of the third; with the third's figures."""

    first: Path
    third: Path
    headline: dict[str, Comparison]


@pytest.fixture(scope="module")
def pages(spark: SparkSession, config: Config) -> Pages:
    warehouse, runs = Warehouse(spark, config), config.get(Paths).runs
    write_day(warehouse, config, 0)
    first = page.write(spark, config, FIRST)
    write_day(warehouse, config, 1)
    with stage_run(warehouse, "events", [DAYS[1]]):
        pass  # a stage that the third day lacks
    with pytest.raises(ValueError, match="disk"), stage_run(warehouse, "weblog", [LAST]):
        raise ValueError(f"no disk {HOSTILE}")
    write_day(warehouse, config, 2)
    model = {"model": "fm", "trained_at": datetime(2031, 5, 9, tzinfo=UTC), "metrics": '{"auc": 0.62}', "inputs": "[]"}
    put(warehouse, dim.model, LAST, [{**model, "run_id": "fm-2", "part": ""}])
    decision_file(runs, LAST).parent.mkdir(parents=True, exist_ok=True)
    decision = {"fm": "fm-2", "champion": "fm-1", "promoted": False, "reasons": [f"worse {HOSTILE}"]}
    decision |= {"loss_change": 0.0213, "loss_change_low": 0.0101, "loss_change_high": 0.034}
    decision_file(runs, LAST).write_text(json.dumps(decision))
    compared = {"experiment": HOSTILE, "metric": "click_rate", "control": "blend", "arm": "fine", "value_control": 0.2}
    compared |= {"relative": 0.1, "low": 0.01, "high": 0.03, "p_value": 0.004, "sequential_p_value": 0.03}
    put(warehouse, ads.experiment_metric, LAST, [{**compared, "guardrail": "kept", "sample_ratio_p": 0.0005}])
    step = {"run_id": "recommend-2", "positives": 8, "low": 0.1, "high": 0.9}
    ease = {**step, "step": 1, "stage": "recall", "channel": "ease", "survivors": 4, "share": 0.5, "gain": 1}
    merged = {**step, "step": 2, "stage": "merged", "channel": "all", "survivors": 4, "share": 0.5}
    put(warehouse, ads.recall_funnel, LAST, [{**ease, "overlap": 0.75}, merged])
    third = page.write(spark, config, LAST)
    figures = {each.figure.name: each for each in headline(DayTables(spark, config, LAST))}
    return Pages(first, third, figures)


class Sections(HTMLParser):
    """The texts of a page: of cards, of the cells of each section's table, and of its named numbers."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.title, self.path = "", [""]
        self.cells: dict[str, list[list[str]]] = {}
        self.numbers: dict[str, list[str]] = {}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.path.append(tag)
        if tag == "tr":
            self.cells.setdefault(self.title, []).append([])
        elif tag in ("td", "button") and self.cells.get(self.title):
            self.cells[self.title][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        self.path.append("")

    def handle_data(self, data: str) -> None:
        tag = self.path[-1]
        if tag == "h3":
            self.title = data
        elif tag in ("td", "button"):
            self.cells[self.title][-1][-1] += data
        elif tag in ("dt", "dd"):
            self.numbers.setdefault(self.title, []).append(data)


def test_the_first_numbers_are_those_computed_by_hand(pages: Pages) -> None:
    figures = {name: (each.today, each.eve, each.week, each.week_days) for name, each in pages.headline.items()}
    assert figures == {
        "Impressions": (200, 200, 200, 2),
        "Click rate": (0.15, 0.10, pytest.approx(30 / 400), 2),
        "Visitors": (42, 41, 40.5, 2),
        "Users": (20, 20, 20, 2),
        "Orders": (2, 2, 2, 2),
        "Value of orders": (12.5 + 7.5, 12.5 + 5, pytest.approx((15 + 17.5) / 2), 2),
        # The first day had no list before it.
        "Impressions of lists": (1, 1, 1, 1),
        "Click rate of lists": (1, 1, 1, 1),
        "Orders of lists": (1, 1, 1, 1),
        "Value of list orders": (12.5, 12.5, 12.5, 1),
    }
    rate = pages.headline["Click rate"]
    assert (rate.change(rate.eve), rate.change(rate.week), rate.change(None)) == ("▲ +50.0%", "▲ +100.0%", "–")
    text = pages.third.read_text()
    assert (
        '<b>15.00%</b><small>clicks / impressions</small>\n<small>day before: 10.00% <span class="up">▲ +50.0%' in text
    )


def test_a_day_without_a_day_before_has_dashes(pages: Pages) -> None:
    assert "<b>5.00%</b>" in pages.first.read_text()
    assert "<small>day before: – <span>–</span></small>" in pages.first.read_text()
    assert "<small>mean of the week before (0 of 7 days): – <span>–</span></small>" in pages.first.read_text()
    assert "Impressions of lists" not in pages.first.read_text()


def test_the_page_says_what_failed_what_waits_and_why_models_stay_out(pages: Pages) -> None:
    text = pages.third.read_text()
    cells = Sections(text).cells
    assert cells["What failed or waits"][1:] == [
        ["weblog", "failed, then done", "1", f"no disk {HOSTILE}"],
        ["events", "waits", "", "last ran for 2031-05-02"],
    ]
    row = dict(zip(*cells["Rows"], strict=True))
    assert (row["in"], row["out"], row["out %"], row["quarantined %"]) == ("8", "6", "75.00%", "25.00%")
    assert cells["Quarantine"][1:] == [["weblog", HOSTILE, "2", "100.00%"]]
    assert cells["Experiments"][1:] == [
        [f"{HOSTILE}: the arms' sizes are not as planned", "fine", "blend", "click_rate", "+10.00%", "+5.00% to +15.00%",
         "0.0040", "0.0300", "kept"]
    ]  # fmt: skip
    assert "<h3>Experiments" not in pages.first.read_text()
    assert cells["Runs"][1] == ["fm", "challenger", "0.6200", "", "", "2031-05-09 00:00", "fm-2"]
    assert (
        "The day&#39;s models were not promoted. Log loss of the fine model against the champion fm-1: +2.13%" in text
    )
    assert "(95 % interval +1.01% to +3.40%)." in text
    assert "No decision about this day&#39;s models is recorded." in pages.first.read_text()


def test_a_damaged_decision_is_refused_by_name(config: Config, spark: SparkSession) -> None:
    path = decision_file(config.get(Paths).runs, date(2031, 6, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("[1")
    with pytest.raises(UserError, match=r"decisions/2031-06-01\.json is damaged"):
        promotion(DayTables(spark, config, date(2031, 6, 1)))


def test_a_single_day_is_numbers_and_more_are_a_chart(pages: Pages) -> None:
    numbers = Sections(pages.first.read_text()).numbers
    assert numbers == {
        "CTR over days": ["CTR", "5.00%"],
        "AUC over days": ["deepfm", "0.6000", "fm", "0.6000"],
        "Recall over days": ["ease", "0.3000"],
    }
    assert Sections(pages.third.read_text()).numbers == {}


def test_a_page_is_small_and_has_the_whole_of_plotly(pages: Pages) -> None:
    for path in (pages.first, pages.third):
        assert path.stat().st_size < MAX_BYTES
    packed = re.search(r'id="plotly">([^<]*)</script>', pages.third.read_text())
    assert packed is not None
    assert zlib.decompress(base64.b85decode(packed[1].replace(",", "<"))).decode() == get_plotlyjs()


def test_texts_of_data_are_never_markup(pages: Pages) -> None:
    text = pages.third.read_text()
    assert "<script>alert" not in text
    assert "<!--" not in text
    # In charts as well: Plotly would take the entities for what they are, and "<b>" for bold.
    assert r"&lt;script&gt;alert(\"x\")" in text
    assert "&lt;script&gt;alert(&#34;x&#34;)" in text


def points_by_chart(dom: str) -> dict[str, int]:
    """Title -> number of points or bars, of the charts that were drawn."""
    panels = re.split(r"<section>", dom.split('id="charts"')[1])[1:]
    drawn = {}
    for text, chart in zip(panels, CHARTS, strict=True):
        assert f"<h3>{chart.title}</h3>" in text
        if 'class="main-svg"' in text:
            drawn[chart.title] = text.count('class="point"')
    return drawn


@pytest.mark.parametrize(
    ("choose", "points"),
    [
        (lambda pages: pages.first, {"Traffic by hour": 12, "Top referrers": 2, "Stage times": 1, CALIBRATED: 8}),
        (
            lambda pages: pages.third,
            {"Traffic by hour": 12, "Top referrers": 2, "Stage times": 1, "CTR over days": 3, "AUC over days": 6,
             "Recall over days": 3, "Recall funnel": 4, CALIBRATED: 8},
        ),
    ],
    ids=["first", "third"],
)  # fmt: skip
def test_chromium_draws_every_point(pages: Pages, choose: Callable[[Pages], Path], points: dict[str, int]) -> None:
    dom = chromium_dom(choose(pages))
    assert points_by_chart(dom) == points
    assert 'id="charts-state"' not in dom  # goes when all is drawn


def test_a_click_on_a_heading_sorts_by_number(pages: Pages, tmp_path: Path) -> None:
    clicked = tmp_path / "clicked.html"
    click = "<script>[...document.querySelectorAll('th button')].find(b => b.textContent === 'psi').click()</script>"
    clicked.write_text(pages.third.read_text().replace("</body>", f"{click}</body>"))
    before = [row[0] for row in Sections(pages.third.read_text()).cells["Features"]]
    after = [row[0] for row in Sections(chromium_dom(clicked)).cells["Features"]]
    assert (before, after) == (["feature", "age", HOSTILE], ["feature", HOSTILE, "age"])
