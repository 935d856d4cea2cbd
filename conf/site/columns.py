"""What the columns of a site's own hold, and so which features they become."""

import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from conf.site.declaration import Name, Names, declaration

# Columns that every site's rows have; crosses and rates may name them.
BUILT_IN_COLUMNS = ("user_id", "item_id", "category", "author", "gender", "age_group", "city", "device", "position")

# Those of them that are the items' own; lists of last acts may be of them.
ITEM_COLUMNS = ("item_id", "category", "author")

MAX_BUCKETS = 2**24
MAX_SLOTS = 64  # of tokens: each is a column of training sets
MAX_LENGTH = 500  # of lists of last acts
MAX_SIZE = 512  # of vectors: each number is a column of training sets
Buckets = Annotated[int, Field(ge=2, le=MAX_BUCKETS)]

Owner = Literal["user", "item", "context"]
"""Whose a column is: `context` is what was known when an item was shown or chosen."""


@declaration
class Number:
    """A number: a dense feature, standardised over the training rows. What is no number counts as missing."""

    transform: Literal["identity", "log1p", "signed_log", "arctan", "quantile"] = "identity"
    """`log1p` for counts and amounts over several orders of magnitude, `quantile` for odd distributions."""
    default: float | None = None
    """Of a missing value, in the unit of the transform; without one, the training rows' mean."""
    is_feature: bool = True
    name: str | None = None
    """Of the feature; `own_name` without one. A feature that is defined anew needs a new name."""


@declaration
class Category:
    """One of several texts (or whole numbers that are names): a sparse feature."""

    buckets: Buckets = 1024
    """Ids that the texts are hashed into; some ten times as many as there are texts keep most of them apart."""
    is_number: bool = False
    """Whole numbers below `buckets` − 1 are ids themselves, of which no two meet; all else is hashed."""
    is_feature: bool = True
    name: str | None = None


@declaration
class Tags:
    """Several texts in a cell, such as `Action|Comedy`: a sparse feature for each of the first `slots` of them.

    A list in brackets, as JSON and Python write it (`['a', 'b']`), is read as such, whatever the separator.
    """

    separator: Name = "|"
    slots: Annotated[int, Field(ge=1, le=20)] = 3
    buckets: Buckets = 1024
    missing: Names = ()
    """Texts that stand for no tag."""
    is_feature: bool = True
    name: str | None = None


@declaration
class Tokens:
    """The words of a text, such as a title: a sparse feature for each slot, which a word has by its hash.

    So a word has one embedding, wherever it stands; of two words of one slot the first is read. Words are letters and
    digits of any script, in small letters; of Chinese and Japanese each two signs that stand together.
    """

    slots: Annotated[int, Field(ge=1, le=MAX_SLOTS)] = 16
    buckets: Buckets = 4096
    is_feature: bool = True
    name: str | None = None


@declaration
class Vector:
    """`size` numbers in a cell, such as an embedding learned elsewhere: a dense feature for each, standardised.

    Between them stand blanks, commas, semicolons or bars, around them brackets or nothing; decimals follow a point. A
    cell of another size, or with what is no finite number, is missing as a whole.
    """

    size: Annotated[int, Field(ge=2, le=MAX_SIZE)]
    is_feature: bool = True
    name: str | None = None


@declaration
class Text:
    """An id or text of its own in each row, or what no model may read: kept in the table, no feature."""


@declaration
class Outcome:
    """What came of an impression beside the click, as a purchase: a further label of models of several labels.

    Never a feature. An empty cell is none; what is neither yes nor no, nor a number where `at_least` is given, is
    unknown, and no model learns from it.
    """

    name: Name
    """Of the label, which is `label_NAME` in the training set."""
    at_least: float | None = None
    """Smallest value that counts, where the column has numbers; else it is 1, true or yes."""
    needs_click: bool = True
    """Whether it can only follow a click: it is unknown, not none, for what was not clicked."""

    @property
    def label(self) -> str:
        """Name of the column of the training set."""
        return f"label_{self.name}"


@declaration
class Weight:
    """How much a row counts in training, a number from 0 on; 1 where it is missing. Never a feature."""


FeatureType = Number | Category | Tags | Tokens | Vector
ColumnType = FeatureType | Text | Outcome | Weight


def _typed(columns: object) -> object:
    for name, kind in columns.items() if isinstance(columns, Mapping) else ():
        if not isinstance(kind, ColumnType):
            raise ValueError(
                f"{name!r} is {kind!r}: write Number(), Category(), Tags(), Tokens(), Vector(…), Text(), Outcome(…) or "
                "Weight()"
            )
    return columns


Columns = Annotated[Mapping[Name, ColumnType], BeforeValidator(_typed)]
"""Type of columns by their names in the source."""


def own_name(owner: Owner, column: str) -> str:
    """Name of the feature of a column: `item_year` of the items' column `Year`."""
    bare = re.sub(r"\W+", "_", column.strip()).strip("_").lower()
    return f"{owner}_{bare}"


def feature_name(owner: Owner, column: str, kind: ColumnType) -> str:
    """Name of the feature of a column, the one that its type gives or `own_name`."""
    if isinstance(kind, FeatureType) and kind.name:
        return kind.name
    return own_name(owner, column)
