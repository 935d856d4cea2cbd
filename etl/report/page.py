"""A day on one page: `millrace report --date D` writes `<home>/reports/D.html`, which needs no network or server."""

from datetime import date
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from conf import Config, Paths
from conf.atomic import write_atomically
from etl.report import health
from etl.report.charts import CHARTS, COLOURS
from etl.report.day_tables import DayTables
from etl.report.embedding import figure_json, render
from etl.report.headline import headline
from etl.report.parts import Numbers, Table

TEMPLATE = "page.html.j2"
CHART_HEIGHT = 360  # pixels


def write(spark: SparkSession, config: Config, day: date) -> Path:
    """Write the page of a day, in place of an earlier one: a reader sees the old or the new one.

    Plotly's JavaScript is part of the page, some 1.8 MB, so that it works without a network. Numbers and tables are
    plain HTML.

    Args:
        spark: the session.
        config: where warehouse and reports are.
        day: the day.

    Returns:
        The page's path.

    Raises:
        UserError: the record of the day's promotion is damaged.
    """
    tables = DayTables(spark, config, day)
    text = render(
        TEMPLATE,
        day=day,
        headline=headline(tables),
        promotion=health.promotion(tables),
        sections=_sections(tables),
        charts=[_section(chart.title, chart.description, chart.draw(tables)) for chart in CHARTS],
    )
    path = config.get(Paths).root / "reports" / f"{day}.html"
    write_atomically(path, text)
    return path


def _sections(tables: DayTables) -> dict[str, dict[str, Any]]:
    """The tables above the charts, by name."""
    troubles = "Failed runs of the day, and stages that ran for a day of the week before and not for this one."
    return {
        "models": _section("Runs", "The day's trained models, and their part in serving.", health.models(tables)),
        "troubles": _section("What failed or waits", troubles, health.troubles(tables)),
        "experiments": _section(
            "Experiments",
            "Arms against their control (`millrace experiment read NAME --date D`).",
            health.experiments(tables),
        ),
        "rows": _section("Rows", "rows in = out + invalid + quarantined.", health.row_accounts(tables)),
        "quarantine": _section(
            "Quarantine", "Rejected lines, the commonest reasons first.", health.quarantine_reasons(tables)
        ),
    }


def _section(title: str, description: str, content: Any) -> dict[str, Any]:
    """What the template needs of a section: the kind of its content, and a figure as JSON."""
    kind = {Numbers: "numbers", Table: "table", type(None): "nothing"}.get(type(content), "figure")
    if kind == "figure":
        # Colours of texts and grids are the page's, which knows whether it is dark.
        content.update_layout(
            template="none", colorway=COLOURS, height=CHART_HEIGHT, margin={"l": 60, "r": 20, "t": 20, "b": 50}
        )
        content = figure_json(content)
    return {"title": title, "description": description, "kind": kind, "content": content}
