import pytest

from conf import UserError
from features.catalog import DENSE, FEATURES, SPARSE
from features.feature_index import check_unchanged


def definitions() -> dict[str, tuple[int, str]]:
    return {feature.name: (i, feature.definition) for i, feature in enumerate(FEATURES)}


def test_names_are_different_and_each_says_what_it_is() -> None:
    assert len({feature.name for feature in FEATURES}) == len(FEATURES) == len(SPARSE) + len(DENSE)
    assert all(feature.description for feature in FEATURES)


def test_a_new_feature_at_the_end_is_welcome() -> None:
    known = definitions()
    check_unchanged(known, {**known, "new": (len(known), "hash(new, 8)")})


def test_a_moved_changed_or_removed_feature_is_refused_and_shown() -> None:
    """F11: the index of an existing feature never changes."""
    known = definitions()
    moved = {**known, "user_id": (1, known["user_id"][1])}
    with pytest.raises(UserError, match=r"'user_id' was 0: hash\(user_id, 65536\), is 1"):
        check_unchanged(known, moved)
    with pytest.raises(UserError, match="'item_id' was"):
        check_unchanged(known, {**known, "item_id": (1, "hash(item_id, 8)")})
    with pytest.raises(UserError, match=r"'category' \(index 2\) is gone"):
        check_unchanged(known, {name: value for name, value in known.items() if name != "category"})
