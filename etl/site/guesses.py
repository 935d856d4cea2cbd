"""What a column of what happened is, one guess a function: from its values and its name, with the figures behind it."""

from collections.abc import Sequence
from dataclasses import dataclass

from etl.ingest.columns import USUAL_NAMES
from etl.site.fields import Field, number, shares
from etl.site.words import CLICK_NAMES, action_name, is_named, outcome_name, words_of
from etl.sources.dialect import bare_name
from etl.sources.times import TimeFormat

_BINARY = ({"0", "1"}, {"-1", "1"}, {"0.0", "1.0"}, {"true", "false"}, {"yes", "no"}, {"y", "n"}, {"t", "f"})
_POSITIVE = ("1", "1.0", "true", "yes", "y", "t")
_TIME_NAMES = (
    *USUAL_NAMES["ratings"]["timestamp"],
    *("timestamp", "time_stamp", "created_at", "created", "rated_at", "ordered_at", "order_date", "purchase_date"),
    *("purchased_at", "viewed_at", "clicked_at", "event_timestamp", "unixtime", "date_time", "day", "timestamp_ms"),
    *("时间", "日期", "下单时间", "订单时间", "下单日期", "时间戳", "点击时间", "浏览时间"),
)
_VALUE_NAMES = (
    *(*USUAL_NAMES["ratings"]["value"], "quantity", "qty", "amount", "book_rating", "listen_count", "clicks"),
    # How long.
    *("dwell", "dwell_time", "dwell_seconds", "dwell_ms", "ms_played", "time_played", "play_time", "watch_time"),
    *("time_spent", "seconds_watched", "watch_seconds", "listen_time", "read_time", "reading_time", "view_time"),
    *("评分", "数量", "次数"),
)
_COUNT_NAMES = ("quantity", "qty", "amount", "count", "cnt", "plays", "playcount", "listen_count", "数量", "次数")
_RATING_NAMES = ("rating", "stars", "score", "book_rating", "bookrating", "user_rating", "review_score")
_ACTION_COLUMNS = (*USUAL_NAMES["ratings"]["action"], "action", "event_name", "interaction_type", "type")
_POSITION_NAMES = ("position", "pos", "rank", "slot", "display_position", "place")
_PROPENSITY_NAMES = ("propensity", "propensity_score", "pscore", "action_prob", "logging_probability")
_MAX_ACTIONS = 30
_FEW = 20  # distinct whole numbers are names of something rather than amounts


@dataclass(frozen=True)
class Guess:
    """What a column is thought to be."""

    value: str
    reason: str
    """The figures behind it."""


def guess_click(fields: Sequence[Field]) -> Guess | None:
    """The column that says what was clicked: yes and no in all rows, and a name of clicks, else of another act.

    A name is needed: whether it was a weekend is yes or no, too.
    """
    answers = [field for field in fields if is_yes_or_no(field)]
    clicks = [field for field in answers if is_named(field.name, CLICK_NAMES)]
    acts = [field for field in answers if outcome_name(field.name)]
    chosen = next(iter([*clicks, *acts]), None)
    return None if chosen is None else Guess(chosen.name, f"{share_of_positives(chosen):.1%} of the rows are yes")


def is_yes_or_no(field: Field) -> bool:
    """Whether all rows have one of two values that say yes and no."""
    if field.num_missing:
        return False
    return {str(value).casefold() for value in field.counts.index} in _BINARY


def share_of_positives(field: Field) -> float:
    """Share of the rows whose value is 1, or a word for yes."""
    is_positive = field.counts.index.str.casefold().isin(_POSITIVE)
    return float(field.counts[is_positive].sum()) / max(field.num_rows, 1)


def guess_time(fields: Sequence[Field], *, has_names: bool = True) -> tuple[Field, TimeFormat | str] | None:
    """The column of times of what happened, with its format, or with why that can't be told.

    A number of seconds is a time only by its column's name: ids may be in that range. Written times are always.

    Args:
        fields: columns that are nothing else.
        has_names: whether the file has a header; without one, a number in the range of such times is taken for one.
    """
    usual = [bare_name(name) for name in _TIME_NAMES]
    candidates: list[tuple[bool, bool, int, Field, TimeFormat | str]] = []
    for position, field in enumerate(fields):
        name = bare_name(field.name)
        is_usual = name in usual or name.endswith(("timestamp", "datetime")) or words_of(field.name)[:1] == ["time"]
        is_usual = is_usual or field.is_moment
        form = field.time_format if field.share_missing < 0.5 else None
        if form is not None and (is_usual or not has_names or not field.is_number):
            # Of a date and a time the time says more.
            candidates.append((not is_usual, not _has_clock(field, form), position, field, form))
    if not candidates:
        return None
    *_, field, form = min(candidates, key=lambda candidate: candidate[:3])
    return field, form


def _has_clock(field: Field, form: TimeFormat | str) -> bool:
    """Whether times have more than a date."""
    times = field.times(form).dropna() if isinstance(form, TimeFormat) else None
    return times is None or bool((times != times.dt.normalize()).any())


