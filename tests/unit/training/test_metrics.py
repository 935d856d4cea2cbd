import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import log_loss as sklearn_log_loss
from sklearn.metrics import roc_auc_score

from training.metrics import auc, log_loss


@pytest.mark.parametrize(
    ("labels", "scores", "expected"),
    [
        ([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8], 0.75),
        ([1, 1, 1, 1, 0, 1, 0, 0, 0, 0], list(range(10, 0, -1)), 0.96),
        ([1, 1, 1, 0, 1, 0, 1, 0, 0, 0], list(range(10, 0, -1)), 0.88),
        ([0, 1], [0.5, 0.5], 0.5),
    ],
)
def test_auc_of_known_vectors(labels: list[int], scores: list[float], expected: float) -> None:
    assert auc(labels, scores) == pytest.approx(expected)


def test_auc_of_one_class_has_no_meaning() -> None:
    with pytest.raises(ValueError, match="needs positives and negatives"):
        auc([1, 1], [0.1, 0.2])


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 9)), min_size=2, max_size=60))
def test_auc_and_log_loss_agree_with_another_implementation(rows: list[tuple[bool, int]]) -> None:
    labels, scores = np.array([row[0] for row in rows], int), np.array([row[1] / 10 for row in rows])
    if 0 < labels.sum() < len(labels):
        assert auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores))
        assert log_loss(labels, scores) == pytest.approx(sklearn_log_loss(labels, scores))
