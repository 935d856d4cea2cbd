"""What a feature is: a source, which is an expression over a row, and what models get of its value."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from conf.site.columns import Buckets
from conf.site.declaration import Name, declaration


@declaration
class Sparse:
    """A categorical value as an id below `buckets`; 0 stands for a missing one.

    Models have one weight or vector per id, which is what a one-hot vector times a matrix would be. Ids are hashes,
    unless `is_number` or `at_least` is given. Whole numbers are then their own ids, plus 1; or values that so many
    training rows have get ids of their own (a vocabulary), from 2 on, frequent ones first, and 1 stands for all others.
    """

    name: Name
    source: Name
    buckets: Buckets
    description: str
    at_least: Annotated[int, Field(ge=0)] = 0
    is_number: bool = False
    """Whole numbers below `buckets` − 1 are ids, of which no two meet; all else is hashed."""
    kind: ClassVar[str] = "sparse"

    @property
    def definition(self) -> str:
        """What the feature index keeps: a change of it is refused."""
        if self.at_least:
            return f"vocabulary({self.source}, at least {self.at_least}, at most {self.buckets})"
        return f"{'number' if self.is_number else 'hash'}({self.source}, {self.buckets})"


@declaration
class Dense:
    """A number: `scale(transform(source))`, both named in `features/transforms/`, fitted on the training rows.

    A missing value becomes `default`, in the unit of the transform; without one, 0 once scaled: the training rows'
    mean, or their smallest value. `Dense("no_idle", "isnull(user_last_click)", …, scale="none")` flags missing values.
    """

    name: Name
    source: Name
    description: str
    transform: str = "identity"
    default: float | None = None
    scale: Literal["standardise", "min_max", "symmetric", "none"] = "standardise"
    kind: ClassVar[str] = "dense"

    @property
    def definition(self) -> str:
        """What the feature index keeps: a change of it is refused."""
        default = "" if self.default is None else f", default {self.default}"
        return f"{self.scale}({self.transform}({self.source}){default})"


Feature = Sparse | Dense
