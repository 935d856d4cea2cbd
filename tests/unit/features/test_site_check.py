"""`millrace check`: every fault of a declaration and its data at once, each with its line, evidence and cure."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support import run_front_door

from conf import Config
from conf.site import SITE_VARIABLE, load_site
from features.check import job
from features.check.label_checks import separation

HEADER = "from conf.site import *\n"
LABEL = "Label('rating', at_least=4)"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ratings of 20 users of 30 films over 50 days, and the tables of both."""
    rng = np.random.default_rng(1)
    rows = range(500)
    ratings = pd.DataFrame(
        {
            "user": [f"u{i % 20}" for i in rows],
            "item": [f"i{i % 30}" for i in rows],
            "stars": [1 + i % 5 for i in rows],
            "at": [1_700_000_000 + 8640 * i for i in rows],
            "mood": rng.choice(["good", "bad"], 500),
        }
    )
    ratings.to_csv(tmp_path / "ratings.csv", index=False)
    items = pd.DataFrame(
        {"id": [f"i{i}" for i in range(30)], "name": [f"film {i}" for i in range(30)], "price": range(30)}
    )
    items.to_csv(tmp_path / "items.csv", index=False)
    pd.DataFrame({"id": [f"u{i}" for i in range(20)], "age": range(20, 40)}).to_csv(tmp_path / "users.csv", index=False)
    return tmp_path


def checked(config: Config, folder: Path, declaration: str, max_rows: int = 1000) -> job.Checked:
    file = folder / f"shop{len(list(folder.glob('shop*.py')))}.py"
    file.write_text(f"{HEADER}{declaration}\n")
    return job.run(config, load_site(file), folder, max_rows)


def findings(config: Config, folder: Path, declaration: str) -> list[str]:
    names = {True: "fault", False: "warning"}
    return [
        f"{names[one.is_fault]} {str(one).partition('.py:')[2]}"
        for one in checked(config, folder, declaration).findings
    ]


def site(actions: str = "", items: str = "", users: str = "", label: str = "", rest: str = "") -> str:
    """A declaration with one part changed; each part is on a line of its own."""
    return (
        "SITE = Site('shop',\n"
        f"items=Items(Files('items.csv'), key='id', title='name'{items}),\n"
        f"users=Users(Files('users.csv'), key='id', age='age'{users}),\n"
        f"actions=[{actions or action()}],\n"
        f"label={label or LABEL},{rest})"
    )


def action(
    columns: str = "{'mood': Category(buckets=16)}", at: str = "at", files: str = "", value: str = "stars"
) -> str:
    return f"Action('rating', Files('ratings.csv'{files}), user='user', item='item', at='{at}', value='{value}', columns={columns})"


def test_a_right_declaration_has_no_findings_and_a_report(config: Config, folder: Path) -> None:
    right = checked(config, folder, site())
    assert right.findings == ()
    assert right.rows == 550
    text = "\n".join(right.lines)
    assert 'Action "rating": all 500 rows of ratings.csv' in text
    assert "51 days, 2023-11-14 22:13 to 2024-01-03 19:49 (UTC)" in text
    assert 'label of Action "rating": 200 of 500 rows (40.00%)' in text
    assert "features: 33 built-in + 1 own" in text
    assert "40.0% of the rows are positives, with up to 4 sampled items each as negatives" in text
    assert text.endswith("shop: faults: 0, warnings: 0")


