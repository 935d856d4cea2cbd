"""Plotly's JavaScript inside a page: deflated and in base 85, which browsers undo, 1.8 MB instead of 4.8."""

import base64
import html
import zlib
from functools import cache
from importlib.resources import files
from typing import Any

import plotly.io
from jinja2 import Environment, FunctionLoader, StrictUndefined
from plotly.offline import get_plotlyjs

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;,=>?@^_`{|}~"
"""Python's digits of base 85, with `,` for `<`: no text of them begins or ends an element or a comment of HTML."""


def render(template: str, **values: Any) -> str:
    """Render a template of this folder, which may include `plotly.html.j2`; values are escaped.

    Args:
        template: file name.
        values: its variables.
    """
    loader = FunctionLoader(lambda name: (files("etl.report") / name).read_text(encoding="utf-8"))
    environment = Environment(autoescape=True, undefined=StrictUndefined, loader=loader)
    return environment.get_template(template).render(packed=_packed_plotly(), alphabet=ALPHABET, **values)


@cache
def _packed_plotly() -> str:
    packed = zlib.compress(get_plotlyjs().encode(), 9)
    # Base 85 has a < among its digits, with which a tag could begin inside the page's script; a comma is none of them.
    return base64.b85encode(packed).decode().replace("<", ",")


def figure_json(figure: Any) -> str:
    """A Plotly figure as JSON that may stand in a script element; texts in its data are shown as they are."""
    content = figure.to_plotly_json()
    safe = {"data": [_escaped(trace) for trace in content["data"]], "layout": content["layout"]}
    # In a script "</script>" would end it and "<!--" hide its end; in JSON "<" only stands in texts.
    return str(plotly.io.json.to_json_plotly(safe)).replace("<", "\\u003c")


def _escaped(value: Any) -> Any:
    """Texts with HTML's entities: Plotly takes `<b>` and `<a href=…>` in labels for markup."""
    if isinstance(value, str):
        return html.escape(value, quote=False)
    if isinstance(value, dict):
        return {key: _escaped(item) for key, item in value.items()}
    return [_escaped(item) for item in value] if isinstance(value, list | tuple) else value
