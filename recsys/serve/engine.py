"""Answers: lists, orders and similar items of one snapshot, down to what the budget allows."""

import logging
import random
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.compute.request_batch import FeatureBatch
from recsys.blend.rerank import boosts, select
from recsys.blend.stack import Stack
from recsys.blend.weights import MERGED
from recsys.calibration import logit
from recsys.serve.budget import Budget
from recsys.serve.rankers import Candidates, Ranker
from recsys.serve.requests import Context, Filter, RankRequest, RecommendRequest, SimilarRequest
from recsys.serve.snapshot import Snapshot
from recsys.serve.state.state import User

log = logging.getLogger(__name__)

Codes = NDArray[np.int64]
Scores = NDArray[np.float64]
HOT, RECENT, SIMILAR = "hot", "recent", "similar"
HOT_CANDIDATES = 100  # for a user of whom only recent events are known
RECENT_CHOICES = 5  # newest choices whose similar items become candidates
NEIGHBOURS = 10  # of each
TOP_CONTRIBUTIONS = 8


@dataclass(frozen=True)
class Entry:
    """An item of an answer."""

    item: str
    score: float | None
    """Click probability by the stack, or by the last of coarse and fine that was reached; None when neither was."""
    channels: list[str]
    row: int
    """Of `Answer.features`, −1 without features."""
    propensity: float = 1.0
    """Probability that this item was shown at this position."""
    explanation: dict[str, Any] | None = None


@dataclass(frozen=True)
class Answer:
    """An ordered list."""

    entries: list[Entry]
    rung: str
    """The last step of the ladder that was reached: deep, fine, coarse, merged or hot."""
    degraded: str | None
    """The rung, when it is not the highest that the publication has."""
    reason: str | None = None
    """Why it is degraded: budget, missing_model, unknown_user, unknown_item, empty."""
    features: FeatureBatch | None = None
    request_id: str = field(default_factory=lambda: secrets.token_hex(10))


@dataclass(frozen=True)
class _Candidates:
    codes: Codes  # (candidates,) −1 for an item that nothing is known of
    merged: Scores  # (candidates,) by recall
    channels: list[list[str]]

    def __getitem__(self, rows: NDArray[Any]) -> "_Candidates":
        numbers = np.flatnonzero(rows) if rows.dtype == bool else rows
        return _Candidates(self.codes[rows], self.merged[rows], [self.channels[n] for n in numbers.tolist()])


@dataclass
class _Scored:
    """Scores of candidates by name of the ranker, as far as the budget went."""

    scores: dict[str, Scores]
    features: FeatureBatch | None = None
    rung: str = MERGED
    reason: str | None = None

    @property
    def probabilities(self) -> Scores | None:
        return self.scores.get("fine", self.scores.get("coarse"))


def recommend(
    snapshot: Snapshot, request: RecommendRequest, at: datetime, budget: Budget, *, length: int, exploration: float
) -> Answer:
    """A list for a user.

    Args:
        snapshot: what is published, with recent events.
        request: whom it is for.
        at: moment of the request.
        budget: what does not fit into it is left out.
        length: of the list, when the request has no `n`.
        exploration: share of lists in random order.
    """
    state, length = snapshot.state, request.n or length
    user = state.user(request.user)
    # Before the candidates: also a list of hot items must not show what the user has or refuses.
    hidden = _hidden(snapshot, user, request)
    candidates = _candidates(snapshot, user)
    if candidates is None:
        return _hot_list(snapshot, request.filter, hidden, length, "unknown_user")
    candidates = candidates[_is_allowed(snapshot, candidates.codes, request.filter, hidden)]
    if not len(candidates.codes) or not budget.allows("rerank", rows=len(candidates.codes)):
        return _hot_list(snapshot, request.filter, hidden, length, "budget" if len(candidates.codes) else "empty")
    scored, candidates = _score(snapshot, user, candidates, at, request.context, budget, cut=True)
    order = budget.run("rerank", len(candidates.codes), lambda: _ordered(snapshot, scored, candidates, at, length))
    return _answer(snapshot, scored, candidates, *_explored(order, len(candidates.codes), exploration))


def rank(snapshot: Snapshot, request: RankRequest, at: datetime, budget: Budget) -> Answer:
    """All of a request's items in the order of the published stack; an item that comes twice is ranked once.

    Args:
        snapshot: what is published, with recent events.
        request: user and items; either may be unknown.
        at: moment of the request.
        budget: what does not fit into it is left out.
    """
    state = snapshot.state
    user, ids = state.user(request.user), list(dict.fromkeys(request.items))
    codes = state.items.find(ids)
    # No channels: the request named the items, recall did not.
    candidates = _Candidates(codes, _merged_scores(snapshot, user, codes), [[] for _ in ids])
    scored, _ = _score(snapshot, user, candidates, at, request.context, budget, cut=False, item_ids=ids)
    order = np.argsort(-_order_scores(snapshot, scored), kind="stable")
    answer = _answer(snapshot, scored, candidates, order, np.ones(len(order)), ids)
    return _explained(snapshot, scored, answer, order) if request.explain else answer


