"""Answers of an FAQ: tokens, BM25 by hand, bad files, and words of answers that only the pairs connect with questions."""

import math
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from conf import Config, Paths, UserError, load
from conf.runs import PREDICTIONS, read_jsonl, run_folder
from recsys.answers.channels import bm25, fit_channels, similar
from recsys.answers.evaluate import hold_out, rank_metrics, with_intervals
from recsys.answers.faq import Faq, read_faq
from recsys.answers.job import ask, run
from recsys.answers.settings import AnswersSettings
from recsys.answers.tokens import tokens

TOPICS = {
    "退款": "refund", "登录": "password", "地图": "route", "声音": "volume", "字体": "glyph", "网络": "socket",
    "支付": "invoice", "动画": "sprite", "缓存": "expiry", "编译": "linker", "图片": "pixel", "碰撞": "hitbox",
}  # fmt: skip


def make_faq(questions: list[str], answers: list[str]) -> Faq:
    distinct = tuple(dict.fromkeys(answers))
    return Faq(tuple(questions), distinct, np.array([distinct.index(answer) for answer in answers]))


def write_faq(path: Path) -> Path:
    """A pair for each two topics; questions and answers have not one word in common."""
    rows = [(f"{a}{b}怎么办？", f"see {TOPICS[a]}, then {TOPICS[b]}") for a, b in combinations(TOPICS, 2)]
    pd.DataFrame(rows, columns=["question", "answer"]).to_csv(path, index=False)
    return path


def config_in(folder: Path, *overrides: str) -> Config:
    fast = ("answers.epochs=2", "answers.folds=2", "answers.dim=16")
    return load(overrides=[f"paths.home={folder}", *fast, *overrides], environment={})


def test_han_characters_are_tokens_alone_and_in_pairs_and_words_whole_and_in_parts():
    assert tokens("新手引导 v2") == ["新", "手", "引", "导", "新手", "手引", "引导", "v2"]
    assert tokens("Ｊｓｏｎ!") == ["json", "#jso", "#son"]
    assert tokens("ログ_in") == ["ロ", "グ", "ログ", "in"]
    assert tokens("？… ___") == []


def test_bm25_by_hand():
    faq = make_faq(["xx aa", "bb"], ["aa bb", "aa", "cc cc"])
    scores = bm25.fit(faq, AnswersSettings(k1=1.5, b=0.75)).score(["aa aa cc", "zz"])
    idf_aa, idf_cc = math.log1p((3 - 2 + 0.5) / 2.5), math.log1p((3 - 1 + 0.5) / 1.5)
    norm = [1.5 * (0.25 + 0.75 * length / (5 / 3)) for length in (2, 1, 2)]
    expected = [idf_aa * 2.5 / (1 + norm[0]), idf_aa * 2.5 / (1 + norm[1]), idf_cc * 2 * 2.5 / (2 + norm[2])]
    assert scores[0] == pytest.approx(expected, rel=1e-6)
    assert scores[1].tolist() == [0, 0, 0]


def test_similar_judges_an_answer_by_the_questions_of_others():
    faq = make_faq(["red apple", "green pear"], ["fruit shop red", "fruit market"])
    by_others = similar.fit_similar(faq, AnswersSettings()).score(["red apple"])[0]
    by_own = similar.fit_known(faq, AnswersSettings()).score(["red apple"])[0]
    assert by_own[0] == pytest.approx(0.5)  # k = 1 with its own question, over 1 + λ
    assert by_own[1] == pytest.approx(0)
    assert by_others[0] == pytest.approx(0, abs=1e-6)
    assert by_others[1] > 0.05  # like the answer of the question that was asked


def test_metrics_of_ranks():
    values = {name: list(each) for name, each in rank_metrics(np.array([1.0, 1.5, 3.0, 4.0])).items()}
    assert values == {"top_1": [1, 0, 0, 0], "top_3": [1, 1, 1, 0], "mrr": pytest.approx([1, 2 / 3, 1 / 3, 1 / 4])}
    mean, low, high = with_intervals(np.arange(4), np.array([1.0, 2.0, np.nan, 1.0]))["top_1"]
    assert mean == pytest.approx(2 / 3)
    assert low <= mean <= high


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("question,reply\na,b\n", "no column answer, but question, reply"),
        ("question,answer\na,b\nc,d\n", "2 questions with an answer; at least 10"),
        ("question,answer\n" + "".join(f"q{number},yes\n" for number in range(12)), "one answer to all"),
    ],
)
def test_a_file_without_an_faq_is_refused(tmp_path: Path, text: str, message: str):
    path = tmp_path / "faq.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_faq(path)


