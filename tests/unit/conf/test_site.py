"""A site's declaration: read whole, or refused with every fault and its line."""

from pathlib import Path

import pytest

from conf import UserError
from conf.site import Action, Category, Files, Number, SiteError, load_site, own_name
from conf.site.loading import ready_sites, site_file

RATINGS = 'Action("rating", Files("r.csv"), user="u", item="i", at="t", value="v")'


def declared(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "shop.py"
    file.write_text(f"from conf.site import *\n{text}\n")
    return file


def faults_of(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(SiteError) as error:
        load_site(declared(tmp_path, text))
    return [str(fault) for fault in error.value.faults]


def test_what_a_file_declares_is_read(tmp_path: Path) -> None:
    text = f"""SITE = Site(
    "shop",
    items=Items(Files("i.csv", separator=";"), key="id", columns={{"Price": Number(transform="log1p")}}),
    actions=[{RATINGS}],
    label=Label("rating", at_least=4),
    features=[Cross(("user_id", "item_price_band")), Rate(("category",))],
)""".replace("item_price_band", "author")
    site = load_site(declared(tmp_path, text))
    assert site.items is not None
    assert site.items.source == Files("i.csv", separator=";")
    assert site.items.columns == {"Price": Number(transform="log1p")}
    assert site.actions[0] == Action("rating", Files("r.csv"), user="u", item="i", at="t", value="v")
    assert [feature.feature for feature in site.features] == ["user_id_x_author", "category_rate"]


def test_all_faults_of_a_file_are_told_with_their_lines(tmp_path: Path) -> None:
    text = """SITE = Site(
    "shop",
    items=Items(Files("i.csv", seperator=";"), kee="id"),
    actions=[Action("rating", Files("r.csv", skip_lines="x"), user="u", item="i", at="t")],
)"""
    faults = faults_of(tmp_path, text)
    assert [fault.split(".", 2)[1] for fault in faults] == [
        'py:4: Files: unknown option "seperator"; did you mean "separator"? There are: pattern, header, separator, '
        "quote, escape, encoding, decimal, skip_lines, time_format, timezone, day, is_time_order, changes",
        'py:4: Items: "key" is missing',
        'py:4: Items: unknown option "kee"; did you mean "key"? There are: source, key, title, category, author, '
        "published_at, release_year, columns",
        "py:5: Files: \"skip_lines\" is 'x': Input should be a valid integer, unable to parse string as an integer",
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("SITE = 1 +", "shop.py:2: no Python: invalid syntax"),
        ("SITE = missing", "shop.py:2: NameError: name 'missing' is not defined"),
        ("SHOP = Site('shop', actions=[])", 'shop.py: it sets no SITE = Site(…); call SHOP so'),
        ("SITE = Site('shop')", "shop.py:2: Site: nothing to learn from: declare actions or impressions"),
        (f"SITE = Site('My Shop', actions=[{RATINGS}])", "Site: \"name\" is 'My Shop': small letters"),
        (
            "SITE = Site('shop', actions=[Action('a', Files('r.csv'), user='u', item='i')])",
            'shop.py:2: Action: no time: name its column with "at"',
        ),
        (
            "SITE = Site('shop', actions=[Action('a', Files('r.csv'), user='u', item='u', at='t')])",
            'shop.py:2: Action: column "u" is both user and item',
        ),
        (
            "SITE = Site('shop', actions=[Action('a', Files('r'), user='u', item='i', at='t', columns={'u': Number()})])",
            'shop.py:2: Action: column "u" is the user already; leave it out of columns',
        ),
        (
            f"SITE = Site('shop', actions=[{RATINGS}], users=Users(Files('u'), key='u', "
            "columns={'a b': Number(), 'A-B': Number()}))",
            'shop.py:2: columns "a b" (shop.py:2) and "A-B" would both be user_a_b',
        ),
        (
            f"SITE = Site('shop', actions=[{RATINGS}], label=Label('ratin'))",
            'shop.py:2: Label: no action "ratin"; did you mean "rating"?',
        ),
        (
            "SITE = Site('shop', actions=[Action('buy', Files('r'), user='u', item='i', at='t')], "
            "label=Label('buy', at_least=1))",
            'Label: at_least needs a value: "buy" names no such column',
        ),
        (
            f"SITE = Site('shop', actions=[{RATINGS}], features=[Cross(('user_id', 'categori'))])",
            'Cross "user_id_x_categori": no column "categori"; did you mean "category"?',
        ),
        (
            f"SITE = Site('shop', actions=[{RATINGS}], features=[Cross(('user_id',))])",
            'Cross "user_id": it is of two columns or more, each once',
        ),
        (
            f"SITE = Site('shop', actions=[{RATINGS}], features=[Cross(('b', 'city'), name='a'), "
            "Cross(('a', 'city'), name='b')])",
            'shop.py:2: Cross "a": it is made of itself',
        ),
        (
            f"SITE = Site('shop', actions=[{RATINGS}], items=Items(Files('i'), key='i', columns={{'p': Number()}}), "
            "features=[Rate(('item_p',))])",
            'Rate "item_p_rate": "item_p" is a Number; declare it Category to cross or count by it',
        ),
        (
            f"SITE = Site('shop', actions=[{RATINGS}], items=Items(Files('i'), key='i', "
            "columns={'p': Category(buckets=0)}))",
            'Category: "buckets" is 0: Input should be greater than or equal to 2',
        ),
        (
            f"SITE = Site('shop', actions=[{RATINGS}], label=Label('rating'), impressions=Impressions(Files('s'), "
            "user='u', item='i', clicked='c', at='t'))",
            'Label: with impressions the label is their click; leave it out',
        ),
        (
            "SITE = Site('shop', impressions=Impressions(Files('s'), user='u', item='i', clicked='c', at='t', "
            "columns={'w': Number(name='label')}))",
            'column "w" would be the feature label: give it another one',
        ),
        (
            "SITE = Site('shop', impressions=Impressions(Files('s'), user='u', item='i', at='t', separator=' ', "
            "propensity='p'))",
            'shop.py:2: Impressions: "propensity": a propensity is of one item at one place, not of a list in a cell',
        ),
        (
            "SITE = Site('shop', impressions=Impressions(Files('s'), user='u', item='i', at='t', clicked='c', "
            "clicked_by=ClickedBy('rating')))",
            "shop.py:2: Impressions: rows of an action are the clicks",
        ),
        (
            f"SITE = Site('shop', actions=[{RATINGS}], impressions=Impressions(Files('s'), user='u', item='i', at='t', "
            "clicked_by=ClickedBy('ratin')))",
            'shop.py:2: ClickedBy: no action "ratin"; did you mean "rating"?',
        ),
        (
            "SITE = Site('shop', actions=[Action('a', Files('r'), user='u', item='i', at='t', request='l')])",
            'shop.py:2: Action: "request" is of a list that was shown, and no Impressions names one',
        ),
        (
            "SITE = Site('shop', actions=[Action('a', Query('select', database='db', files={'x y': Files('x')}), "
            "user='u', item='i', at='t')])",
            'shop.py:2: Query: files are read by Spark, and "database" runs the query elsewhere',
        ),
        (
            "SITE = Site('shop', impressions=Impressions(Files('s'), user='u', item='i', at='t', separator=' ', at_least=3))",
            'shop.py:2: Impressions: "at_least" is of the numbers of "clicked": name that column',
        ),
        (
            "SITE = Site('shop', impressions=Impressions(Files('s'), user='u', item='i', at='t', clicked='c', chosen='d'))",
            'shop.py:2: Impressions: "chosen" is for rows that are lists: say what separates the items',
        ),
        (
            "SITE = Site('shop', impressions=Impressions(Files('s'), user='u', item='i', at='t', clicked='c', columns={'a': Weight(), 'b': Weight()}))",
            "shop.py:2: Impressions: a and b are both the Weight of the row",
        ),
        (
            "SITE = Site('shop', impressions=Impressions(Files('s'), user='u', item='i', at='t', clicked='c', columns={'a': Outcome('Paid!')}))",
            "shop.py:2: Outcome: its name is 'Paid!'",
        ),
        (
            "SITE = Site('shop', impressions=Impressions(Files('s'), user='u', item='i', at='t', clicked='c', columns={'a': Outcome('x'), 'b': Outcome('x')}))",
            'shop.py:2: Outcome "x": another column has that name',
        ),
        (
            f"SITE = Site('shop', actions=[{RATINGS}], users=Users(Files('u'), key='u', columns={{'a': Outcome('x')}}))",
            'shop.py:2: Users: column "a" is an Outcome, which only Impressions have',
        ),
        (
            f"SITE = Site('shop', actions=[{RATINGS}], users=Users(Files('u'), key='u', columns={{'a': Weight()}}))",
            'shop.py:2: Users: column "a" is a Weight, which only rows that happened have',
        ),
        (
            f"SITE = Site('shop', actions=[{RATINGS}], items=Items(Files('i'), key='i', "
            "columns={'g': Tags(), 'g_1': Category()}))",
            'columns "g" (shop.py:2) and "g_1" would both be item_g_1',
        ),
        (
            f"SITE = Site('shop', actions=[{RATINGS}], items=Items(Files('i'), key='i', columns={{'g': Tags()}}), "
            "features=[Cross(('city', 'gender'), name='item_g_1')])",
            'Cross "item_g_1": another feature has that name',
        ),
        (
            f"SITE = Site('shop', actions=[{RATINGS}], items=Items(Files('i'), key='i', columns={{'g': {{}}}}))",
            "Items: \"columns\" is {'g': {}}: 'g' is {}: write Number(), Category(), Tags(), Tokens(), Vector(…), Text(), Outcome(…) or Weight()",
        ),
        (
            f"SITE = Site('shop', actions=[{RATINGS}], features=[Cross({{'city', 'gender'}}, name='x')])",
            'write a list, as ["user_id", "city"]',
        ),
        (f"SITE = Site('shop', actions=[{RATINGS}], features=[Rate(())])", 'Rate "rate": it is of one column or more'),
        (
            "SITE = Site('shop', actions=[Action('a', Files('r'), user='u', item='i', at='t', "
            "columns={'w': Category(name='weather')})], features=[Rate(('weather',))])",
            'Rate "weather_rate": without impressions nothing can be counted by "weather"',
        ),
        (
            "SITE = Site('shop', actions=[Action('a', Files('r', day='2026-13-01'), user='u', item='i')])",
            "\"day\" is '2026-13-01': write it as 2026-01-07",
        ),
        (
            f"SITE = Site('shop', actions=[{RATINGS}], users=Users(Files('u', decimal=','), key='u', "
            "columns={'x': Number(name='y')}), items=Items(Files('i'), key='i', columns={'x': Number(name='y')}))",
            'columns "x" (shop.py:2) and "x" would both be y',
        ),
        (
            f"SITE = Site('shop', actions=[{RATINGS}], features=[Last('cart')])",
            'Last "last_cart": no action "cart". There are: rating.',
        ),
        (
            f"SITE = Site('shop', actions=[{RATINGS}], features=[Last('rating', of='categry')])",
            'no column "categry" of the items; did you mean "category"?',
        ),
        (
            f"SITE = Site('shop', actions=[{RATINGS}], items=Items(Files('i'), key='i', columns={{'p': Number()}}), "
            "features=[Last('rating', of='item_p')])",
            '"item_p" is no sparse feature of the items: declare it Category or Tags',
        ),
        (
            "SITE = Site('shop', actions=[Action('a', Files('r'), user='u', item='i', at='t')], "
            "features=[Last('a', at_least=2)])",
            'Last "last_a": at_least needs a value: "a" names no such column',
        ),
        ("SITE = Site('shop', actions=[Action(*'abcdefghij')])", 'Action: too many arguments; in order they are name, '),
        (f"SITE = Site('shop', actions=[{RATINGS}], features=[Dense('class', 'item_shown', '')])", 'Dense "class": give it'),
    ],
)  # fmt: skip
def test_a_declaration_that_cannot_be_right_is_refused_in_a_line(tmp_path: Path, text: str, fault: str) -> None:
    assert any(fault in line for line in faults_of(tmp_path, text))


def test_a_value_outside_a_file_raises_at_once() -> None:
    with pytest.raises(SiteError, match=r'test_site\.py:\d+: Category: unknown option "bucket"'):
        Category(bucket=3)  # type: ignore[call-arg]


def test_features_have_the_names_of_their_columns() -> None:
    assert own_name("item", "Book-Author") == "item_book_author"
    assert own_name("context", " Is Weekend? ") == "context_is_weekend"


def test_every_ready_site_is_a_right_declaration() -> None:
    assert ready_sites()
    for name in ready_sites():
        assert load_site(site_file(name)).name == name
    with pytest.raises(UserError, match="no file shop, and no ready site of that name"):
        site_file("shop")