def similar(snapshot: Snapshot, request: SimilarRequest) -> Answer:
    """Items that were chosen by the same users, then hot items of the same topic; all hot ones of an unknown item."""
    state = snapshot.state
    code = int(state.items.find([request.item])[0])
    if code < 0:
        return _hot_list(snapshot, Filter(), np.zeros(0, np.int64), request.n, "unknown_item")
    bounds = slice(state.similar.offsets[code], state.similar.offsets[code + 1])
    near, scores = state.similar.values[bounds][: request.n], state.similar_scores[bounds]
    entries = [
        Entry(state.item_ids[item], float(score), [SIMILAR], -1)
        for item, score in zip(near.tolist(), scores.tolist(), strict=False)
    ]
    # The item itself is no recommendation beside it.
    present = {code, *near.tolist()}
    same_topic = state.hot[state.item_category[state.hot] == state.item_category[code]].tolist()
    more = [item for item in same_topic if item not in present][: request.n - len(entries)]
    entries += [Entry(state.item_ids[item], None, ["category"], -1) for item in more]
    return Answer(entries, SIMILAR, None)


def _candidates(snapshot: Snapshot, user: User) -> _Candidates | None:
    """What recall proposed to the user, and items similar to their recent choices; None when nothing is known."""
    state = snapshot.state
    if user.code >= 0 and len(state.candidates[user.code]):
        bounds = slice(state.candidates.offsets[user.code], state.candidates.offsets[user.code + 1])
        codes, merged = state.candidates.values[bounds].astype(np.int64), state.scores[bounds]
        channels = [state.channel_names[number].split("+") for number in state.channels[bounds].tolist()]
    elif user.recent.choices:
        codes = state.hot[:HOT_CANDIDATES].astype(np.int64)
        merged = np.linspace(0.5, 0.0, len(codes))  # hot items stand behind the best half of similar ones
        channels = [[state.hot_channel(position)] for position in range(len(codes))]
    else:
        return None
    if not user.recent.choices:
        return _Candidates(codes, merged, channels)
    return _with_neighbours(snapshot, user, _Candidates(codes, merged, channels))


def _with_neighbours(snapshot: Snapshot, user: User, candidates: _Candidates) -> _Candidates:
    """Candidates similar to recent choices, as if recall had scored them by their similarity.

    The most similar one gets the score of the best candidate, others get the share of it that their similarity has.
    """
    state = snapshot.state
    similarity: dict[int, float] = {}
    # Newest first, each item once, until there are as many neighbours as RECENT_CHOICES have.
    for chosen in dict.fromkeys(code for _, code in reversed(user.recent.choices)):
        start, stop = state.similar.offsets[chosen], state.similar.offsets[chosen + 1]
        for item, score in zip(
            state.similar.values[start:stop][:NEIGHBOURS].tolist(),
            state.similar_scores[start:stop].tolist(),
            strict=False,
        ):
            # The largest and not the sum: many old choices must not outweigh one that fits well.
            similarity[item] = max(score, similarity.get(item, 0.0))
        if len(similarity) >= RECENT_CHOICES * NEIGHBOURS:
            break
    if not similarity:
        return candidates
    merged, channels, codes = candidates.merged.copy(), list(candidates.channels), candidates.codes.tolist()
    low, high = (float(merged.min()), float(merged.max())) if len(merged) else (0.0, 1.0)
    best, position = max(similarity.values()), {code: row for row, code in enumerate(codes)}
    new_codes, new_scores = [], []
    for item, score in similarity.items():
        as_merged = low + (high - low) * score / best
        if item in position:
            row = position[item]
            merged[row] = max(merged[row], as_merged)
            channels[row] = [*channels[row], RECENT]
        else:
            new_codes.append(item)
            new_scores.append(as_merged)
    return _Candidates(
        np.concatenate([candidates.codes, np.array(new_codes, np.int64)]),
        np.concatenate([merged, new_scores]),
        channels + [[RECENT]] * len(new_codes),
    )


def _merged_scores(snapshot: Snapshot, user: User, codes: Codes) -> Scores:
    """Recall's scores of items; the user's lowest for what was not proposed, and 0 where nothing was."""
    candidates = _candidates(snapshot, user)
    if candidates is None or not len(candidates.codes):
        return np.zeros(len(codes))
    # A binary search: a request's items are few, a user's candidates hundreds.
    order = np.argsort(candidates.codes)
    known = candidates.codes[order]
    position = np.minimum(np.searchsorted(known, codes), len(known) - 1)
    return np.where(known[position] == codes, candidates.merged[order][position], candidates.merged.min())