@pytest.mark.parametrize(
    ("declaration", "finding"),
    [
        (
            site(items=", category='Nmae'"),
            'fault 3: Items: category is "Nmae", a column that items.csv lacks; did you mean "name"? There are: id, name, price.',
        ),
        (
            site(action("{'Mood': Category()}")),
            'fault 5: Action "rating": no column "Mood" in ratings.csv; did you mean "mood"? There are: user, item, stars',
        ),
        (
            site(action(files=", time_format='ms'")),
            'fault 5: Action "rating": with time_format="ms" "at" would run 1970-01-20 to 1970-01-20; "s" gives 2023-11-14 to '
            '2024-01-03. Write time_format="s".',
        ),
        (
            site(action(files=", time_format='iso'")),
            'fault 5: Action "rating": with time_format="iso" 500 of 500 values of "at" are no such time, as \'1700000000\'; '
            '"s" gives 2023-11-14 to 2024-01-03. Write time_format="s".',
        ),
        (
            site(label='Label("rating", at_least=40)'),
            'fault 6: Label("rating", at_least=40) is true for 0 of 500 rows; the value runs 1 to 5. Choose a bound inside that range.',
        ),
        (
            site(action("{'mood': Number()}")),
            "fault 5: \"mood\" is a Number, but 500 of 500 rows hold text (first: ratings.csv line 2, 'good'). Declare it Category.",
        ),
        (
            site(action("{'mood': Tags(separator=';')}")),
            "fault 5: \"mood\": no cell has the separator ';'. Declare it Category.",
        ),
        (
            site(users=", columns={'age': Category()}").replace(", age='age'", "").replace("key='id'", "key='age'", 2).replace(", columns={'age': Category()}", ""),
            "fault 4: Users: 20 of 20 users of Action \"rating\" (100.0%) have no row, as 'u0'; keys are such as '20'. Name the "
            "column that has the same ids.",
        ),
        (site().replace("items.csv", "none.csv"), "fault 3: no file "),
        (
            site(items=", columns={'price': Category(buckets=16)}"),
            'warning 3: "price" has 30 values in 16 buckets: most share one. Write buckets=256.',
        ),
    ],
)  # fmt: skip
def test_a_fault_has_its_line_evidence_and_cure(config: Config, folder: Path, declaration: str, finding: str) -> None:
    texts = findings(config, folder, declaration)
    assert any(text.startswith(finding) for text in texts), texts


def test_all_faults_come_at_once(config: Config, folder: Path) -> None:
    wrong = site(
        action("{'Mood': Category()}", files=", time_format='ms'"),
        items=", author='who'",
        label="Label('rating', at_least=9)",
    )
    assert {text.split(":")[0] for text in findings(config, folder, wrong)} == {"fault 3", "fault 5", "fault 6"}


def test_keys_that_several_rows_have_and_unmatched_ids(config: Config, folder: Path) -> None:
    (folder / "items.csv").write_text(
        "id,name,price\ni1,a,1\ni2,b,2\ni1,c,3\n" + "".join(f"i{i},x,1\n" for i in range(3, 28))
    )
    texts = findings(config, folder, site())
    assert (
        "fault 3: Items: key \"id\" is not unique: 1 of 27 values have several rows, as 'i1' (items.csv line 2 and 4). Write one row for each."
        in texts
    )
    assert (
        "warning 3: Items: 3 of 30 items of Action \"rating\" (10.0%) have no row, as 'i0'; keys are such as 'i1'. They get a row without attributes; complete the file."
        in texts
    )


@pytest.mark.parametrize(
    ("ids", "cure"),
    [
        ([f"{100 + i}.0" for i in range(30)], "Write both without the decimal point: then they match."),
        ([f"000{100 + i}" for i in range(30)], "Write both without leading zeros: then they match."),
    ],
)
def test_ids_that_are_spelt_otherwise_are_told(config: Config, folder: Path, ids: list[str], cure: str) -> None:
    ratings = pd.read_csv(folder / "ratings.csv")
    ratings.assign(item=[100 + i % 30 for i in range(500)]).to_csv(folder / "ratings.csv", index=False)
    pd.DataFrame({"id": ids, "name": "x"}).to_csv(folder / "items.csv", index=False)
    assert any(text.endswith(cure) for text in findings(config, folder, site()))


