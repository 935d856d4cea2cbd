"""What the towers of retrieval models may read."""

import pytest

from conf.site import Sparse
from features.catalog import SPARSE
from features.item_side import depends_on_item, is_item_only
from training.inputs.schema import Inputs


@pytest.mark.parametrize(
    ("source", "of_item", "item_only"),
    [
        ("author", True, True),
        ("concat(author, '|', category)", True, True),
        ("year(published_at)", True, True),
        ("concat(user_id, '|', author)", True, False),
        ("datediff(at, published_at)", True, False),
        ("item_shown", True, False),
        ("category_share", True, False),
        ("user_category_clicks", True, False),
        ("position", True, False),
        ("user_shown", False, False),
        ("dayofweek(at)", False, False),
        ("concat(city, '|', device)", False, False),
    ],
)
def test_a_user_tower_reads_nothing_of_the_item(source: str, of_item: bool, item_only: bool) -> None:
    feature = Sparse("own", source, 64, "")
    assert (depends_on_item(feature), is_item_only(feature)) == (of_item, item_only)


def test_towers_that_were_saved_before_read_the_same_fields() -> None:
    names = tuple(feature.name for feature in SPARSE)
    fields = tuple(feature.name for feature in SPARSE if not depends_on_item(feature))
    saved, built = Inputs(sparse=names), Inputs(sparse=names, user_fields=fields)
    assert saved.user_columns == built.user_columns