def _hidden(snapshot: Snapshot, user: User, request: RecommendRequest) -> Codes:
    hidden = snapshot.state.hidden_items(user, seen=request.filter.seen, bought=request.filter.bought)
    excluded = snapshot.state.items.find(request.exclude) if request.exclude else hidden[:0]
    return np.concatenate([hidden, excluded[excluded >= 0], snapshot.excluded])


def _is_allowed(snapshot: Snapshot, codes: Codes, of: Filter, hidden: Codes) -> NDArray[np.bool_]:
    """(codes,) whether the filter and what is hidden leave an item."""
    allowed = ~np.isin(codes, hidden)
    if of.categories is not None:
        names = snapshot.state.categories.names
        # Names to codes once, not codes to names for each candidate.
        topics = [number for number, name in enumerate(names) if name in set(of.categories)]
        allowed &= np.isin(snapshot.state.item_category[codes], topics)
    return allowed


def _score(
    snapshot: Snapshot,
    user: User,
    candidates: _Candidates,
    at: datetime,
    context: Context,
    budget: Budget,
    *,
    cut: bool,
    item_ids: Sequence[str] | None = None,
) -> tuple[_Scored, _Candidates]:
    """Score candidates by one ranker after the other while there is time.

    With `cut`, rankers after the coarse one get the union of the `coarse.keep` best by coarse and by recall, as in
    `recsys.blend.rank`.
    """
    state, stack, rows = snapshot.state, snapshot.stack, len(candidates.codes)
    scored = _Scored({MERGED: candidates.merged})
    rankers = list(stack.rankers.values())
    if not rankers:
        scored.reason = "missing_model"
        return scored, candidates
    if not budget.allows("features", rankers[0].name, rows=rows):
        scored.reason = "budget"
        return scored, candidates
    features = budget.run(
        "features", rows, lambda: state.features(user, candidates.codes, item_ids, at, context.device, context.columns)
    )
    lists = state.lists(user, snapshot.history_length, at)
    names = list(item_ids) if item_ids else [state.item_ids[code] for code in candidates.codes.tolist()]
    for ranker in rankers:
        if not budget.allows(ranker.name, rows=rows):
            scored.reason = "budget"
            break
        inputs = Candidates(features, lists, user.user_id, names)
        if not _run_ranker(scored, ranker, inputs, budget):
            scored.reason = "missing_model"
            continue
        scored.rung = ranker.name
        if cut and ranker.name == "coarse":
            # All that is by candidate is cut together: scores, features, candidates, names.
            kept = _kept(scored.scores["coarse"], candidates.merged, stack.keep)
            scored.scores = {name: values[kept] for name, values in scored.scores.items()}
            features = FeatureBatch(features.sparse[kept], features.unscaled[kept], features.dense[kept])
            candidates, rows = candidates[kept], int(kept.sum())
            names = [name for name, is_kept in zip(names, kept.tolist(), strict=True) if is_kept]
    scored.features = features
    if scored.reason is None and stack.missing:
        scored.reason = "missing_model"
    return scored, candidates


def _run_ranker(scored: _Scored, ranker: Ranker, candidates: Candidates, budget: Budget) -> bool:
    rows = len(candidates.item_ids)
    try:
        scored.scores[ranker.name] = budget.run(ranker.name, rows, lambda: ranker.predict(candidates))
    except Exception:  # a plug-in's may be anything: the list does without it
        log.exception("%s failed", ranker.name)
        return False
    return True


def _kept(coarse: Scores, merged: Scores, keep: int) -> NDArray[np.bool_]:
    # The rank of each candidate is the inverse of the order, which a second sort gives.
    ranks = [np.argsort(np.argsort(-score, kind="stable"), kind="stable") for score in (coarse, merged)]
    return np.minimum(*ranks) < keep


def _order_scores(snapshot: Snapshot, scored: _Scored) -> Scores:
    """What orders the candidates: the stack or blend of the scores that there are, or the score that lists follow."""
    stack, scores = snapshot.stack, scored.scores
    if stack.order in scores:
        return scores[stack.order]
    if stack.intercept is not None:
        probabilities = _stacked(snapshot, scored)
        return scores[MERGED] if probabilities is None else probabilities
    return sum(
        (stack.weights.get(name, 0.0) * standardized(values, is_probability=name != MERGED))
        for name, values in scores.items()
    ) + np.zeros(len(scores[MERGED]))


