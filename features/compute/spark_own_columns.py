"""The columns of a site's own on Spark: maps of texts -> columns, as `features.own_columns.read_text` reads them."""

import re
from collections.abc import Sequence

from pyspark.sql import Column
from pyspark.sql import functions as F

from conf.site import Number, Tags
from etl.sources.values import to_number, trimmed
from features.own_columns import OwnColumn


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
    text = trimmed(F.try_element_at(texts, F.lit(column.source)))
    kind = column.type
    if isinstance(kind, Tags):
        tags = F.transform(F.split(text, re.escape(kind.separator)), trimmed)
        tags = F.filter(tags, lambda tag: tag.isNotNull() & ~tag.isin(*kind.missing))
        tags = F.array_distinct(tags)
        return [F.get(tags, F.lit(slot)) for slot in range(kind.slots)]
    return [to_number(text, column.decimal) if isinstance(kind, Number) else text]
