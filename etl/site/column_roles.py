"""Which column of items and users is the title, the age …: by usual names whose values fit, else by values alone."""

from collections.abc import Mapping, Sequence

from etl.site.column_types import guess_separator
from etl.site.fields import Field, shares
from etl.site.guesses import Guess
from etl.site.words import is_named
from etl.sources.times import TimeFormat

_GENDERS = {"m", "f", "male", "female", "w", "d", "o", "other", "unknown", "u", "x", "man", "woman"}

ROLE_NAMES: Mapping[str, Mapping[str, Sequence[str]]] = {
    "items": {
        "title": (
            "title",
            "name",
            "movie_title",
            "book_title",
            "product_name",
            "item_name",
            "headline",
            "description",
            "名称",
            "标题",
            "商品名称",
        ),
        "category": (
            *("category", "categories", "genres", "genre", "class", "main_category", "category_name", "topic"),
            *("product_type", "department", "section", "类别", "分类", "品类"),
        ),
        "author": (
            "author",
            "book_author",
            "authors",
            "director",
            "artist",
            "developer",
            "creator",
            "publisher",
            "brand",
            "作者",
            "品牌",
        ),
        "published_at": (
            "published_at",
            "release_date",
            "published",
            "publish_date",
            "created_at",
            "date_added",
            "上架日期",
            "发布时间",
        ),
        "release_year": ("release_year", "year", "year_of_publication", "publication_year"),
    },
    "users": {
        "gender": ("gender", "sex", "性别"),
        "age": ("age", "年龄"),
        "city": ("city", "location", "town", "城市"),
        "registered_at": (
            "registered_at",
            "signup_date",
            "registered",
            "created_at",
            "joined",
            "join_date",
            "registration_date",
        ),
    },
}
"""Roles of the columns of items and users -> what they are usually called, the likeliest first."""


def guess_role(role: str, fields: Sequence[Field]) -> Guess | None:
    """The column of a role of items or users: one of the usual names, whose values can be such.

    Args:
        role: as `title` or `age`.
        fields: columns that have no role yet.
    """
    names = next(roles[role] for roles in ROLE_NAMES.values() if role in roles)
    for name in names:
        for field in fields:
            if is_named(field.name, [name]) and (reason := _fits(role, field)) is not None:
                return Guess(field.name, reason)
    return None


def guess_role_by_values(role: str, fields: Sequence[Field]) -> Guess | None:
    """As `guess_role`, for a file without names: titles are texts of their own, topics come again, genders are few."""
    for field in fields:
        texts = [str(text) for text in field.counts.index[:1000]]
        mean_words = sum(len(text.split()) for text in texts) / max(len(texts), 1)
        is_topic = 1 < field.num_distinct <= min(100, 0.5 * field.num_rows)
        is_single = field.num_distinct > 0.5 * field.num_rows
        fits = {
            "title": not field.is_number and is_single and mean_words > 1.5,
            "category": not field.is_number and (guess_separator(field) is not None or is_topic),
            "gender": 1 < field.num_distinct <= 5 and {text.casefold() for text in texts} <= _GENDERS,
        }
        if fits.get(role, False):
            return Guess(field.name, f"by its values: {shares(field, 3)}")
    return None


def _fits(role: str, field: Field) -> str | None:
    """Figures of a column that can have a role; None where its values can't be such."""
    if field.num_distinct < 1:
        return None
    reason = f"{field.num_distinct:,} values"
    if role in ("published_at", "registered_at"):
        return reason if isinstance(field.time_format, TimeFormat) else None
    if role == "release_year":
        middle = float(field.numbers.median()) if field.share_of_numbers > 0.5 else 0.0
        return f"{field.num_distinct:,} years around {middle:.0f}" if 1000 <= middle <= 2100 else None
    if role == "age":
        middle = float(field.numbers.median()) if field.share_of_numbers > 0.5 else -1.0
        return f"{middle:.0f} in the middle" if 0 < middle < 120 and field.num_distinct > 2 else None
    if role == "gender":
        return shares(field) if field.num_distinct <= 10 else None
    return None if field.num_distinct == 1 and not field.num_missing and field.num_rows > 1 else reason
