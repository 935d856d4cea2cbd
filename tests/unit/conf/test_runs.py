import json
from datetime import date
from pathlib import Path

import pytest

from conf import Config, UserError, load
from conf.runs import finished_runs, newest_run, promotion_status, read_jsonl, start_run, unfinished_run
from conf.versions import current_version, publish_version
from recsys.registry.runs import describe_run, rollback
from recsys.serve.recommend import recommend

DAY = date(2026, 1, 7)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return load(overrides=[f"paths.home={tmp_path}"], environment={})


def test_only_a_run_that_ended_well_is_read(config: Config, tmp_path: Path) -> None:
    with start_run(config, "fm", DAY) as good:
        good.log_metric("fine", "valid", "auc", 0.7, 10)
    with pytest.raises(RuntimeError), start_run(config, "fm", DAY) as broken:
        broken.log_metric("fine", "valid", "auc", 0.9, 10)
        raise RuntimeError
    assert [run["run_id"] for run in finished_runs(tmp_path / "runs")] == [good.run_id]
    assert newest_run(config, "fm", DAY) == good.folder
    assert read_jsonl(good.folder / "metrics.jsonl")[0]["value"] == 0.7


def test_an_unfinished_run_can_be_resumed_and_a_finished_one_not(config: Config) -> None:
    with pytest.raises(RuntimeError), start_run(config, "deepfm", DAY) as broken:
        raise RuntimeError
    assert unfinished_run(config, "deepfm", DAY) == broken.folder
    with start_run(config, "deepfm", DAY, resumed=broken.folder) as again:
        assert again.run_id == broken.run_id
    assert unfinished_run(config, "deepfm", DAY) is None


def test_settings_are_saved_with_the_run(config: Config) -> None:
    with start_run(config, "fm", DAY) as run:
        pass
    assert "alpha: 0.05" in (run.folder / "settings.yaml").read_text()


def test_a_version_that_fails_leaves_the_one_before(tmp_path: Path) -> None:
    folder = tmp_path / "examples"
    with publish_version(folder, {"n": 1}) as first:
        (first / "data").write_text("one")
    with pytest.raises(RuntimeError), publish_version(folder, {"n": 2}) as second:
        (second / "data").write_text("half")
        raise RuntimeError
    found, about = current_version(folder, command="x")
    assert (found, about["n"]) == (first, 1)
    assert not second.exists()


def test_a_reader_of_the_last_version_can_finish(tmp_path: Path) -> None:
    versions = []
    for i in range(4):
        with publish_version(tmp_path, {"n": i}) as version:
            versions.append(version)
    assert [version.exists() for version in versions] == [False, False, True, True]
    assert json.loads((tmp_path / "current.json").read_text())["n"] == 3


def test_nothing_published_names_the_command_to_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="run `millrace features build` first"):
        current_version(tmp_path / "none", command="millrace features build")


@pytest.mark.parametrize("content", [b"", b'{"run_id": "x"', b"[1]", b'{"run_id": "x"}', b"\xff\xfe"])
def test_a_damaged_run_is_named_and_hides_no_other(
    config: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    with start_run(config, "fm", DAY) as good:
        pass
    with start_run(config, "fm", DAY) as bad:
        pass
    (bad.folder / "run.json").write_bytes(content)
    (bad.folder / "started.json").write_bytes(content)
    with caplog.at_level("WARNING"):
        assert [run["run_id"] for run in finished_runs(tmp_path / "runs")] == [good.run_id]
        assert unfinished_run(config, "fm", DAY) is None
    assert f"{bad.folder}/run.json is damaged (" in caplog.text
    assert f"{bad.folder}/started.json is damaged (" in caplog.text
    with pytest.raises(UserError, match=r"run\.json is damaged"):
        describe_run(config, bad.run_id)


def test_a_damaged_promotion_is_named_and_hides_no_other(
    config: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    promoted = tmp_path / "runs/promoted"
    promoted.mkdir(parents=True)
    (promoted / "2026-01-06.json").write_text('{"fm": "fm-1", "recommend": "recommend-1"}')
    (promoted / "2026-01-07.json").write_text('{"fm": "fm-2", "recomm')
    with caplog.at_level("WARNING"):
        assert promotion_status(tmp_path / "runs") == {"fm-1": "champion", "recommend-1": "champion"}
    assert f"{promoted}/2026-01-07.json is damaged (" in caplog.text
    with pytest.raises(UserError, match=r"2026-01-07\.json is damaged"):
        rollback(config, DAY)
    with pytest.raises(UserError, match=r"2026-01-07\.json is damaged"):
        recommend(config, "u1", DAY)


def test_a_damaged_line_of_metrics_is_named(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"a": 1}\n{"a": 2\n')
    with pytest.raises(UserError, match=r"line 2 of .*/metrics\.jsonl is damaged"):
        read_jsonl(tmp_path / "metrics.jsonl")
    (tmp_path / "metrics.jsonl").write_text('{"a": "\u2028"}\n')
    assert read_jsonl(tmp_path / "metrics.jsonl") == [{"a": "\u2028"}]


def test_a_damaged_pointer_names_its_file_and_is_replaced_by_the_next_version(tmp_path: Path) -> None:
    with publish_version(tmp_path, {"n": 1}):
        pass
    (tmp_path / "current.json").write_text('{"version": "v-')
    with pytest.raises(UserError, match=r"current\.json is damaged"):
        current_version(tmp_path, command="x")
    with publish_version(tmp_path, {"n": 2}):
        pass
    assert current_version(tmp_path, command="x")[1]["n"] == 2
