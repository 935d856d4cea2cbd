"""Layouts of files: encodings, separators, quotes and headers are detected; what csv writers write is read back."""

import bz2
import csv
import gzip
import io
import json
import zipfile
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from conf import UsageError, UserError
from etl.sources.detection import detect_dialect, sample_columns
from etl.sources.dialect import Dialect, DialectOptions, split_line, unquote
from etl.sources.encodings import detect_encoding, normalized_encoding
from etl.sources.rows import joined_rows

# A surrogate is no character, and NUL ends a text for csv.
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
AWKWARD = st.text(st.sampled_from('",;\t\n\r\\ a1é|'), max_size=8)
TABLES = st.integers(2, 4).flatmap(
    lambda width: st.lists(
        st.lists(TEXT | AWKWARD, min_size=width, max_size=width).filter(lambda row: any(cell.strip(" ,;\t\n\r\v\f\x1c\x1d\x1e\x1f\x85\xa0\u3000\ufeff\u2028\u2029\\\"|") for cell in row)),
        min_size=1,
        max_size=5,
    )
)  # fmt: skip


def read_text(text: str, dialect: Dialect) -> list[list[str]]:
    """All rows of a text without a header, as the reader of files splits it."""
    lines = text.split(dialect.line_end[-1])
    places = ((line, "f", 0, n) for n, line in enumerate(lines) if line or n < len(lines) - 1)
    rows = []
    for line, *_ in joined_rows(places, dialect):
        cells = split_line(line, dialect)
        assert cells is not None, line
        if any(cells) or len(cells) > 1:
            rows.append([unquote(cell, dialect) for cell in cells])
    return rows


def written(rows: list[list[str]], **options: object) -> str:
    out = io.StringIO()
    csv.writer(out, **options).writerows(rows)  # type: ignore[arg-type]
    return out.getvalue()


@settings(max_examples=300, deadline=None)
@given(
    TABLES, st.sampled_from([",", ";", "\t", "|"]), st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]), st.booleans()
)
@example([["a\nb", 'c"d'], [" x", "y "]], ",", csv.QUOTE_MINIMAL, False)
def test_what_csv_writes_is_read_back(rows: list[list[str]], separator: str, quoting: int, is_unix: bool) -> None:
    end = "\n" if is_unix else "\r\n"
    text = written(rows, delimiter=separator, quoting=quoting, lineterminator=end)
    names = tuple(f"c{n}" for n in range(len(rows[0])))
    assert read_text(text, Dialect(separator=separator, line_end=end, names=names)) == rows


@settings(max_examples=200, deadline=None)
@given(TABLES, st.sampled_from([",", "\t"]))
def test_what_csv_writes_with_backslashes_is_read_back(rows: list[list[str]], separator: str) -> None:
    # Without doubled quotes csv protects quotes and backslashes by a backslash, line ends by quotes.
    text = written(rows, delimiter=separator, doublequote=False, escapechar="\\")
    names = tuple(f"c{n}" for n in range(len(rows[0])))
    assert read_text(text, Dialect(separator=separator, line_end="\r\n", escape="\\", names=names)) == rows


@settings(max_examples=100, deadline=None)
@given(TABLES)
def test_what_pandas_writes_is_read_back(rows: list[list[str]]) -> None:
    text = pd.DataFrame(rows).to_csv(index=False, header=False, lineterminator="\n")
    names = tuple(f"c{n}" for n in range(len(rows[0])))
    assert read_text(text, Dialect(names=names)) == rows


def test_a_stray_quote_takes_no_line_with_it() -> None:
    dialect = Dialect(names=("a", "b"))
    lines = ['1,"open', "2,x", '3,"y"', "4,z"]
    joined = list(joined_rows(((line, "f", 0, n) for n, line in enumerate(lines)), dialect))
    assert [line for line, *_ in joined] == lines
    assert [split_line(line, dialect) for line in lines] == [None, ["2", "x"], ["3", '"y"'], ["4", "z"]]


