"""The features, in the order of their index. New ones are appended; an index is never changed or used again.

The built-in ones are followed by those that the site of the process declares (`conf.site`).

`source` is an expression over a row that has the example (user_id, item_id, position, device, at), the columns of
dim_user and dim_item, and what was counted before the example's day (`features/counts/counts_before.py`). It is written
in what Spark SQL and Python's grammar have in common: Spark computes it for training sets,
`features/transforms/expressions.py`, which lists the functions, for one request. Moments have their hour and day by the
clocks of the site (`site.timezone`).

To add a feature that all sites have, append it to BUILT_IN.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

from conf.site import Category, Cross, Dense, Number, Rate, Site, SiteError, Sparse, Tags, Tokens, Vector, current_site
from conf.site.declaration import Fault, place_of
from conf.site.features import Feature
from features.item_lists import ItemList, item_lists
from features.own_columns import OwnColumns, cross_columns, own_index, rate_group, rate_groups, rate_windows


def _rate(counts: str) -> str:
    """A click rate pulled to the prior: (clicks + strength × prior) / (impressions + strength) (requirement F9)."""
    clicks, shown = f"coalesce({counts}_clicks, 0)", f"coalesce({counts}_shown, 0)"
    return f"({clicks} + prior_strength * prior_rate) / ({shown} + prior_strength)"


def _over_expected(counts: str, strength: float) -> str:
    """Log of clicks over those expected by position (Zhang and Jones 2007), pulled to 0: free of position bias."""
    clicks, expected = f"coalesce({counts}_clicks, 0)", f"coalesce({counts}_expected, 0)"
    return f"ln(({clicks} + {strength}) / ({expected} + {strength}))"


# How much more of the topic the user was shown than others: what the recommender that showed it believed.
_LIFT = "ln((coalesce(user_category_shown, 0) + 10 * category_share) / (coalesce(user_shown, 0) + 10) / category_share)"

BUILT_IN: tuple[Feature, ...] = (
    # Ids and columns of dim_user, dim_item and the impression.
    Sparse("user_id", "user_id", 65536, "the user"),
    Sparse("item_id", "item_id", 16384, "the item; histories and retrieval models use its ids"),
    Sparse("category", "category", 256, "topic or genre of the item"),
    Sparse("author", "author", 1024, "author of the item"),
    Sparse("gender", "gender", 8, "gender of the user"),
    Sparse("age_group", "age_group", 16, "age group of the user"),
    Sparse("city", "city", 256, "city of the user"),
    Sparse("device", "device", 8, "phone, tablet or desktop"),
    Sparse("hour", "hour(at)", 32, "hour of the day"),
    Sparse("position", "position", 64, "position in the list, from 1"),
    Sparse("user_category", "concat(user_id, '|', category)", 65536, "user crossed with the item's topic"),
    # Click rates before the day. They carry the position bias of the old lists.
    Dense("item_rate", _rate("item"), "smoothed click rate of the item"),
    Dense("user_rate", _rate("user"), "smoothed click rate of the user"),
    Dense("category_rate", _rate("category"), "smoothed click rate of the topic"),
    Dense("user_category_rate", _rate("user_category"), "smoothed click rate of the user on the topic"),
    # Counts are skewed over several orders of magnitude: log1p.
    Dense("item_shown", "coalesce(item_shown, 0)", "how often the item was shown", "log1p"),
    Dense("user_shown", "coalesce(user_shown, 0)", "how much the user was shown", "log1p"),
    Dense("item_age_days", "greatest(datediff(at, published_at), 0)", "recency: days since the item appeared", "log1p"),
    Dense("user_idle_days", "datediff(at, user_last_click)", "recency: days since the user's last click", "log1p"),
    # Tags: what the user was shown is what an earlier recommender learned of them; it says more than few clicks do.
    Sparse("user_tag", "user_tag1", 256, "topic that the user was shown most, against others"),
    Sparse("user_tag2", "user_tag2", 256, "second such topic"),
    Sparse("user_tag3", "user_tag3", 256, "third such topic"),
    Sparse("user_liked_tag", "user_liked_tag", 256, "topic that the user clicked most, against what was expected"),
    # Crosses, for models that don't multiply features by themselves.
    Sparse("user_tag_category", "concat(user_tag1, '|', category)", 4096, "first tag crossed with the item's topic"),
    Sparse("user_tag2_category", "concat(user_tag2, '|', category)", 4096, "second tag crossed with the item's topic"),
    Sparse("user_tags", "concat(user_tag1, '|', user_tag2)", 4096, "first two tags crossed"),
    Sparse(
        "user_tags_category",
        "concat(user_tag1, '|', user_tag2, '|', category)",
        65536,
        "first two tags crossed with the item's topic",
    ),
    Sparse(
        "user_liked_tag_category",
        "concat(user_liked_tag, '|', category)",
        4096,
        "liked tag crossed with the item's topic",
    ),
    # Clicks against those that the positions let expect: what the rates above say, free of position bias.
    Dense("item_over_expected", _over_expected("item", 5.0), "log of the item's clicks over those expected"),
    Dense("user_over_expected", _over_expected("user", 5.0), "log of the user's clicks over those expected"),
    Dense("category_over_expected", _over_expected("category", 5.0), "log of the topic's clicks over those expected"),
    Dense(
        "user_category_over_expected",
        _over_expected("user_category", 1.0),
        "log of the user's clicks on the topic over those expected",
    ),
    Dense("user_category_lift", _LIFT, "log of the topic's share in what the user was shown over its usual share"),
)


_INDEX = {feature.name: index for index, feature in enumerate(BUILT_IN)}
# Columns of `features/counts/counts_before.py`.
_COUNTED = re.compile(r"\w+_(shown|clicks|expected)\b|user_(liked_)?tag\d?\b|user_last_click|category_share")


def site_features(site: Site | None) -> Iterator[Feature]:
    """The features of a site's own columns, and those that it declares beside them."""
    for column in OwnColumns.of_site(site).columns:
        kind, about = column.type, f"{column.source} of the {column.owner}"
        if not kind.is_feature:
            continue
        if isinstance(kind, Number):
            yield Dense(column.name, column.name, about, kind.transform, kind.default)
        elif isinstance(kind, Category):
            yield Sparse(column.name, column.name, kind.buckets, about, is_number=kind.is_number)
        elif isinstance(kind, Tags):
            for slot, name in enumerate(column.names, start=1):
                yield Sparse(name, name, kind.buckets, f"{about}, tag {slot}")
        elif isinstance(kind, Tokens):
            for slot, name in enumerate(column.names, start=1):
                yield Sparse(name, name, kind.buckets, f"{about}, words of slot {slot}")
        elif isinstance(kind, Vector):
            for slot, name in enumerate(column.names, start=1):
                yield Dense(name, name, f"{about}, number {slot}")
    for feature in site.features if site is not None else ():
        if site is not None and isinstance(feature, Cross):
            source = ", '|', ".join(cross_columns(site, feature))
            yield Sparse(feature.feature, f"concat({source})", feature.buckets, " crossed with ".join(feature.columns))
        if isinstance(feature, Sparse | Dense):
            yield feature
        if isinstance(feature, Rate):
            about = f"smoothed click rate of {' × '.join(feature.by)}"
            about += f", last {feature.days} days" if feature.days is not None else ""
            yield Dense(feature.feature, _rate(rate_group(feature)), about)