def guess_value(fields: Sequence[Field], *, has_names: bool = True) -> Guess | None:
    """The column of ratings, counts or amounts; without names, that of few whole or half numbers."""
    for name in _VALUE_NAMES:
        for field in fields:
            if is_named(field.name, [name]) and field.is_number and field.num_distinct > 1:
                return Guess(field.name, f"{number(field.numbers.min())} to {number(field.numbers.max())}")
    for field in fields:
        # As a column `like` of 1, 0 and -1.
        if action_name(field.name) is not None and field.is_number and 1 < field.num_distinct <= _FEW:
            return Guess(field.name, shares(field))
    for field in fields if not has_names else ():
        numbers = field.numbers
        is_half = field.is_number and bool((numbers.dropna() * 2 % 1 == 0).all())
        if is_half and 1 < field.num_distinct <= _FEW and numbers.max() <= 100:
            return Guess(
                field.name, f"{field.num_distinct} numbers, {number(numbers.min())} to {number(numbers.max())}"
            )
    numeric = [field for field in fields if field.is_number and field.num_distinct > 1]
    if not has_names and len(numeric) == 1 and numeric[0].is_whole_number:
        (field,) = numeric
        return Guess(
            field.name, f"the only number left, {number(field.numbers.min())} to {number(field.numbers.max())}"
        )
    return None


def guess_action_column(fields: Sequence[Field]) -> Guess | None:
    """The column that names what was done: a usual name, and few words in it."""
    for field in fields:
        is_words = field.share_of_numbers == 0 or is_named(field.name, ["behavior_type"])
        if is_named(field.name, _ACTION_COLUMNS) and is_words and 1 < field.num_distinct <= _MAX_ACTIONS:
            return Guess(field.name, shares(field))
    return None


def guess_position(fields: Sequence[Field]) -> Guess | None:
    """The column of the place in a list: whole numbers from 1 (or 0) without many gaps, and a name that says so."""
    for field in fields:
        numbers = field.numbers
        if is_named(field.name, _POSITION_NAMES) and field.is_whole_number:
            first, last = numbers.min(), numbers.max()
            if first >= 1 and last < 2 * field.num_distinct + 10:
                return Guess(field.name, f"{number(first)} to {number(last)}")
    return None


def guess_propensity(fields: Sequence[Field]) -> Guess | None:
    """The column of the probability with which a site showed what it did: a usual name, and numbers in (0, 1]."""
    for field in fields:
        if is_named(field.name, _PROPENSITY_NAMES) and field.is_number:
            lowest, highest = field.numbers.min(), field.numbers.max()
            if lowest > 0 and highest <= 1:
                return Guess(field.name, f"{number(lowest)} to {number(highest)}")
    return None


def is_rating(name: str) -> bool:
    """Whether a column of values has, by its name, ratings rather than counts."""
    return is_named(name, _RATING_NAMES)


def is_count(name: str) -> bool:
    """Whether a column of values has, by its name, how many or how much, of which small ones are no bad ratings."""
    return is_named(name, _COUNT_NAMES)


@dataclass(frozen=True)
class Threshold:
    """A bound of the value from which on a row may be called a positive."""

    at_least: float
    share: float
    """Of the rows."""


def thresholds(field: Field) -> list[Threshold]:
    """Bounds that part the rows, with the share of positives: each value of few, else 1 and the quartiles."""
    numbers = field.numbers.dropna()
    if numbers.empty or numbers.nunique() < 2:
        return []
    bounds = sorted(numbers.unique()) if numbers.nunique() <= _FEW else [1.0, *numbers.quantile([0.25, 0.5, 0.75])]
    parting = [bound for bound in dict.fromkeys(map(float, bounds)) if 0 < (numbers >= bound).mean() < 1]
    return [Threshold(bound, float((numbers >= bound).mean())) for bound in parting]


def guess_threshold(field: Field) -> Threshold | None:
    """The bound of a label: three quarters of the best rating, or 1 of a count that may be 0 or negative.

    None for counts that are never below 1: each row is a positive.
    """
    candidates = thresholds(field)
    if not candidates:
        return None
    is_small = field.num_distinct <= _FEW and field.numbers.max() <= 10
    if is_rating(field.name) or (is_small and not is_count(field.name)):
        bound = 0.75 * float(field.numbers.max())
        return next((one for one in candidates if one.at_least >= bound), candidates[-1])
    return next((one for one in candidates if one.at_least == 1), None) if field.numbers.min() < 1 else None


def guess_only_action(fields: Sequence[Field]) -> Guess | None:
    """What users did by a column of actions that is the same in all rows."""
    for field in fields:
        if is_named(field.name, _ACTION_COLUMNS) and field.num_distinct == 1 and not field.num_missing:
            return Guess(str(field.counts.index[0]), f"{field.name} in all rows")
    return None