def _stacked(snapshot: Snapshot, scored: _Scored) -> Scores | None:
    """Click probabilities of the stack; None without any of its rankers, and for a blend of standardised scores.

    Where some of its rankers were not reached, the others have their weight.
    """
    stack = snapshot.stack
    reached = {name: weight for name, weight in stack.weights.items() if name in scored.scores}
    total = sum(reached.values())
    if stack.intercept is None or total <= 0:
        return None
    scale = sum(stack.weights.values()) / total
    return Stack({name: scale * weight for name, weight in reached.items()}, stack.intercept).predict(scored.scores)


def standardized(values: Scores, *, is_probability: bool) -> Scores:
    """(n,) scores of one list with mean 0 and deviation 1, as `recsys.blend.weights` has them."""
    x = logit(values) if is_probability else values
    centred = x - x.mean()
    return np.asarray(centred / max(float(np.sqrt(np.mean(centred**2))), 1e-9))


def _ordered(snapshot: Snapshot, scored: _Scored, candidates: _Candidates, at: datetime, length: int) -> Codes:
    """Rows of the list, re-ranked by the rules of `recommend`."""
    settings = snapshot.recommend.model_copy(update={"length": length})
    scores = _order_scores(snapshot, scored)
    # Ties by item, as codes are in the order of ids.
    order = np.lexsort((candidates.codes, -scores))
    codes = candidates.codes[order]
    category = snapshot.state.item_category[codes].astype(np.int64)
    # The last name is that of items without a topic: they are not alike.
    category[category == len(snapshot.state.categories.names) - 1] = -1
    is_fresh = snapshot.state.ages_s(codes, at) <= settings.fresh_days * 86_400
    boost = boosts({name: snapshot.state.attribute(name, codes) for name in settings.boosts}, is_fresh, settings)
    return order[select(scores[order], category, is_fresh, boost, settings)]


def _explored(order: Codes, candidates: int, exploration: float) -> tuple[Codes, Scores]:
    """The order to show, and (items,) the probability that each item stands where it does.

    A share of the lists is a uniform draw of as many candidates, in a random order: each candidate is at each position
    with the same probability. The others are the best list.
    """
    if not exploration:
        return order, np.ones(len(order))
    best = order
    if random.random() < exploration:
        # Without a seed: lists of one user must differ, or exploration would show the same few items.
        order = np.random.default_rng().permutation(candidates)[: len(order)]
    return order, exploration / candidates + (1 - exploration) * (order == best)


def _answer(
    snapshot: Snapshot,
    scored: _Scored,
    candidates: _Candidates,
    order: Codes,
    propensity: Scores,
    item_ids: Sequence[str] | None = None,
) -> Answer:
    stacked = _stacked(snapshot, scored)
    probabilities = scored.probabilities if stacked is None else stacked
    ids = [item_ids[row] if item_ids else snapshot.state.item_ids[candidates.codes[row]] for row in order.tolist()]
    entries = [
        Entry(
            item,
            None if probabilities is None else float(probabilities[row]),
            candidates.channels[row],
            row if scored.features is not None else -1,
            float(share),
        )
        for item, row, share in zip(ids, order.tolist(), propensity.tolist(), strict=True)
    ]
    # A list by all that the publication has is not degraded, whatever its rung.
    degraded = scored.rung if scored.reason else None
    return Answer(entries, scored.rung, degraded, scored.reason, scored.features)


def _explained(snapshot: Snapshot, scored: _Scored, answer: Answer, order: Codes) -> Answer:
    """With features, scores and what the coarse ranker's features contribute to its log-odds."""
    coarse = snapshot.stack.rankers.get("coarse")
    contributions = None
    if scored.features is not None and coarse is not None and coarse.contributions is not None:
        contributions = coarse.contributions(scored.features)
    entries = []
    for entry, row in zip(answer.entries, order.tolist(), strict=True):
        about: dict[str, Any] = {"scores": {name: float(values[row]) for name, values in scored.scores.items()}}
        if scored.features is not None:
            about["features"] = scored.features.row(row)
        if contributions is not None and coarse is not None:
            # Without the last column, the value that every row has.
            largest = np.argsort(-np.abs(contributions[row, :-1]))[:TOP_CONTRIBUTIONS].tolist()
            about["contributions"] = {coarse.feature_names[n]: float(contributions[row, n]) for n in largest}
        entries.append(Entry(entry.item, entry.score, entry.channels, entry.row, entry.propensity, about))
    return Answer(entries, answer.rung, answer.degraded, answer.reason, answer.features, answer.request_id)


def _hot_list(snapshot: Snapshot, of: Filter, hidden: Codes, length: int, reason: str) -> Answer:
    state = snapshot.state
    positions = np.flatnonzero(_is_allowed(snapshot, state.hot.astype(np.int64), of, hidden))[:length].tolist()
    entries = [Entry(state.item_ids[state.hot[n]], None, [state.hot_channel(n)], -1) for n in positions]
    return Answer(entries, HOT, HOT, reason if entries else "empty")
