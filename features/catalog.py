"""The features, in the order of their index. New ones are appended; an index is never changed or used again.

`source` is a Spark SQL expression over a row that has the example (user_id, item_id, position, device, at), the columns
of dim_user and dim_item, and the counts known before the example's day (`features/counts.py`).
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Sparse:
    """A categorical value, hashed into `buckets`; 0 stands for a missing one."""

    name: str
    source: str
    buckets: int
    description: str
    kind: Literal["sparse"] = "sparse"

    @property
    def definition(self) -> str:
        return f"hash({self.source}, {self.buckets})"


@dataclass(frozen=True)
class Dense:
    """A number; `log` for skewed ones. Missing becomes the mean of the training rows, which standardises to 0."""

    name: str
    source: str
    description: str
    transform: Literal["identity", "log1p"] = "identity"
    kind: Literal["dense"] = "dense"

    @property
    def definition(self) -> str:
        return f"standardise({self.transform}({self.source}))"


Feature = Sparse | Dense


def _rate(counts: str) -> str:
    """A click rate pulled to the prior: (clicks + strength × prior) / (impressions + strength)."""
    clicks, shown = f"coalesce({counts}_clicks, 0)", f"coalesce({counts}_shown, 0)"
    return f"({clicks} + prior_strength * prior_rate) / ({shown} + prior_strength)"


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
)

SPARSE: tuple[Sparse, ...] = tuple(feature for feature in FEATURES if isinstance(feature, Sparse))
DENSE: tuple[Dense, ...] = tuple(feature for feature in FEATURES if isinstance(feature, Dense))
# As the columns of a data set stand: sparse ones first.
COLUMNS: tuple[Feature, ...] = (*SPARSE, *DENSE)


def index_of(feature: Feature) -> int:
    """The place that the feature keeps for ever."""
    return FEATURES.index(feature)
