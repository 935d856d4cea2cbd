"""The columns of a site's own on Spark: maps of texts -> columns, as `features.own_columns.read_text` reads them."""

from collections.abc import Sequence
from functools import partial

from pyspark.sql import Column
from pyspark.sql import functions as F

from conf.site import Number, Outcome, Tags, Tokens, Vector, Weight
from etl.sources.values import to_list_parts, to_number, to_tokens, to_vector, to_yes_no, trimmed
from features.own_columns import LabelColumn, OwnColumn


def own_values(columns: Sequence[OwnColumn], texts: Column) -> dict[str, Column]:
    """The columns of a row by name.

    Args:
        columns: of one owner.
        texts: the map of its texts.
    """
    values: dict[str, Column] = {}
    for column in columns:
        # A column of tags has a name for each of its slots, and a vector for each of its numbers.
        values |= dict(zip(column.names, _read_text(column, texts), strict=True))
    return values


def outcome_labels(columns: Sequence[LabelColumn], context: Column, is_clicked: Column) -> dict[str, Column]:
    """What came of each impression, by the name of its label: 1, 0, or null where it is unknown.

    Args:
        columns: all that are no features.
        context: the map of texts.
        is_clicked: what outcomes that need a click follow.
    """
    labels: dict[str, Column] = {}
    for column in columns:
        if isinstance(outcome := column.type, Outcome):
            text = F.try_element_at(context, F.lit(column.source))
            label = to_yes_no(text, outcome.at_least, column.decimal)
            label = F.when(is_clicked, label) if outcome.needs_click else label
            # Several files may have the same outcome in columns of their own.
            earlier = labels.get(outcome.label)
            labels[outcome.label] = label if earlier is None else F.greatest(earlier, label)
    return {name: label.cast("float") for name, label in labels.items()}


def row_weight(columns: Sequence[LabelColumn], context: Column) -> Column | None:
    """The declared weight of each row, 1 where it is missing; None where the site declares none."""
    texts = [
        to_number(F.try_element_at(context, F.lit(column.source)), column.decimal)
        for column in columns
        if isinstance(column.type, Weight)
    ]
    return F.coalesce(*texts, F.lit(1.0)) if texts else None


def _read_text(column: OwnColumn, texts: Column) -> list[Column]:
    text = trimmed(F.try_element_at(texts, F.lit(column.source)))
    kind = column.type
    if isinstance(kind, Tags):
        tags = to_list_parts(text, kind.separator)
        tags = F.array_distinct(F.filter(tags, lambda tag: ~tag.isin(*kind.missing)))
        return [F.get(tags, F.lit(slot)) for slot in range(kind.slots)]
    if isinstance(kind, Tokens):
        tokens, slots = to_tokens(text), kind.slots
        return [F.get(F.filter(tokens, partial(_is_of_slot, slot, slots)), F.lit(0)) for slot in range(slots)]
    if isinstance(kind, Vector):
        vector = to_vector(text, kind.size)
        return [F.get(vector, F.lit(slot)) for slot in range(kind.size)]
    return [to_number(text, column.decimal) if isinstance(kind, Number) else text]


def _is_of_slot(slot: int, slots: int, token: Column) -> Column:
    return F.pmod(F.xxhash64(token), F.lit(slots)) == slot
