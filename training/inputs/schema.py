"""What a model is built for: names and sizes of its inputs, saved with its weights, so that it can be built again."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from conf import UserError
from conf.model_files import verify_model_file, write_model_file
from features.compatibility import names_difference

INPUTS_FILE = "inputs.json"
ITEM_FIELDS = ("item_id", "category", "author")
"""Built-in fields that describe the item."""


@dataclass(frozen=True)
class Inputs:
    """Inputs of a model, in the order of its tensors."""

    sparse: tuple[str, ...] = ()
    """Names of the fields (categorical features)."""
    buckets: tuple[int, ...] = ()
    """Number of ids of each field."""
    dense: tuple[str, ...] = ()
    """Names of the numerical features."""
    lists: tuple[str, ...] = ()
    """Names of the lists of ids."""
    list_buckets: int = 0
    """Ids in lists are below this."""
    labels: tuple[str, ...] = ("label",)
    classes: tuple[str, ...] = ()
    """Names of the classes, where the label is the number of one."""
    list_length: int = 0
    """Newest ids of a list that the model reads."""
    sequences: tuple[str, ...] = ()
    """Names of the lists that click models read as fields, which the site declares (`conf.site.Last`)."""
    sequence_buckets: tuple[int, ...] = ()
    """Number of ids of each of them."""
    sequence_lengths: tuple[int, ...] = ()
    """Most ids of each of them in a row."""
    image: tuple[int, int, int] | None = None
    """Channels, height, width."""
    item_fields: tuple[str, ...] = ITEM_FIELDS
    """Fields that are the same for all users and moments, the item's id first: what an item tower reads."""
    user_fields: tuple[str, ...] | None = None
    """Fields that do not depend on the item: what a user tower may read; None for all but those of the built-in names.
    """

    def column_of(self, field: str) -> int:
        """Column of a field in the tensor `sparse` (rows, fields). Raises UserError when the data set lacks it."""
        if field not in self.sparse:
            raise UserError(f"this model needs the feature {field}; the data set has {', '.join(self.sparse)}")
        return self.sparse.index(field)

    @property
    def item_columns(self) -> tuple[int, ...]:
        """Columns of the item's fields in `sparse`, the item's id first: what an item tower reads."""
        return tuple(self.column_of(name) for name in self.item_fields if name in self.sparse)

    @property
    def user_columns(self) -> tuple[int, ...]:
        """Columns of `user_fields`.

        Nets that were saved without these leave out the item's own fields, its position in the list, and crosses of
        user and item, whose names end in the item's field (`user_tag_category`).
        """
        if self.user_fields is not None:
            return tuple(self.column_of(name) for name in self.user_fields)
        item_fields = (*ITEM_FIELDS, "position")
        is_of_item = [name in item_fields or name.endswith("_category") for name in self.sparse]
        return tuple(i for i, of_item in enumerate(is_of_item) if not of_item)

    @property
    def num_items(self) -> int:
        """Number of ids that an item can have. Raises UserError when the data set has no item ids."""
        return self.buckets[self.column_of("item_id")]

    @property
    def num_fields(self) -> int:
        """Fields that have an embedding in a row: those of `sparse`, and one for each of `sequences`."""
        return len(self.sparse) + len(self.sequences)

    @property
    def list_columns(self) -> tuple[str, ...]:
        """Columns of all lists, in the order of a batch's."""
        return (*self.lists, *(f"f_{name}" for name in self.sequences))

    @property
    def sized_sequences(self) -> tuple[str, ...]:
        """Each of `sequences` with its numbers of ids, as `last_cart[16384][20]`."""
        sizes = zip(self.sequences, self.sequence_buckets, self.sequence_lengths, strict=True)
        return tuple(f"{name}[{buckets}][{length}]" for name, buckets, length in sizes)

    @property
    def sized_fields(self) -> tuple[str, ...]:
        """Each field with its number of ids, as `category[256]`."""
        return tuple(f"{name}[{size}]" for name, size in zip(self.sparse, self.buckets, strict=True))

    def feature_difference(self, present: "Inputs") -> str:
        """Which features other inputs have that a net built for these can't read, as text; empty when it can.

        `list_length` is the net's own: it cuts lists of any length.
        """
        lists = [(*one.lists, f"ids[{one.list_buckets}]", *one.sized_sequences) for one in (self, present)]
        return _differences(
            fields=(self.sized_fields, present.sized_fields),
            numbers=(self.dense, present.dense),
            lists=(lists[0], lists[1]),
            image=((str(self.image),), (str(present.image),)),
        )

    def difference(self, present: "Inputs") -> str:
        """`feature_difference`, and that of labels and classes: what a net's outputs mean."""
        outputs = _differences(labels=(self.labels, present.labels), classes=(self.classes, present.classes))
        return "; ".join(filter(None, (self.feature_difference(present), outputs)))

    def save(self, folder: Path) -> None:
        """Write `inputs.json` into a run's model folder."""
        write_model_file(folder / INPUTS_FILE, json.dumps(asdict(self), indent=2))

    @classmethod
    def load(cls, folder: Path) -> "Inputs":
        """The inputs that `save` wrote. Raises UserError when the file is missing or corrupt."""
        verify_model_file(folder / INPUTS_FILE)
        values = json.loads((folder / INPUTS_FILE).read_text(encoding="utf-8"))
        return cls.from_dict(values)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Inputs":
        """The inputs of a parsed JSON object, whose lists become tuples again."""
        arguments: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
        }
        return cls(**arguments)


def _differences(**pairs: tuple[Sequence[str], Sequence[str]]) -> str:
    """What each second list of names has differently, after the word for its kind."""
    texts = {kind: names_difference(trained, present) for kind, (trained, present) in pairs.items()}
    return "; ".join(f"{kind} {text}" for kind, text in texts.items() if text)
