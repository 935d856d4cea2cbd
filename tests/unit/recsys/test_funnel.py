"""What survives each step of a ranking, counted by hand."""

import pandas as pd
import pytest

from recsys.blend.funnel import funnel_rows


def pairs(text: str, **columns: object) -> pd.DataFrame:
    """Pairs as `u1a u2b`: user u1 and item a."""
    frame = pd.DataFrame(
        {"user_id": [pair[:2] for pair in text.split()], "item_id": [pair[2] for pair in text.split()]}
    )
    return frame.assign(**columns)


def test_each_step_keeps_what_it_keeps_and_a_channel_brings_what_no_other_does() -> None:
    positives = pairs("u1a u1b u1c u2a u2d")
    # Nobody proposes u2d; x is no positive.
    candidates = pairs("u1a u1b u1c u1x u2a", channels=["hot", "ease+hot", "ease", "mf", "hot"])
    ranked = pairs("u1x u1a u1b u2a", rank=[1, 2, 3, 1])
    rows = funnel_rows(positives, candidates, ranked, pairs("u1x u1b u2a"), 2)
    assert [(row["stage"], row["channel"], row["survivors"], row["gain"], row["overlap"]) for row in rows] == [
        ("recall", "ease", 2, 1, 0.5),
        ("recall", "hot", 3, 2, pytest.approx(1 / 3)),
        ("merged", "all", 4, None, None),
        ("coarse", "all", 3, None, None),
        ("fine", "all", 2, None, None),
        ("published", "all", 2, None, None),
    ]
    assert [row["step"] for row in rows] == [1, 1, 2, 3, 4, 5]
    assert {row["positives"] for row in rows} == {5}
    for row in rows:
        assert row["share"] == row["survivors"] / 5
        assert 0 <= row["low"] <= row["share"] <= row["high"] <= 1
    assert funnel_rows(positives[:0], candidates, ranked, ranked, 2) == []


def test_intervals_have_the_share_of_users_who_are_alike_half_the_time_apart() -> None:
    """Of a hundred users with two positives each either both survive or none: half as much is known as of 200."""
    together = pairs(" ".join(f"{n:02}{item}" for n in range(50) for item in "ab"), channels="hot", rank=1)
    positives = pairs(" ".join(f"{n:02}{item}" for n in range(99) for item in "ab"))
    published = funnel_rows(positives, together, together, together, 1)[-1]
    standard_error = (0.5 * 0.5 / 99) ** 0.5
    assert published["high"] - published["low"] == pytest.approx(2 * 1.96 * standard_error, rel=0.15)