MOVIES = 'movieId,title,genres\n1,"American President, The (1995)",Comedy|Drama\n2,Heat,\n'


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (MOVIES, Dialect(header="movieId,title,genres", names=("movieId", "title", "genres"))),
        ("a;b\n1;2,5\n", Dialect(separator=";", decimal=",", header="a;b", names=("a", "b"))),
        ("a;b\n1;2.5\n3;4,5\n", Dialect(separator=";", header="a;b", names=("a", "b"))),
        ("1::x::3\n2::y, z::4\n", Dialect(separator="::")),
        ("id\tname\n1\t\"Weird Al\" Yankovic\n2\t!!!\n", Dialect(separator="\t", quote=None, header="id\tname", names=("id", "name"))),
        ("sep=;\r\na;b\r\n1;2\r\n", Dialect(separator=";", line_end="\r\n", skip_lines=1, header="a;b", names=("a", "b"))),
        ("'a','b'\n'1','x, y'\n", Dialect(quote="'", header="'a','b'", names=("a", "b"))),
        ("user-id,title\nu,x\n", Dialect(header="user-id,title", names=("user-id", "title"))),
        ("1,Big Bad Wolf\n2,Toy Story 2\n", Dialect()),
        ("a;b\n1;1,234\n2;17\n", Dialect(separator=";", header="a;b", names=("a", "b"))),
        ("a;b\n1;1.234,50\n2;17\n", Dialect(separator=";", decimal=",", header="a;b", names=("a", "b"))),
        ("a,b\r1,2\r3,4\r", Dialect(line_end="\r", header="a,b", names=("a", "b"))),
        ("click,101,102\n0,1,2\n", Dialect(header="click,101,102", names=("click", "101", "102"))),
        (",item,item\n0,1,2\n", Dialect(header=",item,item", names=("column_1", "item", "item_2"))),
        ("196\t242\t3\n186\t302\t3\n", Dialect(separator="\t")),
        ("n/a,x\n1,y\n", Dialect()),
        ('a,b\n"x \\"y\\" z",1\n"\\"",2\n', Dialect(escape="\\", header="a,b", names=("a", "b"))),
        ("user_id:token\tgenre:token_seq\n1\tA B\n", Dialect(separator="\t", header="user_id:token\tgenre:token_seq", names=("user_id", "genre"), list_columns=frozenset({"genre"}))),
    ],
)  # fmt: skip
def test_the_layout_is_detected(tmp_path: Path, text: str, expected: Dialect) -> None:
    assert detect_dialect(write(tmp_path / "f.csv", text), DialectOptions(), ["user_id"]) == expected
    marked = b"\xef\xbb\xbf" + text.encode()
    assert detect_dialect(write(tmp_path / "marked.csv", marked), DialectOptions(), ["user_id"]) == expected


def test_each_part_of_the_layout_can_be_given(tmp_path: Path) -> None:
    path = write(tmp_path / "f.txt", "# made today\n1;a,b;'c;d'\n")
    options = DialectOptions(
        separator=";", quote="'", skip_lines=1, names=("x", "y", "z"), decimal=",", encoding="cp1252"
    )
    assert detect_dialect(path, options) == Dialect(
        encoding="cp1252", separator=";", quote="'", decimal=",", skip_lines=1, names=("x", "y", "z")
    )


def test_the_number_of_names_decides_between_separators(tmp_path: Path) -> None:
    rows = {"1,a|b|c|d,2\n3,e|f|g|h,4\n": ",", "1 2 2026-01-07,10:00\n": " "}
    for text, separator in rows.items():
        path = write(tmp_path / "f.txt", text)
        assert detect_dialect(path, DialectOptions(names=("x", "y", "z"))).separator == separator


def test_a_header_whose_columns_are_named_anew_is_no_row(tmp_path: Path) -> None:
    path = write(tmp_path / "f.csv", "user_id,item,day\n1,2,3\n")
    renamed = detect_dialect(path, DialectOptions(names=("u", "i", "d")), ["user_id", "item"])
    assert (renamed.header, renamed.names) == ("user_id,item,day", ("u", "i", "d"))
    first_row = detect_dialect(path, DialectOptions(names=("u", "i", "d")), ["user_id"])
    assert (first_row.header, first_row.names) == (None, ("u", "i", "d"))


@pytest.mark.parametrize(
    ("text", "names", "message"),
    [
        ("a,b\n", (), r"has a header \(a, b\) and no rows"),
        ("a,b\n1,2,\n3,4,\n", (), "names of 2 columns .* most rows have 3 cells .* name all columns in order with --header"),
        ("a b\n1 2 3\n2 3 4\n", (), "names of 2 columns"),
        ("1\t2\t3\n", ("a", "b"), "names of 2 columns"),
    ],
)  # fmt: skip
def test_rows_of_another_width_than_the_header_are_said(
    tmp_path: Path, text: str, names: tuple[str, ...], message: str
) -> None:
    # pandas makes an index of the cell too much, and shifts all others.
    with pytest.raises(UserError, match=message):
        detect_dialect(write(tmp_path / "f.csv", text), DialectOptions(names=names))