def test_refused_rows_are_counted_by_reason_with_examples(config: Config, folder: Path) -> None:
    file = folder / "ratings.csv"
    lines = file.read_text().splitlines()
    lines[1] = ",i1,5,1700000000,good"
    lines[2] = "u1,i1,many,1700000000,good"
    lines[3] = "u1,i1"
    lines[4] = "2.10381E+18,i1,5,1700000000,bad"
    file.write_text("\n".join(lines))
    few = checked(config, folder, site())
    text = "\n".join(few.lines)
    for refusal in (
        "refused: 1 × missing_cells: ratings.csv line 4: u1,i1",
        "refused: 1 × missing_field in user: ratings.csv line 2: empty",
        "refused: 1 × damaged_id in user: ratings.csv line 5: user 2.10381E+18",
        "refused: 1 × bad_value in stars: ratings.csv line 3: stars many",
    ):
        assert refusal in text
    assert [one.is_fault for one in few.findings] == [False]  # 0.8 % are less than ingest.max_refused
    file.write_text("\n".join([*lines[:1], *lines[5:400], *(f"{line},more" for line in lines[400:])]))
    fault = 'fault 5: Action "rating": 101 of 496 rows (20.4%) can\'t be loaded; 101 × extra_cells, first ratings.csv line 397'
    (finding,) = [text for text in findings(config, folder, site()) if "can't be loaded" in text]
    assert finding.startswith(fault)
    assert finding.endswith("--set ingest.max_refused=0.25 lets them go.")


def test_the_future_and_a_single_day(config: Config, folder: Path) -> None:
    ratings = pd.read_csv(folder / "ratings.csv")
    ratings.assign(at=["2090-01-01" if i < 50 else "2023-05-06" for i in range(500)]).to_csv(
        folder / "ratings.csv", index=False
    )
    assert (
        'fault 5: Action "rating": 50 of 500 rows are of the future, as 2090-01-01 (ratings.csv line 2).'
        in " ".join(findings(config, folder, site()))
    )
    ratings.assign(at="2023-05-06").to_csv(folder / "ratings.csv", index=False)
    assert any(
        text.startswith("warning 2: Site: all rows are of one day (2023-05-06)")
        for text in findings(config, folder, site())
    )


def test_windows_that_are_longer_than_the_data_are_told(config: Config, folder: Path) -> None:
    rates = "features=[Rate(('user_id',), days=7), Rate(('item_id',), days=29), Rate(('city',), days=30)]"
    texts = findings(config, folder, site(rest=rates))
    assert [text.partition(": ")[2] for text in texts if "Rate" in text] == [
        'Rate "city_rate_30d": days=30 is all that a training set reads (features.window_days=30). Leave days out.'
    ]
    ratings = pd.read_csv(folder / "ratings.csv").head(200)  # 20 days
    ratings.to_csv(folder / "ratings.csv", index=False)
    texts = findings(config, folder, site(rest=rates))
    assert any("days=29 is longer than the data, 2023-11-14 to 2023-12-04. Leave days out." in text for text in texts)


def test_a_column_that_gives_clicks_away(config: Config, folder: Path) -> None:
    rng = np.random.default_rng(2)
    clicked = rng.integers(0, 2, 400)
    rows = pd.DataFrame(
        {"user": [f"u{i % 20}" for i in range(400)], "item": [f"i{i % 30}" for i in range(400)], "clicked": clicked}
    )
    rows = rows.assign(
        dwell=clicked * rng.uniform(5, 9, 400),
        page=np.where(clicked, "product", "list"),
        hour=rng.integers(0, 24, 400),
        visit=[f"v{i}" for i in range(400)],
    )
    rows.assign(at="2023-05-06").to_csv(folder / "shown.csv", index=False)
    columns = "{'dwell': Number(), 'page': Category(buckets=16), 'hour': Number(), 'visit': Category(buckets=8192)}"
    shown = f"SITE = Site('shop', impressions=Impressions(Files('shown.csv'), user='user', item='item', clicked='clicked', at='at', columns={columns}))"
    texts = findings(config, folder, shown)
    given_away = [text for text in texts if "alone tells clicks from others (AUC 1.000)" in text]
    assert [text.split('"')[1] for text in given_away] == ["dwell", "page"]
    assert any('"visit" has 400 values in 400 rows: hardly one comes twice' in text for text in texts)


