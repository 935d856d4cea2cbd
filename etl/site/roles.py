"""Which table has actions, impressions, items and users: by keys, by values that two tables share, by names."""

from collections.abc import Sequence

from etl.site.dimensions import guess_dimension
from etl.site.fields import SampledTable
from etl.site.happenings import guess_ids, guess_lists, with_columns
from etl.site.parts import Happening, Roles

_MIN_IDS = 10


def assign_roles(tables: Sequence[SampledTable]) -> Roles:
    """Decide what each table is for; those that fit nothing are said to."""
    others: dict[str, str] = {}
    happenings = []
    for table in tables:
        ids = guess_ids(table, tables)
        if isinstance(ids, str) and (lists := guess_lists(table, tables)) is not None:
            happenings.append(lists)
        elif isinstance(ids, str):
            others[table.pattern] = ids
        else:
            happenings.append(with_columns(table, *ids))
    happenings, copies = _without_copies(happenings)
    rest = [table for table in tables if table.pattern in others]
    others |= copies
    items, reasons = guess_dimension("item", rest, happenings)
    others |= reasons
    free = [table for table in rest if items is None or table is not items.table]
    users, reasons = guess_dimension("user", free, happenings)
    others |= {pattern: reason for pattern, reason in reasons.items() if "as well" in reason}
    for dimension in (items, users):
        if dimension is not None:
            del others[dimension.table.pattern]
    return Roles(tuple(happenings), items, users, others)


def _without_copies(happenings: Sequence[Happening]) -> tuple[list[Happening], dict[str, str]]:
    """Leave out tables with the same users and items, row by row, as an earlier one; why, by their pattern."""
    distinct: list[Happening] = []
    copies: dict[str, str] = {}
    for one in happenings:
        # What has columns' names is the original.
        same = next((other for other in distinct if _are_copies(one, other)), None)
        if same is None:
            distinct.append(one)
            continue
        original, copy = (one, same) if one.table.has_header > same.table.has_header else (same, one)
        distinct[distinct.index(same)] = original
        copies[copy.table.pattern] = f"the same users and items, row by row, as {original.table.pattern}"
    return distinct, copies


def _are_copies(one: Happening, other: Happening) -> bool:
    if one.table.num_sampled != other.table.num_sampled or one.separator or other.separator:
        return False
    has_same_user = one.user.texts.to_numpy() == other.user.texts.to_numpy()
    is_same = has_same_user & (one.item.texts.to_numpy() == other.item.texts.to_numpy())
    return len(is_same) > _MIN_IDS and float(is_same.mean()) > 0.99