@pytest.mark.parametrize(
    "encoding", ["utf-8", "latin-1", "gb18030", "big5", "utf-16-le", "cp1251", "shift_jis", "euc_kr"]
)
def test_encodings_are_detected_and_nothing_is_mangled(tmp_path: Path, encoding: str) -> None:
    texts = {
        "latin-1": "Misérables, Les (1995)\nAmélie\nCittà\n",
        "gb18030": "魔兽世界的人物\n红楼梦\n",
        "big5": "紅樓夢與阿Q正傳\n測試資料\n",
        "cp1251": "Война и мир\nАнна Каренина\nПреступление и наказание\n",
        "shift_jis": "これはテストです\n日本語の文章を読む\n",
        "euc_kr": "안녕하세요\n한국어 문장입니다\n",
    }
    text = texts.get(encoding, "café 魔\n")
    mark = "\ufeff" if encoding == "utf-16-le" else ""
    path = write(
        tmp_path / "f.txt",
        (mark + "id;name\n" + "".join(f"{n};{line}\n" for n, line in enumerate(text.splitlines()))).encode(encoding),
    )
    dialect = detect_dialect(path, DialectOptions())
    assert dialect.encoding == encoding
    assert sample_columns(path, dialect, ["name"])["name"] == text.splitlines()


def test_an_encoding_that_is_named_is_one_that_spark_reads(tmp_path: Path) -> None:
    assert [normalized_encoding(name) for name in ("utf-8-sig", "UTF8", "Latin-1")] == ["utf-8", "utf-8", "iso8859-1"]
    for name in ("base64", "utf-7", "utf-32", "idna", "none"):
        with pytest.raises(UsageError, match="for example utf-8"):
            normalized_encoding(name)
    # With and without a mark: Spark looks for line ends in one order of bytes.
    for mark, encoding in (("", "utf-16-le"), ("\ufeff", "utf-16-le"), ("\ufeff", "utf-16-be")):
        path = write(tmp_path / "f.txt", f"{mark}a\tb\n1\t2\n".encode(encoding))
        assert detect_dialect(path, DialectOptions(encoding="utf-16")).encoding == encoding


def test_letters_deep_in_a_large_file_decide_its_encoding(tmp_path: Path) -> None:
    rows = [b"%d,plain\n" % n for n in range(400_000)]
    rows[300_000] = b"300000,caf\xe9\n"
    path = write(tmp_path / "f.csv", b"id,name\n" + b"".join(rows))
    assert detect_dialect(path, DialectOptions()).encoding in ("latin-1", "utf-8")  # sixteen parts may miss one line
    rows[200_000:300_000] = [b"%d,caf\xe9\n" % n for n in range(100_000)]
    assert detect_dialect(write(path, b"id,name\n" + b"".join(rows)), DialectOptions()).encoding == "latin-1"


