"""Places in lists, as the judge of lists reads them from ids."""

import numpy as np

from features.catalog import SPARSE
from recsys.blend.judge import POSITION, position_id, positions
from recsys.dataset import Rows


def test_every_place_of_a_long_list_is_a_place() -> None:
    """News lists have hundreds of items, more than there are ids: each id stands for the first place that has it."""
    places = np.arange(1, 400)
    sparse = np.zeros((len(places) + 1, len(SPARSE)), np.int64)  # the last row has no place
    sparse[:-1, POSITION] = [position_id(int(place)) for place in places]
    rows = Rows(sparse, np.zeros((len(sparse), 0), np.float32), np.zeros(len(sparse), np.float32), {})
    read = positions(rows)
    assert read[-1] == 0
    assert (read[:-1] >= 1).all()
    assert (read[:-1] <= places).all()
    assert read[:9].tolist() == list(range(1, 10))
    # Of two places with one id the first is meant.
    assert all(position_id(int(seen)) == position_id(int(place)) for seen, place in zip(read[:-1], places, strict=True))
