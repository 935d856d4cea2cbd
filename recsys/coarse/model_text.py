"""The structure of LightGBM's model text, checked before its parser sees it: that one trusts what it reads.

Only for models without a checksum. A changed digit of a threshold passes: it is another model, and a valid one.
"""

import math
from itertools import pairwise
from pathlib import Path

from conf import UserError

PER_NODE = (
    "split_feature", "split_gain", "threshold", "decision_type", "left_child", "right_child",
    "internal_value", "internal_weight", "internal_count",
)  # fmt: skip
PER_LEAF = ("leaf_value", "leaf_weight", "leaf_count")
IS_CATEGORICAL = 1  # bit of decision_type


def read_trees(path: Path) -> str:
    """Read the header and the trees of a model text, which are all that predicts.

    Raises:
        UserError: the text is not whole, or its trees are no trees over its features; the message names the file.
    """
    try:
        return _checked_trees(path.read_bytes().decode("ascii"))
    except (ValueError, KeyError, IndexError) as error:  # of numbers and fields that are not there as well
        raise UserError(f"{path} is no whole LightGBM model ({error}): train again") from None


def _checked_trees(text: str) -> str:
    head, separator, rest = text.partition("\n\n")
    fields = _fields(head)
    if not text.startswith("tree\n") or not separator:
        raise ValueError("no header")
    num_features = int(fields["max_feature_idx"]) + 1
    if any(len(fields[name].split(" ")) != num_features for name in ("feature_names", "feature_infos")):
        raise ValueError("names or ranges of features are missing")
    if (fields["num_class"], fields["num_tree_per_iteration"]) != ("1", "1"):
        raise ValueError("several trees a round")
    start = 0
    for number, size in enumerate(map(int, fields["tree_sizes"].split())):
        block = rest[start : start + size]
        start += size
        if len(block) != size or not block.startswith(f"Tree={number}\n"):
            raise ValueError(f"tree {number} is not where it should be")
        _check_tree(_fields(block), num_features)
    if not rest[start:].startswith("end of trees\n") or "\nend of parameters\n" not in rest[start:]:
        raise ValueError("its end is missing")
    # Without the training parameters that follow: a damaged line of these ends LightGBM's process as well.
    return head + separator + rest[:start] + "end of trees\n"


def _check_tree(fields: dict[str, str], num_features: int) -> None:
    leaves = int(fields["num_leaves"])
    nodes = leaves - 1
    if leaves < 1 or fields["is_linear"] != "0" or not math.isfinite(float(fields["shrinkage"])):
        raise ValueError("a tree of another kind")
    # A tree of a single leaf has no nodes, and then no weights.
    if any("_" in value for value in fields.values()):
        raise ValueError("a number is damaged")  # 1_0 is a number for Python alone
    sizes = dict.fromkeys(PER_NODE, nodes) | dict.fromkeys(PER_LEAF if nodes else ("leaf_value",), leaves)
    values = {name: [float(value) for value in fields[name].split()] for name in sizes}
    for name, size in sizes.items():
        if len(values[name]) != size or not all(map(math.isfinite, values[name])):
            raise ValueError(f"{name} is damaged")
    ints = {name: [int(v) for v in fields[name].split()] for name in ("split_feature", "left_child", "right_child")}
    if any(not 0 <= feature < num_features for feature in ints["split_feature"]):
        raise ValueError("a split by no feature")
    # Every node but the root, and every leaf (as −1 − its number), is the child of one node that comes before it.
    children = sorted(ints["left_child"] + ints["right_child"])
    is_ordered = all(child < 0 or child > node for side in list(ints)[1:] for node, child in enumerate(ints[side]))
    if nodes and (children != [*range(-leaves, 0), *range(1, nodes)] or not is_ordered):
        raise ValueError("its nodes are no tree")
    _check_categories(fields, values, int(fields["num_cat"]))


def _check_categories(fields: dict[str, str], values: dict[str, list[float]], num_cat: int) -> None:
    """Categorical splits have the number of a bit set as threshold, whose words lie between two boundaries."""
    is_categorical = [int(kind) & IS_CATEGORICAL for kind in values["decision_type"]]
    thresholds = [values["threshold"][node] for node, flag in enumerate(is_categorical) if flag]
    if sorted(thresholds) != list(range(num_cat)):
        raise ValueError("its categorical splits are damaged")
    if num_cat:
        bounds = [int(value) for value in fields["cat_boundaries"].split()]
        words = [int(value) for value in fields["cat_threshold"].split()]
        is_ascending = all(low < high for low, high in pairwise(bounds))
        if len(bounds) != num_cat + 1 or bounds[0] != 0 or bounds[-1] != len(words) or not is_ascending:
            raise ValueError("its sets of categories are damaged")
        if any(not 0 <= word < 2**32 for word in words):
            raise ValueError("its sets of categories are damaged")


def _fields(block: str) -> dict[str, str]:
    """Values by name of the lines `name=value`."""
    return dict(line.split("=", maxsplit=1) for line in block.splitlines() if "=" in line)