def test_packed_files_are_looked_into(tmp_path: Path) -> None:
    import pyarrow as pa

    expected = detect_dialect(write(tmp_path / "f.csv", MOVIES), DialectOptions())
    write(tmp_path / "f.csv.gz", gzip.compress(MOVIES.encode()))
    write(tmp_path / "f.csv.bz2", bz2.compress(MOVIES.encode()))
    with pa.output_stream(str(tmp_path / "f.csv.zst"), compression="zstd") as out:
        out.write(MOVIES.encode())
    with zipfile.ZipFile(tmp_path / "f.zip", "w") as archive:
        archive.writestr("__MACOSX/._f.csv", b"\0")
        archive.writestr("f.csv", MOVIES)
    for name in ("f.csv.gz", "f.csv.bz2", "f.csv.zst", "f.zip"):
        assert detect_dialect(tmp_path / name, DialectOptions()) == expected


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("f.csv", b"", "is empty"),
        ("f.csv", b" \n\n", "is empty"),
        ("f.xlsx", b"PK\3\4\0\0\0", "Excel workbook: save it as CSV"),
        ("f.csv", b"a,b\n\0\1\2", "is no text"),
        ("f.txt", "a\tb\n1\t2\n".encode("utf-16-le"), "--encoding utf-16-le"),
        ("f.csv", gzip.compress(b"a,b\n1,2\n"), "does not end with .gz: rename it to f.gz"),
        ("f.csv.GZ", gzip.compress(b"a,b\n1,2\n"), "rename it to f.csv.gz"),
        ("f.csv.gz", b"a,b\n1,2\n", "it is not packed, though its name ends with .gz"),
        ("f.csv.zst", b"a,b\n1,2\n", "it is not packed, though its name ends with .zst"),
        (
            "f.tar.gz",
            gzip.compress(b"f.csv".ljust(257, b"\0") + b"ustar".ljust(255, b"\0")),
            "is a tar archive: unpack",
        ),
        ("f.xz", b"\xfd7zXZ\0...", "is packed with xz: unpack it"),
        ("f.csv", b"<!DOCTYPE html>\n<html>404</html>\n", "is a web page or XML"),
        ("f.csv", b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\n", "git lfs pull"),
        ("f.csv.gz", gzip.compress(b"a,b\n" * 10_000)[:50], "corrupt or cut off"),
        ("f.zip", b"PK nonsense", "corrupt or cut off"),
        ("f.json", b'[\n {"a": 1},\n {"a": 2}]', "not one object a line"),
        ("f.parquet", b"PAR1 nonsense", "corrupt or cut off"),
    ],
    # Not from the content: a gz has the time in it, and each process would have tests of its own.
    ids=lambda value: "content" if isinstance(value, bytes) else None,
)
def test_what_is_no_table_is_refused_in_one_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        detect_dialect(write(tmp_path / name, content), DialectOptions())
    assert "\n" not in str(error.value)


def test_a_zip_of_several_files_is_refused_by_their_names(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "f.zip", "w") as archive:
        archive.writestr("a.csv", MOVIES)
        archive.writestr("b.csv", MOVIES)
    with pytest.raises(UserError, match=r"2 files \(a.csv, b.csv\)"):
        detect_dialect(tmp_path / "f.zip", DialectOptions())


def test_json_lines_are_sampled_by_path(tmp_path: Path) -> None:
    lines = [{"user": {"id": 7}, "n": 1.5}, {"user": {"id": "8"}, "tags": ["a"]}]
    path = write(tmp_path / "f.jsonl", "\n".join(map(json.dumps, lines)))
    dialect = detect_dialect(path, DialectOptions())
    assert (dialect.kind, dialect.names) == ("json", ("user", "n", "tags"))
    assert sample_columns(path, dialect, ["user.id", "n"]) == {"user.id": ["7", "8"], "n": ["1.5"]}


def test_public_files_are_recognised(real_data: Path) -> None:
    layouts = {
        "ml-1m/movies.dat": ("latin-1", "::"),
        "book-crossing/BX-Users.csv.gz": ("latin-1", ";"),
        "book-crossing/BX-Book-Ratings.csv.gz": ("latin-1", ";"),
        "lastfm-hetrec/artists.dat.gz": ("utf-8", "\t"),
        "mind-news/news.tsv.gz": ("utf-8", "\t"),
        "online-retail/by-day/2010-12-01.csv": ("utf-8", ","),
        "frappe/meta.csv": ("utf-8", "\t"),
        "amazon-seq/bert4rec_beauty.txt.gz": ("utf-8", " "),
        "ctr-samples/diginetica_train-item-views-sample.csv": ("utf-8", ";"),
        "ctr-samples/avazu_sample.txt": ("utf-8", ","),
    }
    dialects = {name: detect_dialect(real_data / name, DialectOptions()) for name in layouts}
    assert {name: (one.encoding, one.separator) for name, one in dialects.items()} == layouts
    assert dialects["lastfm-hetrec/artists.dat.gz"].quote is None
    assert detect_encoding((real_data / "log-formats/common_encoding_big5.log").read_bytes()) == "big5"


def test_a_cell_of_megabytes_in_the_first_row_is_no_end_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "f.csv", 'a,b\n1,"' + "x, " * 500_000 + '"\n2,y\n')
    assert detect_dialect(path, DialectOptions(), ["a"]) == Dialect(header="a,b", names=("a", "b"))


def test_a_text_of_hundreds_of_lines_hides_no_header(tmp_path: Path) -> None:
    long = 'user_id,text\n1,"' + "a line, and more\n" * 300 + '"\n2,"stray\n3,x\n'
    expected = Dialect(header="user_id,text", names=("user_id", "text"))
    assert detect_dialect(write(tmp_path / "f.csv", long), DialectOptions(), ["user_id"]) == expected
