"""A day on one page: `millrace report --date D` writes `<home>/reports/D.html`, which needs no network or server."""

from datetime import date
from importlib.resources import files
from pathlib import Path

import plotly.io
from jinja2 import Environment, StrictUndefined
from plotly.offline import get_plotlyjs
from pyspark.sql import SparkSession

from conf import Config, Paths
from conf.atomic import write_atomically
from etl.report.charts import CHARTS, COLOURS, DayTables, Figure

TEMPLATE = "page.html.j2"
CHART_HEIGHT = 360  # pixels


def write(spark: SparkSession, config: Config, day: date) -> Path:
    """Write the page of a day, in place of an earlier one: a reader sees the old or the new one.

    Plotly's JavaScript is part of the page, some 5 MB, so that it works without a network.

    Args:
        spark: the session.
        config: where warehouse and reports are.
        day: the day.

    Returns:
        The page's path.
    """
    tables = DayTables(spark, config, day)
    sections = [
        {"title": chart.title, "description": chart.description, "figure": _figure_json(chart.draw(tables))}
        for chart in CHARTS
    ]
    template_text = (files("etl.report") / TEMPLATE).read_text(encoding="utf-8")
    template = Environment(autoescape=True, undefined=StrictUndefined).from_string(template_text)
    path = config.get(Paths).root / "reports" / f"{day}.html"
    write_atomically(path, template.render(day=day, plotly_js=get_plotlyjs(), sections=sections))
    return path


def _figure_json(figure: Figure) -> str | None:
    """A figure as JSON that may stand in a script element."""
    if figure is None:
        return None
    figure.update_layout(
        template="plotly_white", colorway=COLOURS, height=CHART_HEIGHT, margin={"l": 60, "r": 20, "t": 20, "b": 50}
    )
    # HTML's escapes mean nothing in a script, but a "</script>" in a label would end it.
    return str(plotly.io.to_json(figure)).replace("</", "<\\/")
