"""Which table has the items, and which the users: by keys that match what happened, by names, by other columns."""

from collections.abc import Sequence

from etl.site.column_roles import ROLE_NAMES
from etl.site.fields import Field, SampledTable
from etl.site.parts import Dimension, Happening, matching
from etl.site.words import Entity, entity_of, is_named

MIN_MATCH = 0.5
"""Least share of the ids that have a row, where names say that these are the same ids."""
MIN_UNNAMED_MATCH = 0.95
MIN_LISTED = 0.02
"""The same of texts, which are hardly ever equal by chance: a table may be a part."""


def guess_dimension(
    entity: Entity, tables: Sequence[SampledTable], happenings: Sequence[Happening]
) -> tuple[Dimension | None, dict[str, str]]:
    """The table of items or users, and why others are none."""
    candidates: list[tuple[float, Dimension]] = []
    reasons: dict[str, str] = {}
    for table in tables:
        best = max(
            (_scored(entity, table, key, happenings) for key in table.keys), key=lambda one: one[0], default=None
        )
        if best is not None and best[0] > 0:
            candidates.append(best)
    if not candidates:
        return None, reasons
    chosen = max(candidates, key=lambda one: (round(one[0], 2), len(one[1].table.fields)))[1]
    for _, other in candidates:
        if other is not chosen:
            reasons[other.table.pattern] = (
                f"one row per {other.key.name} as well as {chosen.table.pattern}: join its columns to that file"
            )
    return chosen, reasons


def likeness(table: SampledTable) -> int:
    """How much more a table looks like one of items than of users, by its columns' names."""
    item_names = [name for names in ROLE_NAMES["items"].values() for name in names] + ["price", "text", "url", "genre"]
    user_names = [name for names in ROLE_NAMES["users"].values() for name in names] + ["occupation", "country", "email"]
    fields = table.fields.values()
    return sum(is_named(one.name, item_names) - is_named(one.name, user_names) for one in fields)


def _scored(
    entity: Entity, table: SampledTable, key: Field, happenings: Sequence[Happening]
) -> tuple[float, Dimension]:
    """How sure it is that a table's key is that of users or items: by matching values, names, and other columns."""
    by_name = entity_of(key.name if table.has_header else "id", table.stem)
    sign = 1 if entity == "item" else -1
    how_like = sign * likeness(table)
    if not happenings:
        return float(by_name == entity), Dimension(table, key, None)
    best = max((matching(getattr(one, entity), key) for one in happenings), key=lambda one: one.share)
    is_same_name = any(is_named(key.name, [getattr(one, entity).name]) for one in happenings)
    least = MIN_MATCH if by_name == entity or is_same_name else MIN_UNNAMED_MATCH
    if by_name == entity and not key.is_number:
        least = MIN_LISTED  # texts are hardly ever equal by chance: the file may be a part
    is_other = by_name not in (entity, None) and not is_same_name
    # Small whole numbers match any key: without a name, the columns must say whose they are.
    is_unlike = not is_same_name and by_name is None and how_like <= 0 and key.is_number
    if best.share < least or is_other or is_unlike:
        return 0.0, Dimension(table, key, best)
    score = best.share + 0.5 * is_same_name + 0.5 * (by_name == entity) + 0.05 * how_like
    return score, Dimension(table, key, best)
