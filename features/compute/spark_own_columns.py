"""The columns of a site's own on Spark: maps of texts -> columns, as `features.own_columns.read_text` reads them."""

import math
import re
from collections.abc import Sequence

from pyspark.sql import Column
from pyspark.sql import functions as F

from conf.site import Number, Tags
from features.own_columns import NUMBER, OwnColumn


def own_values(columns: Sequence[OwnColumn], texts: Column) -> dict[str, Column]:
    """The columns of a row by name.

    Args:
        columns: of one owner.
        texts: the map of its texts.
    """
    return {
        name: value for column in columns for name, value in zip(column.names, _read_text(column, texts), strict=True)
    }


def _read_text(column: OwnColumn, texts: Column) -> list[Column]:
    text = F.trim(F.try_element_at(texts, F.lit(column.source)))
    kind = column.type
    if isinstance(kind, Tags):
        parts = F.transform(F.split(text, re.escape(kind.separator)), lambda part: F.trim(part))
        left_out = F.array(*[F.lit(tag) for tag in ("", *kind.missing)])
        tags = F.array_except(parts, left_out)  # without doubles, too
        return [F.get(tags, F.lit(slot)) for slot in range(kind.slots)]
    if isinstance(kind, Number):
        value = F.when(F.regexp_like(text, F.lit(f"^(?:{NUMBER})\\z")), text).cast("double")
        return [F.when(F.abs(value) < F.lit(math.inf), value)]
    return [F.when(text != "", text)]