def test_outcomes_and_weights_are_judged_by_their_cells(config: Config, folder: Path) -> None:
    rows = pd.DataFrame(
        {"user": ["a", "b"] * 60, "item": ["x", "y", "z"] * 40, "seconds": range(120), "at": "2023-05-06"}
    )
    rows = rows.assign(paid=["yes", "no"] * 60, liked="no", shared="later", bid=-1.5)
    rows.to_csv(folder / "shown.csv", index=False)
    columns = "{'paid': Outcome('paid'), 'liked': Outcome('liked'), 'shared': Outcome('shared'), 'bid': Weight()}"
    declared = f"SITE = Site('shop', impressions=Impressions(Files('shown.csv'), user='user', item='item', clicked='seconds', at_least=30, at='at', columns={columns}))"
    texts = findings(config, folder, declared)
    assert not any('"paid"' in text for text in texts)
    assert any('"liked" is true of none of 120 rows' in text for text in texts)
    assert any(
        text.startswith(
            "fault 2: \"shared\": 120 of 120 rows are neither yes nor no (first: shown.csv line 2, 'later')."
        )
        for text in texts
    )
    assert any('"bid" is a Weight, and negative in 120 rows (first: shown.csv line 2, -1.5)' in text for text in texts)
    lines = "\n".join(checked(config, folder, declared).lines)
    assert "label of Impressions: 90 of 120 rows (75.00%)" in lines
    assert "further labels: paid, liked, shared" in lines


@pytest.mark.parametrize(
    ("size", "finding"),
    [
        (
            3,
            'warning 5: "of": 1 of 500 rows hold no vector of 3 numbers (first: ratings.csv line 501, 4 numbers). '
            "They count as missing.",
        ),
        (
            4,
            'fault 5: "of": 499 of 500 rows hold no vector of 4 numbers (first: ratings.csv line 2, 3 numbers). '
            "Write Vector(3).",
        ),
    ],
)
def test_vectors_have_the_declared_size(config: Config, folder: Path, size: int, finding: str) -> None:
    ratings = pd.read_csv(folder / "ratings.csv")
    ratings.assign(of=["0.5 1 2", *["[1, 2, 3.5]"] * 498, "1 2 3 4"]).to_csv(folder / "ratings.csv", index=False)
    texts = findings(config, folder, site(action(f"{{'of': Vector({size})}}")))
    assert [text for text in texts if '"of"' in text] == [finding]


@pytest.mark.parametrize(
    ("kind", "findings_of_it"),
    [
        (
            "Tokens(slots=4)",
            ['warning 5: "of" has 6 words in a cell and 4 slots: 46% of them are left out. Write slots=12.'],
        ),
        (
            "Tokens(slots=12, buckets=8)",
            ['warning 5: "of" has 77 values in 8 buckets: most share one. Write buckets=1024.'],
        ),
        ("Tokens()", []),
    ],
)
def test_texts_have_room_for_their_words(config: Config, folder: Path, kind: str, findings_of_it: list[str]) -> None:
    ratings = pd.read_csv(folder / "ratings.csv")
    words = [f"a{n % 97} b{n % 89} c{n % 83} d{n % 79} e{n % 73} f{n}" for n in range(500)]
    ratings.assign(of=words).to_csv(folder / "ratings.csv", index=False)
    texts = findings(config, folder, site(action(f"{{'of': {kind}}}")))
    assert [text for text in texts if '"of"' in text] == findings_of_it


def test_clicks_of_another_file_are_joined(config: Config, folder: Path) -> None:
    at = pd.Timestamp("2023-05-06 08:00")
    rows = pd.DataFrame(
        {
            "user": [f"u{i}" for i in range(120)],
            "item": "x",
            "at": [str(at + pd.Timedelta(hours=i)) for i in range(120)],
        }
    )
    rows.to_csv(folder / "shown.csv", index=False)
    acts = rows.head(30).assign(at=[str(at + pd.Timedelta(hours=i, minutes=5)) for i in range(30)])
    acts.to_csv(folder / "clicks.csv", index=False)
    declared = """SITE = Site('shop', impressions=Impressions(Files('shown.csv'), user='user', item='item', at='at', clicked_by=ClickedBy('click')),
        actions=[Action('click', Files('clicks.csv'), user='user', item='item', at='at')])"""
    result = checked(config, folder, declared)
    assert not result.findings
    assert "label of Impressions: 30 of 120 rows (25.00%)" in result.lines
    acts.assign(user="someone else").to_csv(folder / "clicks.csv", index=False)
    (text,) = findings(config, folder, declared)
    assert text.startswith(
        'fault 2: Impressions: None of 120 rows was clicked: "click" of the same user and item within 60'
    )


