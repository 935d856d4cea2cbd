"""The features of one request, without Spark: the catalog's definitions over what was counted when the day began.

`unscaled` may be logged with the impression (field `features` of its event) and is then used as it was. That both
routes give the same is tested, and checked on a day's data by `millrace features audit`.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from conf.site.features import Dense, Feature
from features import catalog
from features.catalog import OWN_COLUMNS
from features.compute.training_statistics import TrainingStatistics
from features.counts.running_counts import RunningCounts
from features.transforms import FITTED, transformed_source
from features.transforms.expressions import evaluate
from features.transforms.hashing import hash_bucket
from features.transforms.numeric import FittedTransform
from features.transforms.vocabulary import Vocabulary
from features.transforms.whitening import Whitening


class RequestFeatures:
    """Computes rows of features as the training set of `statistics` has them."""

    def __init__(
        self,
        statistics: TrainingStatistics,
        counts: RunningCounts,
        users: Mapping[Any, Mapping[str, Any]],
        items: Mapping[Any, Mapping[str, Any]],
    ) -> None:
        """Keep what a process needs in memory to compute features.

        Args:
            statistics: of the training set that the models learned from.
            counts: of the days before the requests.
            users: by user_id, the columns of dim_user.
            items: by item_id, the columns of dim_item.
        """
        self._statistics, self._counts = statistics, counts
        self._users, self._items = users, items
        self._transforms: dict[str, FittedTransform] = {
            feature.name: FITTED[feature.transform](**statistics.transforms[feature.name])
            for feature in catalog.DENSE
            if feature.transform in FITTED and feature.name in statistics.transforms
        }
        self._vocabularies = {name: Vocabulary(tuple(values)) for name, values in statistics.vocabulary.items()}
        self._whitening = Whitening(**statistics.whitening) if statistics.whitening else None

    def unscaled(self, request: Mapping[str, Any]) -> dict[str, float | int | str | None]:
        """Every feature by name, dense ones before scaling, values of vocabularies as text.

        Args:
            request: user_id, item_id, at (datetime; without a time zone it is UTC), position, device and, where the
                site has any, context (its own columns as text, by their names); users and items may be new.
        """
        user, item = self._users.get(request["user_id"], {}), self._items.get(request["item_id"], {})
        row = {name: user.get(name) for name in ("gender", "age_group", "city")}
        row |= {name: item.get(name) for name in ("category", "author", "published_at")}
        row |= OWN_COLUMNS.read_texts("user", user.get("attributes"))
        row |= OWN_COLUMNS.read_texts("item", item.get("attributes"))
        row |= OWN_COLUMNS.read_texts("context", request.get("context"))
        # The category of the item is known before any count is looked up.
        row |= request
        row |= self._counts.columns(request["user_id"], request["item_id"], row["category"], row)
        zone = self._statistics.timezone  # not the site's of today: models know the hours that they learned
        return {feature.name: _unscaled(feature, row, zone) for feature in catalog.COLUMNS}

    def scaled(self, request: Mapping[str, Any]) -> dict[str, float | int]:
        """Every feature by name as models read it: ids, and scaled numbers."""
        unscaled = self.unscaled(request)
        row = {feature.name: self._scaled(feature, unscaled[feature.name]) for feature in catalog.COLUMNS}
        if self._whitening is not None:
            names = [feature.name for feature in catalog.DENSE]
            vector = np.array([[row[name] for name in names]])  # (1, dense features)
            whitened = self._whitening.transform(vector)[0]
            row |= {name: float(np.float32(value)) for name, value in zip(names, whitened, strict=True)}
        return row

    def _scaled(self, feature: Feature, value: Any) -> float | int:
        if isinstance(feature, Dense):
            if feature.name in self._transforms:
                value = self._transforms[feature.name].transform([value])[0]  # NaN for None
            if value is None or not math.isfinite(value):  # a logged or divided value may be infinite
                value = feature.default
            mean, deviation = self._statistics.mean[feature.name], self._statistics.deviation[feature.name]
            # 0 after scaling is the training rows' mean, or smallest value. float32, as data sets have it.
            return 0.0 if value is None else float(np.float32((value - mean) / deviation))
        if feature.at_least:
            return int(self._vocabularies[feature.name].transform([value])[0])
        return int(value or 0)


def _unscaled(feature: Feature, row: Mapping[str, Any], zone: str) -> float | int | str | None:
    if isinstance(feature, Dense):
        value = evaluate(transformed_source(feature.name, feature.transform, feature.source), row, zone)
        return None if value is None else float(np.float32(value))  # as the training set's float column
    value = evaluate(feature.source, row, zone)
    if feature.at_least:
        return None if value is None else str(value)
    # Bucket 0 is for missing values, as on Spark.
    return 0 if value is None else hash_bucket(catalog.index_of(feature), value, feature.buckets, feature.is_number)
