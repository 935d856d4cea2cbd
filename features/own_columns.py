"""The columns of a site's own: what they are called in a row, how their text is read, and their features.

dim_user, dim_item, dwd_impression and dwd_interaction keep columns without a place of their own as text in a map. Its
type says what a text means: `read_text` reads it in Python, for a request, `compute/spark_own_columns.py` on Spark.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from conf.site import Cross, Number, Outcome, Rate, Site, Tags, Tokens, Vector, Weight
from conf.site.checks import expanded_names, owner_of, site_parts
from conf.site.columns import FeatureType, Owner, feature_name
from conf.site.sources import decimal_of
from etl.sources.texts import WHITESPACE, list_parts, number_of, tokens_of, vector_of
from features.transforms.hashing import slot_of

OWN_INDEX = 2**16  # indices of own features begin here: built-in ones will never be so many
MAP_OF: Mapping[Owner, str] = {"user": "attributes", "item": "attributes", "context": "context"}


@dataclass(frozen=True)
class OwnColumn:
    """A declared column of the items, the users, or of what happened."""

    name: str
    """Of the feature, such as `item_year`."""
    owner: Owner
    source: str
    """Name in the source, by which the map has it."""
    type: FeatureType
    decimal: str = "."
    """Sign of the decimals of a number; with a comma, dots in between are thousands."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the columns of a row: one, or one for each slot of tags or tokens, or number of a vector."""
        return expanded_names(self.name, self.type)

    @property
    def has_numbers(self) -> bool:
        """Whether its values in a row are numbers; else they are texts."""
        return isinstance(self.type, Number | Vector)

    @property
    def reading(self) -> str:
        """How a text becomes a value, as the feature index keeps it: another one is another feature."""
        parts = [type(self.type).__name__, self.owner, repr(self.source)]
        if isinstance(self.type, Number):
            parts.append(self.decimal)
        if isinstance(self.type, Tags):
            parts += [repr(self.type.separator), *map(repr, self.type.missing)]
        if isinstance(self.type, Tokens):
            parts.append(str(self.type.slots))
        if isinstance(self.type, Vector):
            parts.append(str(self.type.size))
        return f"{self.name}: {' '.join(parts)}"


@dataclass(frozen=True)
class LabelColumn:
    """A declared column of what happened that no feature reads: a further label, or the weight of a row."""

    source: str
    """Name in the source, by which the context has it."""
    type: Outcome | Weight
    decimal: str = "."


@dataclass(frozen=True)
class OwnColumns:
    """All declared columns that features may read, and those of labels and weights."""

    columns: tuple[OwnColumn, ...] = ()
    labels: tuple[LabelColumn, ...] = ()

    @classmethod
    def of_site(cls, site: Site | None) -> "OwnColumns":
        """Those of a site; none without one. The same column of several actions is one."""
        columns: dict[str, OwnColumn] = {}
        labels: dict[LabelColumn, None] = {}
        for part in site_parts(site) if site is not None else ():
            owner, decimal = owner_of(part), decimal_of(part.source)
            for source, kind in part.columns.items():
                if isinstance(kind, FeatureType):
                    name = feature_name(owner, source, kind)
                    columns[name] = OwnColumn(name, owner, source, kind, decimal)
                if isinstance(kind, Outcome | Weight):
                    labels[LabelColumn(source, kind, decimal)] = None
        return cls(tuple(columns.values()), tuple(labels))

    def of_owner(self, owner: Owner) -> tuple[OwnColumn, ...]:
        """Those of the users, the items, or the context."""
        return tuple(column for column in self.columns if column.owner == owner)

    def names(self, owner: Owner) -> list[str]:
        """Names of an owner's columns in a row."""
        return [name for column in self.of_owner(owner) for name in column.names]

    def text_names(self, owner: Owner) -> tuple[str, ...]:
        """Of `names`, those of texts that are features."""
        columns = [one for one in self.of_owner(owner) if one.type.is_feature and not one.has_numbers]
        return tuple(name for column in columns for name in column.names)

    def read_texts(self, owner: Owner, texts: Mapping[str, str] | None) -> dict[str, float | str | None]:
        """The values of an owner's columns in a row, of a map of texts."""
        texts = texts or {}
        values: dict[str, float | str | None] = {}
        for column in self.of_owner(owner):
            values |= zip(column.names, read_text(column, texts.get(column.source)), strict=True)
        return values

    @cached_property
    def needs_context(self) -> bool:
        """Whether training sets read what was known when an item was shown or chosen, or what came of it."""
        return bool(self.of_owner("context") or self.labels)

    @property
    def outcomes(self) -> tuple[str, ...]:
        """Names of the further labels, in the order of the declaration."""
        return tuple(dict.fromkeys(one.type.name for one in self.labels if isinstance(one.type, Outcome)))


def read_text(column: OwnColumn, text: str | None) -> Sequence[float | str | None]:
    """What a cell's text means: one value, or one for each slot of tags, tokens or a vector; None for a missing one."""
    text, kind = (text or "").strip(WHITESPACE), column.type
    if isinstance(kind, Tags):
        tags = dict.fromkeys(list_parts(text, kind.separator))
        firsts = [tag for tag in tags if tag not in kind.missing][: kind.slots]
        return [*firsts, *[None] * (kind.slots - len(firsts))]
    if isinstance(kind, Tokens):
        by_slot: dict[int, str] = {}
        for token in tokens_of(text):
            by_slot.setdefault(slot_of(token, kind.slots), token)
        return [by_slot.get(slot) for slot in range(kind.slots)]
    if isinstance(kind, Vector):
        vector = vector_of(text)
        return vector if vector is not None and len(vector) == kind.size else [None] * kind.size
    return [number_of(text, column.decimal) if isinstance(kind, Number) else text or None]


def own_index(name: str) -> int:
    """Index of an own feature: by its name, so that neither other features nor newer releases ever move it."""
    digest = hashlib.sha256(name.encode()).digest()
    return OWN_INDEX + int.from_bytes(digest[:4]) % (2**31 - OWN_INDEX)


def rate_groups(site: Site | None) -> dict[str, tuple[str, ...]]:
    """Name of the counts of each declared rate -> the columns of a row that they are grouped by; of tags the first."""
    own = {column.name: column.names[0] for column in OwnColumns.of_site(site).columns}
    return {rate_group(rate): tuple(own.get(name, name) for name in rate.by) for rate in _rates(site)}


def rate_windows(site: Site | None) -> dict[str, int]:
    """Name of the counts of each declared rate that has a window -> how many days before a row's it counts."""
    return {rate_group(rate): rate.days for rate in _rates(site) if rate.days is not None}


def rate_group(rate: Rate) -> str:
    """Name of the counts of a rate: by its columns and window, so that it has both in the feature's definition."""
    window = "own" if rate.days is None else f"own_last_{rate.days}"
    return "_by_".join((window, *rate.by))


def _rates(site: Site | None) -> list[Rate]:
    if site is None:
        return []
    return [feature for feature in site.features if isinstance(feature, Rate)]


def cross_columns(site: Site, cross: Cross) -> Iterator[str]:
    """The columns that a cross is of, those of crosses within it instead of these; of tags the first one."""
    crosses = {feature.feature: feature for feature in site.features if isinstance(feature, Cross)}
    own = {column.name: column for column in OwnColumns.of_site(site).columns}
    for name in cross.columns:
        if name in crosses:
            yield from cross_columns(site, crosses[name])
        else:
            yield own[name].names[0] if name in own else name
