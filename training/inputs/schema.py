"""What a model is built for: names and sizes of its inputs, saved with its weights, so that it can be built again."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from conf import UserError
from conf.atomic import write_atomically

FILE = "inputs.json"
# Fields that belong to the item; the others belong to the user or the moment.
ITEM_FIELDS = ("item_id", "category", "author")


@dataclass(frozen=True)
class Inputs:
    """Inputs of a model, in the order of its tensors."""

    sparse: tuple[str, ...] = ()
    """Names of the fields of `sparse`."""
    buckets: tuple[int, ...] = ()
    """Number of ids of each."""
    dense: tuple[str, ...] = ()
    lists: tuple[str, ...] = ()
    list_buckets: int = 0
    """Ids in lists are below this."""
    labels: tuple[str, ...] = ("label",)
    classes: tuple[str, ...] = ()
    """Names of the classes, where the label is the number of one."""
    list_length: int = 0
    """Newest ids of a list that the model looks at."""
    image: tuple[int, int, int] | None = None
    """Channels, height, width."""

    def place(self, field: str) -> int:
        """Column of a field in `sparse`. Raises UserError when there is none."""
        if field not in self.sparse:
            raise UserError(f"this model needs the feature {field}; the data set has {', '.join(self.sparse)}")
        return self.sparse.index(field)

    @property
    def item_places(self) -> tuple[int, ...]:
        """Columns of the item's fields in `sparse`, the item itself first."""
        return tuple(self.place(name) for name in ITEM_FIELDS if name in self.sparse)

    @property
    def user_places(self) -> tuple[int, ...]:
        """Columns of fields that don't know the item: not crossed with it, nor its place in a list."""
        return tuple(
            i for i, name in enumerate(self.sparse) if name not in (*ITEM_FIELDS, "position") and not _crossed(name)
        )

    @property
    def num_items(self) -> int:
        """Ids that an item can have."""
        return self.buckets[self.place("item_id")]

    def save(self, folder: Path) -> None:
        write_atomically(folder / FILE, json.dumps(asdict(self), indent=2))

    @classmethod
    def load(cls, folder: Path) -> "Inputs":
        return cls.from_dict(json.loads((folder / FILE).read_text(encoding="utf-8")))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Inputs":
        """From JSON, which has lists for tuples."""
        arguments: dict[str, Any] = {
            n: tuple(value) if isinstance(value, list) else value for n, value in values.items()
        }
        return cls(**arguments)


def _crossed(name: str) -> bool:
    """A user's field crossed with the item's topic, as `user_tag_category`."""
    return name.endswith("_category")
