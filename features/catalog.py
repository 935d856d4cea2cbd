"""The features, in the order of their index. New ones are appended; an index is never changed or used again.

`source` is an expression over a row that has the example (user_id, item_id, position, device, at), the columns of
dim_user and dim_item, and what was known before the example's day (`features/counts/known.py`). It is written in what
Spark SQL and Python's grammar have in common: Spark computes it for training sets, `features/transforms/online.py` for
one request, with the functions that `online.FUNCTIONS` lists.

To add a feature, append it here; what the row does not have yet is added in `features/counts/known.py`.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Sparse:
    """A categorical value, hashed into `buckets`; 0 stands for a missing one.

    With `at_least`, values that so many training rows have get ids of their own (a vocabulary), from 2 on, frequent
    ones first; 1 stands for all others.
    """

    name: str
    source: str
    buckets: int
    description: str
    at_least: int = 0
    kind: Literal["sparse"] = "sparse"

    @property
    def definition(self) -> str:
        if self.at_least:
            return f"vocabulary({self.source}, at least {self.at_least}, at most {self.buckets})"
        return f"hash({self.source}, {self.buckets})"


@dataclass(frozen=True)
class Dense:
    """A number: log1p or arctan for skewed ones, then to mean 0 and deviation 1, or to 0 … 1 (min_max), or as it is.

    Missing becomes `default`, or else 0 once scaled: the training rows' mean, or their smallest value.
    """

    name: str
    source: str
    description: str
    transform: Literal["identity", "log1p", "arctan"] = "identity"
    default: float | None = None
    scale: Literal["standardise", "min_max", "none"] = "standardise"
    kind: Literal["dense"] = "dense"

    @property
    def definition(self) -> str:
        default = "" if self.default is None else f", default {self.default}"
        return f"{self.scale}({self.transform}({self.source}){default})"


Feature = Sparse | Dense


def _rate(counts: str) -> str:
    """A click rate pulled to the prior: (clicks + strength × prior) / (impressions + strength)."""
    clicks, shown = f"coalesce({counts}_clicks, 0)", f"coalesce({counts}_shown, 0)"
    return f"({clicks} + prior_strength * prior_rate) / ({shown} + prior_strength)"


def _over_expected(counts: str, strength: float) -> str:
    """Clicks over what the places let expect (Zhang and Jones 2007), pulled to 1: free of position bias."""
    clicks, expected = f"coalesce({counts}_clicks, 0)", f"coalesce({counts}_expected, 0)"
    return f"ln(({clicks} + {strength}) / ({expected} + {strength}))"


# How much more of the topic the user was shown than others: what the site before us believed.
_LIFT = "ln((coalesce(user_category_shown, 0) + 10 * category_share) / (coalesce(user_shown, 0) + 10) / category_share)"

FEATURES: tuple[Feature, ...] = (
    Sparse("user_id", "user_id", 65536, "who"),
    Sparse("item_id", "item_id", 16384, "what"),
    Sparse("category", "category", 256, "topic or genre of the item"),
    Sparse("author", "author", 1024, "author of the item"),
    Sparse("gender", "gender", 8, "gender of the user"),
    Sparse("age_group", "age_group", 16, "age group of the user"),
    Sparse("city", "city", 256, "city of the user"),
    Sparse("device", "device", 8, "phone, tablet or desktop"),
    Sparse("hour", "hour(at)", 32, "hour of the day, UTC"),
    Sparse("position", "position", 64, "place in the list"),
    Sparse("user_category", "concat(user_id, '|', category)", 65536, "user crossed with the item's topic"),
    Dense("item_rate", _rate("item"), "smoothed click rate of the item"),
    Dense("user_rate", _rate("user"), "smoothed click rate of the user"),
    Dense("category_rate", _rate("category"), "smoothed click rate of the topic"),
    Dense("user_category_rate", _rate("user_category"), "smoothed click rate of the user on the topic"),
    Dense("item_shown", "coalesce(item_shown, 0)", "how often the item was shown", "log1p"),
    Dense("user_shown", "coalesce(user_shown, 0)", "how much the user was shown", "log1p"),
    Dense("item_age_days", "greatest(datediff(at, published_at), 0)", "recency: days since the item appeared", "log1p"),
    Dense("user_idle_days", "datediff(at, user_last_click)", "recency: days since the user's last click", "log1p"),
    Sparse("user_tag", "user_tag1", 256, "topic that the user was shown most, against others"),
    Sparse("user_tag2", "user_tag2", 256, "the second of them"),
    Sparse("user_tag3", "user_tag3", 256, "the third of them"),
    Sparse("user_liked_tag", "user_liked_tag", 256, "topic that the user clicked most, against what was expected"),
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

SPARSE: tuple[Sparse, ...] = tuple(feature for feature in FEATURES if isinstance(feature, Sparse))
DENSE: tuple[Dense, ...] = tuple(feature for feature in FEATURES if isinstance(feature, Dense))
# As the columns of a data set stand: sparse ones first.
COLUMNS: tuple[Feature, ...] = (*SPARSE, *DENSE)


def index_of(feature: Feature) -> int:
    """The place that the feature keeps for ever."""
    return FEATURES.index(feature)


def index_version() -> str:
    """Identifies the definitions of all features: a model's weights fit these and no others."""
    definitions = json.dumps([(feature.name, feature.definition) for feature in FEATURES])
    return hashlib.sha256(definitions.encode()).hexdigest()[:12]
