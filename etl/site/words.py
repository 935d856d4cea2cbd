"""What the names of columns and files say: whose id a column has, by the words that its name consists of."""

import re
from collections.abc import Collection
from typing import Literal

from etl.sources.dialect import bare_name

Entity = Literal["user", "item"]

_WORD = re.compile(r"[^\W_]+")
USER_WORDS = frozenset(
    _WORD.findall(
        "user uid customer client visitor member reader reviewer viewer listener buyer shopper account person "
        "subscriber patient student player consumer guest kunde nutzer benutzer usuario cliente "
        "utilisateur 用户 会员 客户"
    )
)
ITEM_WORDS = frozenset(
    _WORD.findall(
        "item iid movie film product artist book isbn asin sku article news video app song track album recipe game "
        "restaurant asset business offer listing post course job stock adgroup ad show series anime beer wine poi "
        "question document doc page photo hotel prop property destination "
        "artikel produkt producto produit 商品 物品 产品"
    )
)
COUNT_WORDS = frozenset(_WORD.findall("age count cnt num number price amount quantity qty score rating days hours"))
"""In names of columns whose whole numbers are amounts."""
CODE_WORDS = frozenset(
    _WORD.findall(
        "id code zip zipcode postcode no nr key city country region state location area category brand type class "
        "group segment channel campaign customer advertiser cate cluster level"
    )
)
"""In names of columns whose whole numbers are names of something."""
_ID_WORDS = frozenset(
    _WORD.findall("id ids no nr num number code key uuid guid idx index hash identifier 编号 编码 代码 号 号码")
)
CLICK_NAMES = ("click", "clicked", "clicks", "clk", "isclick", "isclicked", "label", "target", "wasclicked")
ACTION_NAMES = (
    *("purchase", "order", "buy", "transaction", "cart", "click", "view", "play", "listen", "watch", "download"),
    *("like", "favorite", "bookmark", "share", "comment", "review", "rating", "tag", "borrow", "visit", "use"),
    *("booking", "install", "follow", "convert"),
)
"""What people do, the most worth to a shop first."""
_SPELLINGS = {
    "bought": "purchase",
    "purchases": "purchase",
    "sales": "purchase",
    "clk": "click",
    "ratings": "rating",
    "booked": "booking",
    "订单": "purchase",
    "购买": "purchase",
    "加购": "cart",
    "点击": "click",
    "浏览": "view",
    "播放": "play",
    "收藏": "favorite",
    "评分": "rating",
    "评论": "review",
}


def words_of(name: str) -> list[str]:
    """The words of a name, small: `userId`, `user_id` and `User-ID` are user, id."""
    parts = re.sub(r"([a-z0-9])([A-Z])|([A-Z]+)([A-Z][a-z])", r"\1\3 \2\4", name)
    words = _WORD.findall(parts.casefold())
    # `userid` and `artistid` are written in one, too.
    return [part for word in words for part in _split_id(word)]


def entity_of(column: str, table: str) -> Entity | None:
    """Whose id a column has by its name: a user's or an item's; None where the name says neither.

    Args:
        column: its name.
        table: the name of its table, which says whose a column `id` is.
    """
    parent, _, last = column.rpartition(".")
    if parent and _ID_WORDS & set(words_of(last)):  # of an object, whose name says whose it is: `user.pseudo_id`
        return _entity(words_of(parent.rpartition(".")[2])) or entity_of(last, table)
    words = words_of(column)
    rest = [word for word in words if word not in _ID_WORDS]
    if words and not rest:
        return _entity(words_of(table)) if words[0] in ("id", "key", "uuid", "guid", "code") else None
    # A column about users, as their age, has another word beside theirs.
    return _entity(rest) if len(rest) == 1 else None


def is_name_of(column: str, entity: Entity) -> bool:
    """Whether a column has names of users or items, as `Product Name`: ids, where there are no others."""
    words = words_of(column)
    rest = [word for word in words if word not in ("name", "title")]
    return len(rest) < len(words) and len(rest) == 1 and _entity(rest) == entity


def is_named(column: str, names: Collection[str]) -> bool:
    """Whether a column has one of the names, however they are spelt."""
    return bare_name(column) in {bare_name(name) for name in names}


def action_name(stem: str) -> str | None:
    """What users do by the name of a file: `purchase` of `purchases_2026`; None where it says nothing."""
    for word in words_of(stem):
        word = _SPELLINGS.get(word, word)
        for action in ACTION_NAMES:
            if word in (action, f"{action}s", f"{action}es", f"{action}ed"):
                return action
    return None


def outcome_name(column: str) -> str | None:
    """What people did by the name of a column of yes and no: `review` of `was_reviewed`; None for no act."""
    return next(filter(None, map(action_name, words_of(column))), None)


def _entity(words: Collection[str]) -> Entity | None:
    singular = {*words, *(word.removesuffix("s") for word in words)}
    is_user, is_item = bool(USER_WORDS & singular), bool(ITEM_WORDS & singular)
    if is_user == is_item:
        return None
    return "user" if is_user else "item"


def _split_id(word: str) -> list[str]:
    if word.endswith("id") and word[:-2] in USER_WORDS | ITEM_WORDS:
        return [word[:-2], "id"]
    # Chinese has no blanks: 商品编号 is an item's id.
    known = USER_WORDS | ITEM_WORDS | _OCCASION_WORDS
    rest = next((word[len(one) :] for one in known if word.startswith(one) and not one.isascii()), "")
    return [word.removesuffix(rest), rest] if rest in _ID_WORDS else [word]


_OCCASION_WORDS = frozenset(
    _WORD.findall(
        "session invoice order transaction request event visit basket receipt impression trip log row record uuid "
        "订单 会话 流水"
    )
)
_AFTERWARDS_WORDS = frozenset(
    _WORD.findall(
        "review comment dwell duration skip skipped "
        "watchtime playtime feedback converted conversion revenue refund returned "
        "useful helpful funny cool votes upvotes downvotes"
    )
)
_SPENT_WORDS = frozenset(_WORD.findall("play watch view listen stay read spent dwell"))


def is_of_one_occasion(column: str) -> bool:
    """Whether a column has, by its name, ids of a visit or an order: no later row has them again."""
    words = set(words_of(column))
    # `transactionid` is written in one, too.
    words |= {part for word in words if word.endswith("id") for part in (word[:-2], "id")}
    return bool(_OCCASION_WORDS & words) and (len(words) == 1 or bool(_ID_WORDS & words))


def is_known_afterwards(column: str) -> bool:
    """Whether a column says, by its name, what came of it: known only after what a model predicts."""
    words = set(words_of(column))
    return bool(_AFTERWARDS_WORDS & words) or ("time" in words and bool(_SPENT_WORDS & words))
