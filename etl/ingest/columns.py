"""Which column of a file is which of ours: as the user says, by a public data set's names, or by usual names."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from conf import UsageError, UserError
from etl.sources.dialect import bare_name

FileRole = Literal["ratings", "impressions", "items", "users"]

# What a column that counts or rates is usually called. Other columns keep their names, as context or attributes.
_RATINGS = ("value", "rating", "stars", "score", "book-rating")
_COUNTS = ("weight", "plays", "playcount", "cnt", "count")
USUAL_NAMES: Mapping[FileRole, Mapping[str, Sequence[str]]] = {
    "ratings": {
        "user_id": ("user", "uid", "customer_id", "customer", "visitor_id", "reviewer_id"),
        "item_id": (
            *("item", "iid", "movie_id", "movie", "product_id", "product", "artist_id", "book_id", "isbn"),
            *("stock_code", "asin", "sku", "news_id", "article_id", "video_id"),
        ),
        "timestamp": ("time", "ts", "event_time", "datetime", "date", "event_date", "invoice_date", "unix_review_time"),
        "value": (*_RATINGS, *_COUNTS),
        "action": ("event_type", "event", "behavior", "behavior_type"),
    },
    # Only a site's declaration names them: a file of impressions is told from one of ratings by its user.
    "impressions": {
        "user_id": (),
        "item_id": (),
        "clicked": (),
        "chosen": (),
        "timestamp": (),
        "position": (),
        "propensity": (),
        "device": (),
        "request_id": (),
    },
    "items": {
        "item_id": (
            *("id", "item", "movie_id", "product_id", "artist_id", "book_id", "isbn"),
            *("stock_code", "asin", "sku", "news_id", "article_id", "video_id"),
        ),
        "title": ("name", "movie_title", "book_title"),
        "category": ("categories", "genres", "genre"),
        "author": ("book_author",),
        "release_year": ("year", "year_of_publication"),
        "published_at": ("release_date",),
    },
    "users": {
        "user_id": ("id", "user", "uid", "customer_id", "visitor_id"),
        "gender": ("sex",),
        "age": (),
        "city": ("location",),
        "registered_at": ("signup_date",),
    },
}
"""Our name of a column -> usual names of it, the likeliest first; case, blanks, hyphens and underscores don't count."""

FACTS: tuple[FileRole, ...] = ("ratings", "impressions")
"""Roles whose rows happened at a time."""

_NUM_LISTED = 40

REQUIRED: Mapping[FileRole, Sequence[str]] = {
    "ratings": ("user_id", "item_id"),
    "impressions": ("user_id", "item_id"),
    "items": ("item_id",),
    "users": ("user_id",),
}


OPTIONS: Mapping[FileRole, str] = {
    "ratings": "--column",
    "impressions": "--column",
    "items": "--item-column",
    "users": "--user-column",
}
"""By which a user names columns of each."""


@dataclass(frozen=True)
class ColumnMap:
    """The columns of one file."""

    sources: Mapping[str, str]
    """Our name -> the file's, or a path into JSON."""
    others: tuple[str, ...]
    """The file's other columns, which become context or attributes under their own names."""

    def describe(self) -> str:
        """The columns in words: `user_id from userId`; those with the same name are named once."""
        renamed = [ours if ours == source else f"{ours} from {source}" for ours, source in self.sources.items()]
        return ", ".join(renamed) + (f"; kept as they are: {_listed(self.others)}" if self.others else "")


def map_columns(
    place: str,
    role: FileRole,
    names: Sequence[str],
    options: Mapping[str, str],
    preset: Mapping[str, str],
    own: Sequence[str] | None = None,
) -> ColumnMap:
    """Decide which of a file's columns is which.

    Args:
        place: the file, for messages.
        role: what the file is for.
        names: its columns.
        options: the file's name -> ours, as the user says; an empty one leaves the column out.
        preset: the same by a public data set's format.
        own: columns that a site declares as its own, paths into JSON among them; then no other column is guessed to be
            ours, nor kept.

    Raises:
        UserError: a column that is named isn't there, two are the same, or a required one is missing.
    """
    columns = _listed(names)
    # To leave out what isn't there is no mistake: another of the files may have it.
    for name in missing_columns([*(name for name, ours in options.items() if ours), *(own or ())], names):
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UserError(f"{place}: no column {name}; found {columns}{hint}")
    explicit = {name: ours for name, ours in preset.items() if name in names} | dict(options)
    sources: dict[str, str] = {}
    for name, ours in explicit.items():
        if ours in sources:
            raise UserError(f"{place}: both {sources[ours]} and {name} would be {ours}")
        if ours:
            sources[ours] = name
    free = [name for name in names if name not in explicit]
    for ours, usual in USUAL_NAMES[role].items() if own is None else ():
        for candidate in (ours, *usual):
            matches = [name for name in free if bare_name(name) == bare_name(candidate)]
            if ours not in sources and matches:
                if len(matches) > 1:
                    raise UserError(
                        f"{place}: both {matches[0]} and {matches[1]} may be {ours}: {OPTIONS[role]} {matches[1]}= "
                        "leaves one out"
                    )
                sources[ours] = matches[0]
                free.remove(matches[0])
    if missing := [ours for ours in REQUIRED[role] if ours not in sources]:
        raise UserError(
            f"{place}: no column {', '.join(missing)}; found {columns}: name it with {OPTIONS[role]} NAME={missing[0]}"
        )
    ordered = {ours: sources[ours] for ours in (*USUAL_NAMES[role], *sources) if ours in sources}
    return ColumnMap(ordered, tuple(free if own is None else own))


def missing_columns(declared: Sequence[str], names: Sequence[str]) -> list[str]:
    """The declared columns, paths into JSON among them, that a file with these columns has not."""
    return [name for name in declared if name not in names and name.partition(".")[0] not in names]


def parse_mapping(role: FileRole, options: Sequence[str]) -> dict[str, str]:
    """Options such as `userId=user_id` -> the file's name: ours.

    Raises:
        UsageError: one has no `=`, or names none of our columns.
    """
    mapping = {}
    for option in options:
        name, sign, ours = option.rpartition("=")
        if not sign or not name or (ours and ours not in USUAL_NAMES[role]):
            choices = ", ".join(USUAL_NAMES[role])
            raise UsageError(f"'{option}': write NAME_IN_THE_FILE=OURS, where OURS is one of {choices}, or empty")
        mapping[name] = ours
    return mapping


def _listed(names: Sequence[str]) -> str:
    """The names, not all where they are hundreds."""
    more = len(names) - _NUM_LISTED
    return ", ".join(names[:_NUM_LISTED]) + (f" and {more} more" if more > 0 else "")


def is_rating(name: str) -> bool:
    """Whether a column of values, by its name in the file, has ratings: a count of plays has no threshold of likes."""
    return bare_name(name) in {bare_name(rating) for rating in _RATINGS}