def test_impressions_without_a_click_are_refused(config: Config, folder: Path) -> None:
    pd.DataFrame({"user": ["a", "b"], "item": ["x", "y"], "click": [0, 0], "at": ["2023-05-06", "2023-05-07"]}).to_csv(
        folder / "shown.csv", index=False
    )
    shown = "SITE = Site('shop', impressions=Impressions(Files('shown.csv'), user='user', item='item', clicked='click', at='at'))"
    assert findings(config, folder, shown) == [
        "fault 2: Impressions: \"click\" is no click in all 2 rows (values: '0'). Name another column."
    ]


def test_separation_of_a_column() -> None:
    labels = pd.Series([True, False] * 50)
    assert separation(pd.Series(["1", "0"] * 50, dtype=object), labels, is_number=True) == 1
    assert separation(pd.Series(["0", "1"] * 50, dtype=object), labels, is_number=True) == 1  # the other way round, too
    assert separation(pd.Series(["1,5", "0,5"] * 50, dtype=object), labels, is_number=True, decimal=",") == 1
    assert separation(pd.Series(["x"] * 100, dtype=object), labels, is_number=False) == 0.5
    assert separation(pd.Series([f"v{i}" for i in range(100)], dtype=object), labels, is_number=False) == 0.5
    assert separation(pd.Series([None] * 100, dtype=object), labels, is_number=True) == 0.5


def test_a_large_file_is_sampled_and_said_to_be(config: Config, folder: Path) -> None:
    rows = 20_000
    many = pd.DataFrame(
        {
            "user": [f"u{i % 20}" for i in range(rows)],
            "item": [f"i{i % 30}" for i in range(rows)],
            "stars": 5,
            "mood": "good" * 30,
        }
    )
    many.assign(at=[1_700_000_000 + 60 * i for i in range(rows)]).to_csv(folder / "ratings.csv", index=False)
    report = "\n".join(checked(config, folder, site(), max_rows=1000).lines)
    assert 'Action "rating": a sample of ' in report
    assert "rows to dwd_interaction" in report
    assert "about 20,0" in report or "about 19,9" in report


def test_the_command_without_a_site_says_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SITE_VARIABLE, raising=False)
    code, out, err = run_front_door("check", home=tmp_path)
    assert (code, out) == (1, "")
    assert "no site: name its file with --site site.py" in err
    assert len(err.strip().splitlines()) == 1


def test_the_command_exits_with_1_for_a_fault(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, (label, code) in enumerate((("Label('rating', at_least=4)", 0), ("Label('rating', at_least=9)", 1))):
        file = folder / f"mine{number}.py"
        file.write_text(HEADER + site(label=label))
        monkeypatch.setenv(SITE_VARIABLE, str(file))
        exit_code, out, _ = run_front_door("check", home=folder)
        assert exit_code == code
        assert json.loads(out.splitlines()[-1]) == {"rows": 550, "faults": code, "warnings": 0}


def test_lists_in_a_cell_are_rows(config: Config, folder: Path) -> None:
    rows = [
        "at,who,shown",
        *(f"2026-05-0{1 + i % 9},u{i},i{i}-0 i{i + 1}-1" for i in range(20)),
        "2026-05-01,u1,",
        "2026-05-01,u1,i1 i2-0",
    ]
    (folder / "shown.csv").write_text("\n".join(rows))
    lists = "SITE = Site('shop', impressions=Impressions(Files('shown.csv'), user='who', item='shown', at='at', separator=' '))"
    text = "\n".join(checked(config, folder, lists).lines)
    assert "Impressions: all 43 rows of shown.csv" in text
    assert "refused: 2 × missing_field in shown: shown.csv line 22: empty; shown.csv line 23: empty" in text
    assert "label of Impressions: 20 of 41 rows (48.78%)" in text