def test_rows_that_are_no_pair_are_quarantined_with_their_line(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    good = [f"question number {number},answer {number % 5}" for number in range(10)]
    bad = ["Question NUMBER 3?,another", "what,", ",nothing asked", "what,now it has one"]
    path = tmp_path / "faq.csv"
    path.write_text("\n".join(["question,answer", *good, *bad]), encoding="utf-8")
    faq, refused = read_faq(path)
    assert [(row.line_number, row.reason) for row in refused] == [
        (12, "duplicate_question"), (13, "empty_answer"), (14, "empty_question"),
    ]  # fmt: skip
    assert len(faq.questions) == 11
    assert len(faq.answers) == 6
    assert "3 rows are quarantined: 1 duplicate_question, 1 empty_answer, 1 empty_question" in caplog.text


def test_pairs_teach_which_answers_belong_to_words_they_do_not_have(tmp_path: Path):
    config, file = config_in(tmp_path), write_faq(tmp_path / "faq.csv")
    questions = tmp_path / "new.csv"
    questions.write_text("question\n声音 和 地图 怎么办\n", encoding="utf-8")
    report = run(config, pd.Timestamp("2031-03-01").date(), file, questions)
    assert (report["rows_in"], report["rows_quarantined"], report["rows_out"]) == (66, 0, 10)
    assert report["answers_mrr"] > 3 * report["bm25_mrr"]
    folder = run_folder(config.get(Paths).runs, report["run_id"])
    gains = {(row["metric"], row["k"]): row["value"] for row in read_jsonl(folder / "metrics.jsonl")}
    assert gains["mrr_gain_low", None] > 0
    assert gains["hit_rate_gain", 3] > 0
    lists = pd.read_parquet(folder / PREDICTIONS)
    assert list(lists.columns) == ["key", "answer", "score"]
    assert lists["score"].is_monotonic_decreasing
    asked = ask(config, "声音 和 地图 怎么办")
    assert [row["answer"] for row in asked] == lists["answer"].tolist()
    assert [row["score"] for row in asked] == pytest.approx(lists["score"].tolist(), rel=1e-5)
    assert not any("bm25" in row["channels"] for row in asked)  # not a word in common: it proposes nothing
    first = ask(config, "退款登录怎么办!")[0]
    assert (first["answer"], first["channels"].split("+")[0]) == ("see refund, then password", "known question")


def test_texts_without_a_word_in_common_rank_answers_alike():
    words = [letter * 5 for letter in "abcdefghijklmnopqrst"]
    measured = hold_out(make_faq(words[:10], words[10:]), AnswersSettings(epochs=1, dim=4))
    assert all((ranks == 5.5).all() for name, ranks in measured.ranks.items() if name != "network")
    assert sum(measured.weights.values()) == pytest.approx(1)


def test_what_can_not_be_asked_is_refused(tmp_path: Path):
    config = config_in(tmp_path)
    with pytest.raises(UserError, match="no answers were ranked"):
        ask(config, "声音")
    with pytest.raises(UserError, match="has no words"):
        ask(config, "？？")
    with pytest.raises(UserError, match="unknown channel 'bm52'; choose from bm25"):
        fit_channels(make_faq(["a"], ["b"]), AnswersSettings(channels=("bm52",)))


@pytest.mark.parametrize("encoder", ["text_gru", "text_lstm"])
def test_recurrent_networks_read_pairs_too(encoder: str):
    words = [f"w{number}" for number in range(12)]
    faq = make_faq([f"{word} how" for word in words], [f"{word} so" for word in words])
    settings = AnswersSettings(channels=("network",), encoder=encoder, epochs=30, dim=16, word_dropout=0)
    scores = fit_channels(faq, settings)["network"].score(faq.questions)
    assert (scores.argmax(axis=1) == np.arange(12)).mean() > 0.8