def built_in_features(site: Site | None) -> tuple[Feature, ...]:
    """The built-in features with ids of users and items as a site declares them, without counts where it has none."""
    if site is None:
        return BUILT_IN
    ids = {"user_id": site.user_ids, "item_id": site.item_ids}
    features: list[Feature] = []
    for feature in BUILT_IN:
        kind = ids.get(feature.name)
        if kind is not None and isinstance(feature, Sparse):
            feature = replace(feature, buckets=kind.buckets, is_number=kind.is_number)
        features.append(feature)
    return tuple(one for one in features if site.has_counts or not is_counted(one))


def check_names(site: Site | None, own: Iterable[Feature | ItemList]) -> None:
    """Refuse own features that can't be: with the name of a built-in one or of a column that one reads, or of counts
    that the site does not have.

    Raises:
        SiteError: all of them.
    """
    taken = {feature.name for feature in BUILT_IN}
    taken |= {name for feature in BUILT_IN for name in names_in(feature.source)}
    names = {feature.name for feature in own}
    names |= {name for column in OwnColumns.of_site(site).columns for name in column.names}
    faults = []
    if both := sorted(names & taken):
        text = f"{', '.join(both)}: a built-in feature or column has that name; give another one with name=…"
        faults.append(Fault(place_of(site), text))
    if site is not None and not site.has_counts:
        for feature in filter(is_counted, own):
            text = f'"{feature.name}" reads counts, and the site has none (has_counts=False)'
            faults.append(Fault(place_of(feature), text))
    if faults:
        raise SiteError(faults)


def definition_of(feature: Feature | ItemList) -> str:
    """What the feature index keeps of a feature: its own definition, and how the own columns that it reads are read."""
    names = set(names_in(feature.source))
    # Counts are grouped by columns, too.
    names |= {key for group, keys in OWN_GROUPS.items() for key in keys if f"{group}_shown" in names}
    readings = [column.reading for column in OWN_COLUMNS.columns if not names.isdisjoint(column.names)]
    return "; ".join([feature.definition, *readings])


def names_in(source: str) -> list[str]:
    """Names of columns and functions in an expression."""
    return re.findall(r"[a-z_][a-z_0-9]*", source)


def is_counted(feature: Feature | ItemList) -> bool:
    """Whether a feature reads what was counted on earlier days."""
    return _COUNTED.search(feature.source) is not None


_SITE = current_site()
OWN_COLUMNS = OwnColumns.of_site(_SITE)
OWN_GROUPS, OWN_WINDOWS = rate_groups(_SITE), rate_windows(_SITE)
OWN: tuple[Feature, ...] = tuple(site_features(_SITE))
HAS_COUNTS = _SITE is None or _SITE.has_counts
_VALUES: tuple[Feature, ...] = (*built_in_features(_SITE), *OWN)

SPARSE: tuple[Sparse, ...] = tuple(feature for feature in _VALUES if isinstance(feature, Sparse))
DENSE: tuple[Dense, ...] = tuple(feature for feature in _VALUES if isinstance(feature, Dense))
LISTS: tuple[ItemList, ...] = tuple(item_lists(_SITE, SPARSE))
FEATURES: tuple[Feature | ItemList, ...] = (*_VALUES, *LISTS)
check_names(_SITE, (*OWN, *LISTS))
# In the order of a data set's columns: sparse ones first.
COLUMNS: tuple[Feature, ...] = (*SPARSE, *DENSE)


def index_of(feature: Feature | ItemList) -> int:
    """Index of a feature, which also keeps equal values of two features apart when they are hashed."""
    index = _INDEX.get(feature.name)  # an own feature never has the name of a built-in one
    return own_index(feature.name) if index is None else index


def index_version(timezone: str = "UTC") -> str:
    """12 hex digits of a hash of all definitions, by the clocks of `timezone`: a model's weights fit these alone."""
    # Descriptions may be reworded; they change no value.
    definitions = json.dumps([(feature.name, definition_of(feature)) for feature in FEATURES])
    if timezone != "UTC":
        definitions += timezone
    return hashlib.sha256(definitions.encode()).hexdigest()[:12]
