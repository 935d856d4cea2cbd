"""What a sample says of a column and of a table: counts, ranges, times, keys."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from conf import UserError
from etl.sources.dialect import Dialect
from etl.sources.pandas_values import to_ids, to_numbers, to_times
from etl.sources.times import EPOCH_UNITS, TimeFormat, detect_time_format
from etl.sources.values import has_damaged_ids

_OBJECT = re.compile(r"(?s)\s*(\[\s*)?\{.*\}(\s*\])?\s*")
_MOSTLY = 0.99  # of the values
_TIME_SAMPLE = 500
# A column of whole numbers that would be such times is one only if it covers no longer.
_MAX_EPOCH_YEARS = 40


@dataclass(frozen=True, eq=False)
class Field:
    """A column of a table."""

    name: str
    texts: pd.Series
    """Values of the sample's rows; None where there is none, or a word that stands for none."""
    decimal: str = "."
    is_list: bool = False
    """The header says that it has lists, separated by blanks."""
    is_moment: bool = False
    """The file says that it has times, which may be written as numbers."""

    @classmethod
    def of(cls, name: str, texts: Sequence[str | None], decimal: str = ".") -> "Field":
        """A column of texts as a file has them."""
        return cls(name, to_ids(pd.Series(texts, dtype=object)), decimal)

    @cached_property
    def counts(self) -> pd.Series:
        """Distinct values with their numbers of rows, the commonest first."""
        return self.texts.value_counts()

    @property
    def num_rows(self) -> int:
        """Rows of the sample."""
        return len(self.texts)

    @cached_property
    def num_missing(self) -> int:
        """Rows without a value."""
        return int(self.texts.isna().sum())

    @property
    def num_distinct(self) -> int:
        """Distinct values."""
        return len(self.counts)

    @property
    def share_missing(self) -> float:
        """Share of the rows without a value."""
        return self.num_missing / max(self.num_rows, 1)

    @property
    def is_unique(self) -> bool:
        """Whether each row has a value of its own."""
        return self.num_missing == 0 and self.num_distinct == self.num_rows > 1

    @cached_property
    def numbers(self) -> pd.Series:
        """The rows' values as numbers, NaN where they are none."""
        return to_numbers(self.texts, self.decimal)

    @cached_property
    def is_number(self) -> bool:
        """Whether nearly all values are numbers."""
        return self.share_of_numbers >= _MOSTLY

    @cached_property
    def share_of_numbers(self) -> float:
        """Share of the values that are numbers."""
        return float(self.numbers.notna().sum()) / max(self.num_rows - self.num_missing, 1)

    @cached_property
    def is_whole_number(self) -> bool:
        """Whether nearly all values are numbers, and these whole ones."""
        numbers = self.numbers.dropna()
        return self.is_number and bool((numbers == numbers.round()).all())

    @cached_property
    def is_object(self) -> bool:
        """Whether cells have JSON objects, or lists of them."""
        texts = [str(text) for text in self.counts.index[:100]]
        return bool(texts) and all(map(_OBJECT.fullmatch, texts))

    @cached_property
    def is_damaged(self) -> bool:
        """Whether a spreadsheet has rounded ids, so that different ones are equal."""
        return has_damaged_ids(list(self.counts.index[:500]))

    @cached_property
    def time_format(self) -> TimeFormat | str | None:
        """How its times are written; why that can't be told, of what looks like dates; None for no times."""
        texts = list(self.texts.dropna().head(_TIME_SAMPLE))
        if not texts:
            return None
        try:
            form = detect_time_format(self.name, texts, "UTC")
        except UserError as error:
            return str(error) if "day or the month" in str(error) else None
        years = self.years(form)
        if years is None or (form.pattern in EPOCH_UNITS and years[1] - years[0] > _MAX_EPOCH_YEARS):
            return None
        return form

    def times(self, form: TimeFormat) -> pd.Series:
        """The rows' times."""
        return to_times(self.texts, form, self.decimal)

    def years(self, form: TimeFormat) -> tuple[int, int] | None:
        """First and last year; None where no value is a time."""
        times = self.times(form).dropna()
        return None if times.empty else (times.min().year, times.max().year)


@dataclass(frozen=True, eq=False)
class SampledTable:
    """Files of one layout in a folder."""

    pattern: str
    """Of the files, from the folder of the declaration."""
    files: tuple[Path, ...]
    dialect: Dialect
    fields: Mapping[str, Field]
    num_rows: int
    """Of all files, about."""
    num_sampled: int
    num_refused: int
    has_header: bool = True

    @property
    def stem(self) -> str:
        """The files' name without date, pattern and endings: `movies` of `movies.csv.gz`."""
        name = Path(self.pattern).name.split(".")[0] or self.pattern
        bare = re.sub(r"\{date\}|\*|\d{4}[-_.]?\d{2}[-_.]?\d{2}", "", name).strip("-_. ")
        return bare or Path(self.pattern).parent.name

    @property
    def is_whole(self) -> bool:
        """Whether the sample is all rows."""
        return self.num_sampled + self.num_refused >= self.num_rows

    @property
    def keys(self) -> list[Field]:
        """Columns with a value of its own in each row, which are no times and no fractions."""
        return [field for field in self.fields.values() if field.is_unique and _may_be_id(field)]


def _may_be_id(field: Field) -> bool:
    is_fraction = field.is_number and not field.is_whole_number
    return not is_fraction and not field.is_object and (field.time_format is None or field.is_whole_number)


def shares(field: Field, limit: int = 6) -> str:
    """The commonest values with their shares: `view 92.1%, cart 5.0% …`."""
    parts = [f"{short(str(value))} {count / field.num_rows:.1%}" for value, count in field.counts.head(limit).items()]
    return ", ".join(parts) + (" …" if field.num_distinct > limit else "")


def number(value: float) -> str:
    """A number as people write it."""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.4g}"


def short(text: str, limit: int = 40) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
