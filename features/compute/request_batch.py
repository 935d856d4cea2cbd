"""The features of one request for all its candidates at once: what `request_rows.py` computes row by row.

The catalog's expressions are compiled once. What belongs to the user or the moment is computed once a request, and what
depends on the item alone once an item.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conf.site.features import Sparse
from features import catalog
from features.catalog import OWN_COLUMNS
from features.compute.training_statistics import TrainingStatistics
from features.transforms import FITTED, transformed_source
from features.transforms.columns import Row, Texts, Value, as_numbers, columns_of, compile_expression
from features.transforms.hashing import bucket_hasher
from features.transforms.vocabulary import Vocabulary
from features.transforms.whitening import Whitening

# What is known of an item without any count.
ITEM_COLUMNS = frozenset({"item_id", "category", "author", "published_at", *OWN_COLUMNS.names("item")})
ITEM_FEATURES = tuple(f for f in catalog.SPARSE if columns_of(f.source) <= ITEM_COLUMNS)


@dataclass(frozen=True)
class FeatureBatch:
    """Features of candidates, in the order of the catalog's SPARSE and DENSE."""

    sparse: NDArray[np.int64]  # (rows, sparse features) ids
    unscaled: NDArray[np.float32]  # (rows, dense features) as they may be logged; NaN for none
    dense: NDArray[np.float32]  # (rows, dense features) as models read them

    def row(self, number: int) -> dict[str, float | int | None]:
        """One candidate's features by name, dense ones before scaling, None where there is no value."""
        sparse, dense = self.sparse[number].tolist(), self.unscaled[number].tolist()
        row: dict[str, float | int | None] = {f.name: value for f, value in zip(catalog.SPARSE, sparse, strict=True)}
        numbers = ((f.name, value) for f, value in zip(catalog.DENSE, dense, strict=True))
        return row | {name: value if value == value else None for name, value in numbers}


class BatchFeatures:
    """Computes features of many candidates as the training set of `statistics` has them."""

    def __init__(self, statistics: TrainingStatistics) -> None:
        """Compile the catalog.

        Args:
            statistics: of the training set that the models learned from.

        Raises:
            UserError: an expression of the catalog has an unknown part.
        """
        self._dense = [
            compile_expression(transformed_source(feature.name, feature.transform, feature.source))
            for feature in catalog.DENSE
        ]
        self._sparse = [(feature.name, _id_function(feature, statistics)) for feature in catalog.SPARSE]
        self._fitted = {
            column: FITTED[feature.transform](**statistics.transforms[feature.name])
            for column, feature in enumerate(catalog.DENSE)
            if feature.transform in FITTED and feature.name in statistics.transforms
        }
        self._whitening = Whitening(**statistics.whitening) if statistics.whitening else None
        names = [feature.name for feature in catalog.DENSE]
        self._mean = np.array([statistics.mean.get(name, 0.0) for name in names])
        self._deviation = np.array([statistics.deviation.get(name, 1.0) for name in names])
        # A missing value without a default is the mean: 0 after scaling.
        defaults = [(f.default, mean) for f, mean in zip(catalog.DENSE, self._mean, strict=True)]
        self._default = np.array([mean if default is None else default for default, mean in defaults])

    def compute(self, row: Row, rows: int, item_ids: Mapping[str, NDArray[np.integer]] | None = None) -> FeatureBatch:
        """Every feature of every candidate.

        Args:
            row: every column that the catalog names: single values for what candidates share, columns (see
                `features.transforms.columns`) for what they don't; moments as the clocks of `statistics.timezone` show
                them.
            rows: number of candidates.
            item_ids: (rows,) ids of ITEM_FEATURES by name, where they are computed already.
        """
        sparse = np.empty((rows, len(self._sparse)), np.int64)
        for column, (name, ids) in enumerate(self._sparse):
            sparse[:, column] = item_ids[name] if item_ids and name in item_ids else ids(row)
        unscaled = np.empty((rows, len(self._dense)), np.float64)
        for column, function in enumerate(self._dense):
            value = function(row)
            single = value is None or isinstance(value, (int, float))
            unscaled[:, column] = (np.nan if value is None else value) if single else as_numbers(value, rows)
        as_logged = unscaled.astype(np.float32)
        return FeatureBatch(sparse, as_logged, self._scaled(as_logged))

    def item_ids(self, items: Row, rows: int) -> dict[str, NDArray[np.int32]]:
        """(rows,) ids of ITEM_FEATURES by name, of items whose ITEM_COLUMNS are the columns of `items`."""
        functions = dict(self._sparse)
        return {f.name: np.broadcast_to(functions[f.name](items), rows).astype(np.int32) for f in ITEM_FEATURES}

    def _scaled(self, unscaled: NDArray[np.float32]) -> NDArray[np.float32]:
        values = unscaled.astype(np.float64)
        for column, transform in self._fitted.items():
            values[:, column] = transform.transform(values[:, column])
        values = np.where(np.isfinite(values), values, self._default)
        scaled = ((values - self._mean) / self._deviation).astype(np.float32)
        return scaled if self._whitening is None else self._whitening.transform(scaled).astype(np.float32)


def _id_function(feature: Sparse, statistics: TrainingStatistics) -> Callable[[Row], Any]:
    """Row -> the feature's id, or (rows,) ids."""
    value_of = compile_expression(feature.source)
    if feature.at_least:
        vocabulary = Vocabulary(tuple(statistics.vocabulary[feature.name]))
        return lambda row: _ids(value_of(row), lambda value: int(vocabulary.transform([value])[0]))
    bucket = bucket_hasher(catalog.index_of(feature), feature.buckets, feature.is_number)
    return lambda row: _ids(value_of(row), bucket)


def _ids(value: Value, id_of: Callable[[Any], int]) -> Any:
    if isinstance(value, Texts):
        mapped = value.map(id_of)
        return np.array(mapped.values, np.int64)[mapped.codes]
    if isinstance(value, np.ndarray):  # numbers: whole ones as Spark writes counts
        texts = [None if one != one else int(one) if one == int(one) else one for one in value.tolist()]
        return np.array([id_of(text) for text in texts], np.int64)
    return id_of(value)
