"""The state of one publication, mapped into memory, with what happened since: the columns that features read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conf.clock import local_time
from features.catalog import LISTS, OWN_COLUMNS, OWN_GROUPS
from features.compute.request_batch import ITEM_FEATURES, BatchFeatures, FeatureBatch
from features.compute.training_statistics import TrainingStatistics
from features.counts.count_arrays import CategoryCounts, UserCounts, count_columns
from features.counts.day_sums import NEVER
from features.dataset.names import HISTORY
from features.item_lists import last_ids
from features.transforms.columns import Moments
from features.transforms.columns import Texts as Column
from recsys.serve.state.arrays import IdIndex, Lists, Texts, map_array
from recsys.serve.state.build import PROFILE, read_meta
from recsys.serve.state.own_arrays import OwnArrays
from recsys.serve.state.own_counts import OwnCounts
from recsys.serve.state.recent import Recent, RecentUser, Totals
from recsys.serve.state.rows import EPOCH

NOBODY = RecentUser()


@dataclass(frozen=True)
class User:
    """A user as one request sees them."""

    user_id: str
    code: int
    """−1 for one that is in no table."""
    recent: RecentUser

    @property
    def is_new(self) -> bool:
        """Whether nothing is known of the user, not even a recent event."""
        return self.code < 0 and self.recent is NOBODY


class State:
    """Arrays of one publication and its recent events.

    Args:
        folder: of `build_state`.
        statistics: of the training set.
        day: of the models and lists.
        remembered: see `Recent`.
    """

    def __init__(self, folder: Path, statistics: TrainingStatistics, day: date, remembered: int) -> None:
        meta = read_meta(folder)
        names = meta["names"]
        self.day, self.zone, self.rates = day, statistics.timezone, statistics.rates
        self.users, self._user_ids = IdIndex.map(folder, "user_index"), Texts.map(folder, "user_ids")
        self.num_items = int(meta["items"])
        self.items, self.item_ids = IdIndex.map(folder, "item_index"), Texts.map(folder, "item_ids")
        self.authors: list[str | None] = names["author"]
        self.item_category, self._item_author = map_array(folder, "item_category"), map_array(folder, "item_author")
        self._wall, self._published = map_array(folder, "item_wall"), map_array(folder, "item_published")
        self._item_features = {f.name: map_array(folder, f"item_feature_{f.name}") for f in ITEM_FEATURES}
        self._profiles = {name: (names[name], map_array(folder, f"user_{name}")) for name in PROFILE}
        self._own_users = OwnArrays.map(folder, "user", names)
        self._own_items = OwnArrays.map(folder, "item", names)
        self._own_counts = [OwnCounts.map(folder, group) for group in OWN_GROUPS]
        self._is_known = map_array(folder, "user_known")
        self._user_sums, self._last_click = map_array(folder, "user_sums"), map_array(folder, "user_last_click")
        self._user_categories, self._pairs = Lists.map(folder, "user_categories"), map_array(folder, "pair_sums")
        self._history, self._chosen = Lists.map(folder, "history"), Lists.map(folder, "chosen")
        self._lists = {one.name: Lists.map(folder, f"list_{one.name}") for one in LISTS}
        self.exclude: str = meta.get("exclude", "clicked")  # what lists leave out, as `recall.exclude`
        self._shown = Lists.map(folder, "shown") if self.exclude == "shown" else None
        self._bought, self.similar = Lists.map(folder, "bought"), Lists.map(folder, "similar")
        self.similar_scores = map_array(folder, "similar_scores")
        self.candidates, self.scores = Lists.map(folder, "candidates"), map_array(folder, "candidate_scores")
        self.channels, self.channel_names = map_array(folder, "candidate_channels"), names["channels"]
        self.hot, self._hot_channel = map_array(folder, "hot"), map_array(folder, "hot_channel")
        self._hot_channels = names["hot_channels"]
        totals = Totals(
            map_array(folder, "item_sums", "c"),
            np.array(map_array(folder, "category_sums")),
            np.array(map_array(folder, "num_shown")),
            self.item_category,
        )
        self._totals = totals
        self.categories = CategoryCounts.of(names["category"], totals.categories, totals.num_shown)
        remembers_shown = self._shown is not None
        self.recent = Recent(
            totals, self.items, self.rates, day, self.zone, remembered, remembers_shown=remembers_shown
        )
        self._features = BatchFeatures(statistics)

    def user(self, user_id: str) -> User:
        """Look a user up; a new one has code −1."""
        code = int(self.users.find([user_id])[0])
        # Who sends another text with the same hash must not get that user's list.
        if code >= 0 and self._user_ids[code] != user_id:
            code = -1
        return User(user_id, code, self.recent.users.get(user_id, NOBODY))

    def user_id(self, code: int) -> str:
        """The id of a user."""
        return self._user_ids[code]

    def features(
        self,
        user: User,
        items: NDArray[np.int64],
        item_ids: Sequence[str] | None,
        at: datetime,
        device: str | None,
        context: Mapping[str, str] = MappingProxyType({}),
    ) -> FeatureBatch:
        """Features of items as if each were shown first in a list.

        Args:
            user: of the request.
            items: (rows,) codes, −1 for unknown ones.
            item_ids: their ids, needed when some are unknown.
            at: moment of the request.
            device: of the request, None when unknown.
            context: the site's own columns of the request, as text by their names in the source.
        """
        rows, is_unknown = len(items), items < 0
        has_unknown = bool(is_unknown.any())
        # −1 reads the last item's values, which are replaced where an item is unknown.
        category, author, wall = self.item_category[items], self._item_author[items], self._wall[items]
        sums = self._totals.items[:, items]  # (3, rows)
        ids = {name: values[items] for name, values in self._item_features.items()}
        if has_unknown:
            category = np.where(is_unknown, len(self.categories.names) - 1, category)
            author, wall = np.where(is_unknown, len(self.authors) - 1, author), np.where(is_unknown, np.nan, wall)
            sums = np.where(is_unknown, 0.0, sums)
        row: dict[str, Any] = {
            "user_id": user.user_id,
            "at": local_time(at, self.zone),
            "position": 1,
            "device": device,
            **self._profile(user),
            **count_columns(self.counts(user), self.categories, category, sums, self.rates),
            "author": Column(self.authors, author),
            "published_at": Moments(wall),
            **self._own_items.rows(items),
            **OWN_COLUMNS.read_texts("context", context),
        }
        if self._own_counts:
            ids_of_rows = item_ids if item_ids is not None else [self.item_ids[code] for code in items.tolist()]
            keyed = {**row, "item_id": Column(ids_of_rows, np.arange(rows))}
            for counts in self._own_counts:
                row |= counts.columns(keyed)
        if has_unknown:
            assert item_ids is not None
            # Hashed for this request: the ids that were hashed beforehand are those of known items.
            row["item_id"] = Column(item_ids, np.arange(rows))
            return self._features.compute(row, rows)
        return self._features.compute(row, rows, ids)

    def counts(self, user: User) -> UserCounts:
        """What was counted of a user up to now."""
        recent, code = user.recent, user.code
        (shown, clicks, expected), last_click = recent.sums, recent.last_click
        if code < 0:
            topics = _topics(recent, np.zeros(0, np.int64), np.zeros((3, 0)))
            return UserCounts(shown, clicks, expected, last_click, *topics)
        before = self._user_sums[code].tolist()  # shown, clicked, expected, up to the publication's day
        # A recent click is newer than any that the publication counted.
        if last_click is None and self._last_click[code] != NEVER:
            last_click = EPOCH + timedelta(days=int(self._last_click[code]))
        bounds = slice(self._user_categories.offsets[code], self._user_categories.offsets[code + 1])
        topics = _topics(recent, self._user_categories.values[bounds], self._pairs[bounds].T)
        return UserCounts(shown + before[0], clicks + before[1], expected + before[2], last_click, *topics)

    def history(self, user: User, length: int) -> NDArray[np.int64]:
        """(choices,) ids of the items that a user chose last, oldest first, as sequence models read them."""
        # Recent choices stand behind the publication's: they are later.
        base = self._history[user.code] if user.code >= 0 else np.zeros(0, np.int32)
        recent = [code for _, code in sorted(user.recent.choices)]
        codes = np.concatenate([base, np.array(recent, np.int32)])[-length:]
        return np.asarray(self._item_features["item_id"][codes], np.int64)

    def lists(self, user: User, length: int, at: datetime) -> dict[str, NDArray[np.int64]]:
        """Ids of the user's `length` last choices and of the site's lists, oldest first, by their columns.

        Lists have what happened before the moment `at`.
        """
        lists = {HISTORY: self.history(user, length)}
        moment = at.astimezone(UTC).timestamp()
        for one in LISTS:
            base = self._lists[one.name][user.code] if user.code >= 0 else np.zeros(0, np.int64)
            ids = self._item_features[one.field.name]
            acts = [{**act._asdict(), one.name: int(ids[act.item])} for act in user.recent.acts]
            # Recent acts stand behind the publication's: they are later.
            newest = np.array(last_ids(one, acts, moment), np.int64)
            lists[one.column] = np.concatenate([base, newest])[-one.length :]
        return lists

    def hidden_items(self, user: User, *, seen: bool | None, bought: bool | None) -> NDArray[np.int64]:
        """(items,) codes of what a user chose or bought, for filters.

        Args:
            user: of the request.
            seen: whether to hide what they clicked, liked or bought; None: as the publication's lists do.
            bought: whether to hide what they bought; None: as the publication's lists do.
        """
        parts: list[Any] = []
        if self.exclude in ("clicked", "shown") if seen is None else seen:
            parts += [list(user.recent.chosen), self._chosen[user.code] if user.code >= 0 else []]
            if self._shown is not None:
                parts += [list(user.recent.shown), self._shown[user.code] if user.code >= 0 else []]
        if self.exclude != "none" if bought is None else bought:
            parts += [list(user.recent.bought), self._bought[user.code] if user.code >= 0 else []]
        return np.concatenate([np.asarray(part, np.int64) for part in parts]) if parts else np.zeros(0, np.int64)

    def attribute(self, name: str, items: NDArray[np.int64]) -> list[str | None]:
        """(items,) category or author of each item."""
        names, codes = {
            "category": (self.categories.names, self.item_category), "author": (self.authors, self._item_author),
        }[name]  # fmt: skip
        return [names[code] for code in codes[items].tolist()]

    def hot_channel(self, position: int) -> str:
        """Whether an item of `hot` is there for being hot or new."""
        return str(self._hot_channels[self._hot_channel[position]])

    def ages_s(self, items: NDArray[np.int64], at: datetime) -> NDArray[np.float64]:
        """(items,) seconds since each item appeared; NaN where that is unknown."""
        ages = at.astimezone(UTC).timestamp() - self._published[items]
        # An unknown item, −1, has read the last one's age.
        return np.where(items < 0, np.nan, ages)

    def _profile(self, user: User) -> dict[str, float | str | None]:
        own = self._own_users.row(user.code)
        if user.code < 0 or not self._is_known[user.code]:
            return {**dict.fromkeys(PROFILE), **own}
        return {name: values[codes[user.code]] for name, (values, codes) in self._profiles.items()} | own


def _topics(
    recent: RecentUser, codes: NDArray[np.integer], sums: NDArray[np.float64]
) -> tuple[NDArray[np.integer], NDArray[np.float64]]:
    """Codes (k,) and sums (3, k) of a user's topics, those of recent events added."""
    if not recent.categories:
        return codes, sums
    position = {code: column for column, code in enumerate(codes.tolist())}
    new = [code for code in recent.categories if code not in position]
    position |= {code: len(codes) + column for column, code in enumerate(new)}
    total = np.concatenate([sums, np.zeros((3, len(new)))], axis=1)  # (3, k + new), a copy: the arrays are mapped
    for code, values in recent.categories.items():
        total[:, position[code]] += values
    return np.concatenate([codes, np.array(new, codes.dtype)]), total
