"""Model files that were damaged: refused in one line that names the file, before a library reads them."""

import subprocess
import sys
from pathlib import Path

import lightgbm as lgb
import numpy as np
import pytest

from conf import UserError
from conf.model_files import CHECKSUMS, verify_model_file, write_model_file
from recsys.coarse.model_text import read_trees

PREDICT = """
import sys, lightgbm as lgb, numpy as np
for path in sys.argv[1:]:
    try:
        lgb.Booster(model_file=path).predict(np.random.default_rng(0).normal(size=(50, 4)).round(1))
    except lgb.basic.LightGBMError:
        pass
"""


@pytest.fixture(scope="module")
def model_text() -> str:
    """Trees over three numbers and a category."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(2000, 4))
    x[:, 3] = rng.integers(0, 40, 2000)
    label = (rng.random(2000) < 1 / (1 + np.exp(-x[:, 0] - np.isin(x[:, 3], [1, 5, 8, 33])))).astype(float)
    parameters = {"objective": "binary", "num_leaves": 7, "verbosity": -1, "min_data_in_leaf": 5, "cat_smooth": 1}
    data = lgb.Dataset(x, label, categorical_feature=[3])
    return lgb.train(parameters, data, 8).model_to_string()


def mutants(text: str, number: int) -> list[str]:
    """The text cut off somewhere, or with five of its bytes changed, or with a line gone."""
    rng = np.random.default_rng(5)
    damaged = []
    for i in range(number):
        raw = bytearray(text.encode())
        if i % 3 == 0:
            raw = raw[: rng.integers(1, len(raw) - 300)]
        elif i % 3 == 1:
            for place in rng.integers(0, len(raw), 5):
                raw[place] = rng.choice(list(b"0123456789-. =\n"))
        else:
            lines = raw.split(b"\n")
            del lines[rng.integers(0, len(lines) - 60)]
            raw = bytearray(b"\n".join(lines))
        damaged.append(raw.decode())
    return damaged


def test_a_model_text_without_a_checksum_reaches_lightgbm_only_when_it_is_whole(
    model_text: str, tmp_path: Path
) -> None:
    """26 of 28 damaged texts ended the process by a signal, or never."""
    path = tmp_path / "model.txt"
    rows = np.random.default_rng(0).normal(size=(50, 4)).round(1)
    path.write_text(model_text)
    whole = lgb.Booster(model_str=read_trees(path)).predict(rows)
    np.testing.assert_array_equal(whole, lgb.Booster(model_str=model_text).predict(rows))
    single = lgb.train({"verbosity": -1, "objective": "binary"}, lgb.Dataset(np.zeros((9, 2)), [0, 1] * 4 + [1]), 2)
    path.write_text(single.model_to_string())  # trees without a split
    assert read_trees(path).endswith("end of trees\n")
    passed, messages = [], []
    for number, text in enumerate(mutants(model_text, 600)):
        path.write_text(text)
        try:
            passed.append(tmp_path / f"{number}.txt")
            passed[-1].write_text(read_trees(path))
        except UserError as error:
            passed.pop()
            messages.append(str(error))
    assert len(messages) > 500  # the others have another digit in a value, or less after the trees
    assert all(str(path) in message and "\n" not in message for message in messages)
    # In a process of its own, which a signal may end.
    done = subprocess.run([sys.executable, "-c", PREDICT, *map(str, passed)], capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_file_is_verified_by_its_checksum(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a.pt", "b.onnx"):
        write_model_file(tmp_path / name, b"some weights of " + name.encode())
        assert verify_model_file(tmp_path / name)
    subprocess.run(["sha256sum", "--check", "--strict", CHECKSUMS], cwd=tmp_path, check=True)
    write_model_file(tmp_path / "a.pt", "new weights")
    assert verify_model_file(tmp_path / "a.pt")
    (tmp_path / "a.pt").write_text("new weighty")
    with pytest.raises(UserError, match=r"a\.pt is corrupt: its checksum does not match"):
        verify_model_file(tmp_path / "a.pt")
    assert verify_model_file(tmp_path / "b.onnx")
    (tmp_path / "old.txt").write_text("by an older version")
    assert not verify_model_file(tmp_path / "old.txt")
    assert "old.txt has no checksum" in caplog.text
    with pytest.raises(UserError, match=r"gone\.pt is missing"):
        verify_model_file(tmp_path / "gone.pt")
