"""What was counted of each user before a day, and the user's tags: arrays of many users at once, in Spark's workers.

The same as `running_counts.py` counts for single requests. Windows and joins by user, by user and topic and by tag took
more on Spark than the counting: their plans, shuffles and sorts.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from features.counts.day_sums import NEVER, DaySums, Floats, Ints, as_dates, sum_arrays

LIKED_STRENGTH = 1.0  # expected clicks that the usual rate weighs as much as in a user's liked tag
NUM_TAGS = 3
TAG_STRENGTH = 10.0  # impressions that the usual shares weigh as much as in a user's tags

TAGS = [*(f"user_tag{n}" for n in range(1, NUM_TAGS + 1)), "user_liked_tag"]
SCHEMA = (
    "user_id string, day date, user_shown bigint, user_clicks bigint, user_expected double, user_last_click date, "
    f"{', '.join(f'{tag} string' for tag in TAGS)}, "
    "topics map<string, struct<shown: bigint, clicks: bigint, expected: double>>"
)
_SUMS = [pa.field("shown", pa.int64()), pa.field("clicks", pa.int64()), pa.field("expected", pa.float64())]
_ARROW_SCHEMA = pa.schema(
    {
        "user_id": pa.string(), "day": pa.date32(), "user_shown": pa.int64(), "user_clicks": pa.int64(),
        "user_expected": pa.float64(), "user_last_click": pa.date32(), **{tag: pa.string() for tag in TAGS},
        "topics": pa.map_(pa.string(), pa.struct(_SUMS)),
    }
)  # fmt: skip


@dataclass(frozen=True)
class _Daily:
    """Sums (3, rows) of keys on single days, by day."""

    key: Ints
    day: Ints
    sums: Floats

    @classmethod
    def of(cls, key: Ints, day: Ints, values: Sequence[Floats]) -> "_Daily":
        days, of_day = np.unique(day, return_inverse=True)
        most = int(key.max(initial=-1)) + 1
        pairs, of_row = np.unique(of_day * most + key, return_inverse=True)  # by day, then by key
        sums: Floats = np.stack(
            [np.bincount(of_row, weights, minlength=len(pairs)).astype(np.float64) for weights in values]
        )
        return cls(pairs % max(most, 1), days[pairs // max(most, 1)], sums)


def user_days(batches: Iterator[pa.RecordBatch], topics: DaySums) -> Iterator[pa.RecordBatch]:
    """Rows of SCHEMA, one for each user and day that is asked for.

    Args:
        batches: all rows of some users, in any order: user_id, day, category (null for none), label and expected of
            impressions; null for label where only user_id and day are, to sum up to.
        topics: of all users.
    """
    if rows := list(batches):
        yield from _states(pa.Table.from_batches(rows), topics)


def _states(table: pa.Table, topics: DaySums) -> Iterator[pa.RecordBatch]:
    users = table["user_id"].combine_chunks().dictionary_encode()
    user, day = users.indices.to_numpy().astype(np.int64), table["day"].cast(pa.int32()).to_numpy().astype(np.int64)
    is_output = table["label"].is_null().to_numpy()
    if not is_output.any():  # a partition of users of whom nothing is asked
        return
    counted = ~is_output
    topic = pc.index_in(table["category"], pa.array(topics.keys, pa.string()))
    topic_codes = topic.fill_null(-1).to_numpy().astype(np.int64)[counted]
    values = [np.ones(int(counted.sum())), *(_numbers(table[name])[counted] for name in ("label", "expected"))]
    running = _Running(user[counted], topic_codes, day[counted], values, len(users.dictionary), topics)
    states: list[_States] = []
    order = np.lexsort((user[is_output], day[is_output]))
    output_user = user[is_output][order]
    output_days, first = np.unique(day[is_output][order], return_index=True)
    for last, of_day in zip(output_days.tolist(), np.split(output_user, first[1:]), strict=True):
        running.add_before(last)
        states.append(running.states(of_day, last))
    yield _record_batch(states, users.dictionary, topics.keys)


def _numbers(column: pa.ChunkedArray) -> Floats:
    return np.asarray(column.fill_null(0).to_numpy(), np.float64)


@dataclass(frozen=True)
class _States:
    """What is known of some users before a day."""

    user: Ints  # (users,)
    day: int
    sums: Floats  # (3, users)
    last_click: NDArray[np.int32]  # (users,)
    tags: Ints  # (len(TAGS), users) codes of topics, −1 for none
    num_topics: Ints  # (users,)
    topic: Ints  # (topics of all users,) their codes, user by user
    topic_sums: Floats  # (3, topics of all users)


class _Running:
    """Sums of users and of their topics over the days so far."""

    def __init__(
        self, user: Ints, topic: Ints, day: Ints, values: Sequence[Floats], num_users: int, topics: DaySums
    ) -> None:
        """Sum up by day.

        Args:
            user: (rows,) code of the user of each impression.
            topic: (rows,) that of the topic, −1 for none.
            day: (rows,) since 1970.
            values: what is summed up, (rows,) each.
            num_users: number of users.
            topics: of all users.
        """
        self._topics, num_topics = topics, max(len(topics.keys), 1)
        has_topic = topic >= 0
        pairs, pair = np.unique(user[has_topic] * num_topics + topic[has_topic], return_inverse=True)
        self._topic_of_pair = pairs % num_topics
        self._first_pair = np.searchsorted(pairs, np.arange(num_users + 1) * num_topics)
        self._daily_users = _Daily.of(user, day, values)
        self._daily_pairs = _Daily.of(pair, day[has_topic], [value[has_topic] for value in values])
        self._users, self._pairs = np.zeros((3, num_users)), np.zeros((3, len(pairs)))
        self._last_click = np.full(num_users, NEVER, np.int32)
        self._added = NEVER  # days before it are summed up

    def add_before(self, day: int) -> None:
        """Add the days before `day` that are not yet summed up, one by one: as a loop over them adds."""
        new = slice(*np.searchsorted(self._daily_users.day, [self._added, day]))
        for one in np.unique(self._daily_users.day[new]).tolist():
            for daily, sums in ((self._daily_users, self._users), (self._daily_pairs, self._pairs)):
                rows = slice(*np.searchsorted(daily.day, [one, one + 1]))
                sums[:, daily.key[rows]] += daily.sums[:, rows]
                if sums is self._users:
                    self._last_click[daily.key[rows][daily.sums[1, rows] > 0]] = one
        self._added = day

    def states(self, user: Ints, day: int) -> _States:
        """Of these users before `day`."""
        first, length = self._first_pair[user], self._first_pair[user + 1] - self._first_pair[user]
        pair, row = _ranges(first, length), np.repeat(np.arange(len(user)), length)
        is_counted = self._pairs[0, pair] > 0
        pair, row = pair[is_counted], row[is_counted]
        topic, sums = self._topic_of_pair[pair], self._pairs[:, pair]
        return _States(
            user, day, self._users[:, user], self._last_click[user],
            tags=self._tags(row, topic, sums, self._users[0, user][row], day, len(user)),
            num_topics=np.bincount(row, minlength=len(user)), topic=topic, topic_sums=sums,
        )  # fmt: skip

    def _tags(self, row: Ints, topic: Ints, sums: Floats, user_shown: Floats, day: int, num_rows: int) -> Ints:
        """Topics by lift, and the one most clicked beyond expectation."""
        share, of_all = self._topics.shares(day)[topic], self._topics.sums(day)[:, topic]
        # How much more of the topic this user was shown than others, few impressions pulled to 1.
        lift = (sums[0] + TAG_STRENGTH * share) / (user_shown + TAG_STRENGTH) / share
        # Where no click was to be expected of a topic, as on a site without any, the prior is what was expected.
        usual = np.divide(of_all[1], of_all[2], out=np.ones(len(topic)), where=of_all[2] != 0)
        liked = (sums[1] + LIKED_STRENGTH * usual) / (sums[2] + LIKED_STRENGTH)
        tags = np.full((len(TAGS), num_rows), -1, np.int64)
        # Rounded: sums in another order must not change which of two equal topics comes first.
        for scores, slots in ((lift, range(NUM_TAGS)), (liked, [NUM_TAGS])):
            order = np.lexsort((topic, -np.round(scores, 9), row))
            of_row, first = np.unique(row[order], return_index=True)
            last = np.append(first[1:], len(order))
            for place, slot in enumerate(slots):
                has_place = first + place < last
                tags[slot, of_row[has_place]] = topic[order[first[has_place] + place]]
        return tags


def _ranges(first: Ints, length: Ints) -> Ints:
    """first[0], first[0] + 1, …, `length[0]` numbers, then those of first[1] and so on."""
    ends = np.cumsum(length)
    return np.arange(int(ends[-1]) if len(ends) else 0) + np.repeat(first - ends + length, length)


def _record_batch(states: Sequence[_States], users: pa.Array, names: tuple[str, ...]) -> pa.RecordBatch:
    user = np.concatenate([state.user for state in states])
    sums = np.concatenate([state.sums for state in states], axis=1)
    last_click = np.concatenate([state.last_click for state in states])
    texts = pa.array(names, pa.string())
    is_new = sums[0] == 0  # nothing was counted
    columns: list[Any] = [
        users.take(pa.array(user)),
        as_dates(np.repeat([state.day for state in states], [len(state.user) for state in states])),
        *sum_arrays(sums, is_new),
        as_dates(last_click, last_click == NEVER),
    ]
    tags = np.concatenate([state.tags for state in states], axis=1)
    columns += [texts.take(pa.array(codes, mask=codes < 0)) for codes in tags]
    topic_sums = np.concatenate([state.topic_sums for state in states], axis=1)
    offsets = np.append(0, np.cumsum(np.concatenate([state.num_topics for state in states]))).astype(np.int32)
    topics = texts.take(pa.array(np.concatenate([state.topic for state in states])))
    sums_of_topics = pa.StructArray.from_arrays(sum_arrays(topic_sums), fields=_SUMS)
    columns.append(pa.MapArray.from_arrays(pa.array(offsets), topics, sums_of_topics))
    return pa.RecordBatch.from_arrays(columns, schema=_ARROW_SCHEMA)
