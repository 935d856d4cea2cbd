"""Transforms of feature values, each defined once for Spark and for one request."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql.functions import pandas_udf  # type: ignore[attr-defined]
from pyspark.sql.types import DoubleType

from conf import UserError
from features.transforms.numeric import Arctan, FittedTransform, Quantile
from features.transforms.vocabulary import Vocabulary

# What `Dense(transform=…)` may name. A new transform is added to one of these two dicts.
# Without anything to learn: an expression around the feature's source, which Spark SQL and
# `features/transforms/expressions.py` both evaluate.
EXPRESSIONS: dict[str, str] = {
    "identity": "{x}",
    "log1p": "log1p({x})",
    "signed_log": "sign({x}) * log1p(abs({x}))",
    "exp": "exp({x})",
}
# Learned from the training rows and applied by numpy, on Spark in a pandas UDF.
FITTED: dict[str, type[FittedTransform]] = {"arctan": Arctan, "quantile": Quantile}


def transformed_source(feature: str, transform: str, source: str) -> str:
    """The expression of a dense feature before scaling: `source` inside its transform, if that is an expression.

    Raises:
        UserError: when there is no transform of this name.
    """
    if transform in FITTED:
        return source
    if transform not in EXPRESSIONS:
        names = ", ".join([*EXPRESSIONS, *FITTED])
        raise UserError(f"feature '{feature}' has the transform '{transform}'; choose from {names}")
    return EXPRESSIONS[transform].format(x=f"({source})")


def with_transformed(rows: DataFrame, column: str, transform: FittedTransform | Vocabulary) -> DataFrame:
    """`rows` with `column` replaced by its transform, as double."""

    def apply(values: pd.Series) -> pd.Series:
        result: NDArray[Any] = transform.transform(values.to_numpy())
        return pd.Series(result.astype(np.float64))

    return rows.withColumn(column, pandas_udf(apply, DoubleType())(column))
