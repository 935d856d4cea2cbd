"""Days that are added to a generated site, with the lists that Millrace published before them."""

import hashlib
import json
import shutil
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession
from support import run_front_door

from conf import Config, Paths, UserError, load
from conf.runs import PROMOTED, RECOMMENDATIONS
from dags.loop import day_row
from etl.events import job as events
from etl.simulator import simulate, traffic
from etl.simulator.published import EXPERIMENT, PublishedPolicy, assign
from recsys.experiment.read import ReadOptions, read_served

DAYS = [date(2033, 5, 1), date(2033, 5, 2), date(2033, 5, 3)]
POLICY = PublishedPolicy(share=0.5, explore=0.1)
BEST = [f"i{number}" for number in range(10)]


def files_of(home: Path, *names: str) -> dict[str, str]:
    """SHA-256 of each file below the folders; the truth by its rows, for Parquet names its version."""
    return {
        str(path.relative_to(home)): hashlib.sha256(
            str(pq.read_table(path).to_pydict()).encode() if path.suffix == ".parquet" else path.read_bytes()
        ).hexdigest()
        for name in names
        for path in sorted((home / name).rglob("*"))
        if path.is_file()
    }


def config_of(home: Path) -> Config:
    overrides = [f"paths.home={home}", f"simulator.start={DAYS[0]}", "simulator.users=200", "simulator.items=60"]
    return load(overrides=[*overrides, "simulator.requests_per_day=600"], environment={})


def publish(home: Path, day: date) -> None:
    """The same list for everybody, as the promoted run of a day has it."""
    folder = home / "runs" / "recommend-a"
    folder.mkdir(parents=True)
    rows = [(f"u{user}", rank, item) for user in range(200) for rank, item in enumerate(BEST, 1)]
    users, ranks, items = (list(column) for column in zip(*rows, strict=True))
    pq.write_table(pa.table({"user_id": users, "rank": ranks, "item_id": items}), folder / RECOMMENDATIONS)
    (home / "runs" / PROMOTED).mkdir()
    (home / "runs" / PROMOTED / f"{day}.json").write_text(json.dumps({"recommend": folder.name}))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site of one day with lists published on it, and then two days more."""
    home = tmp_path_factory.mktemp("loop") / "home"
    simulate.run(config_of(home), days=1, scale=1, seed=3)
    publish(home, DAYS[0])
    before = files_of(home, "landing", "truth", "business")
    assert simulate.append(config_of(home), days=2, policy=POLICY)["lists_of"] == str(DAYS[0])
    after = files_of(home, "landing", "truth", "business")
    assert {name: after.get(name) for name in before} == before
    assert not (home / simulate.STAGED).exists()
    return home


def test_a_second_day_shows_published_lists_to_their_arm(home: Path) -> None:
    assigned = assign(200, POLICY.share)
    lists: dict[str, dict[int, str]] = {}
    propensities = []
    for line in (home / f"landing/events/dt={DAYS[1]}/events-0000.jsonl").read_text().splitlines():
        if '"type":"impression"' in line:
            event = json.loads(line)
            if assigned[int(event["user_id"][1:])]:
                lists.setdefault(event["request_id"], {})[event["position"]] = event["item_id"]
                propensities.append(event["propensity"])
    shown = [item == BEST[place - 1] for items in lists.values() for place, item in items.items()]
    assert len(lists) > 200
    assert 0.87 < sum(shown) / len(shown) < 0.94
    # Nine of ten places have their own item; the others have any of the 50 to 60 that exist, a little less the lower.
    assert 0.87 < sum(value > 0.85 for value in propensities) / len(propensities) < 0.94
    assert min(propensities) > 0.1 / 70
    served = (home / f"landing/served/dt={DAYS[1]}/simulated-0000.jsonl").read_text().splitlines()
    arms = {(row["user_id"], row["experiment"]["arm"]) for row in map(json.loads, served)}
    assert arms == {(user, "published" if assigned[int(user[1:])] else "site") for user, _ in arms}
    assert len(served) == 600


def test_days_added_one_by_one_or_at_once_are_those_of_one_simulation(home: Path, tmp_path: Path) -> None:
    config = config_of(tmp_path / "again")
    simulate.run(config, days=1, scale=1, seed=3)
    publish(tmp_path / "again", DAYS[0])
    for _ in range(2):
        simulate.append(config, days=1, policy=POLICY)
    parts = ("landing", "truth")
    assert files_of(tmp_path / "again", *parts) == files_of(home, *parts)
    config = config_of(tmp_path / "site")
    simulate.run(config, days=2, scale=1, seed=3)
    whole = files_of(tmp_path / "site", *parts)
    simulate.run(config, days=1, scale=1, seed=3)
    simulate.append(config, days=1)
    assert files_of(tmp_path / "site", *parts) == whole


def test_days_that_fail_leave_nothing_and_what_a_kill_left_is_replaced(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "home"
    shutil.copytree(home, copy)
    before = files_of(copy, "landing", "truth")

    def fails(*_: object) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patched:
        patched.setattr(traffic, "_generate_block", fails)
        with pytest.raises(OSError, match="no space left"):
            simulate.append(config_of(copy), days=1)
    assert files_of(copy, "landing", "truth") == before
    # As if a kill had come before the truth of the last day, when other lists were shown.
    shutil.rmtree(copy / f"truth/dt={DAYS[2]}")
    simulate.append(config_of(copy), days=1, policy=PublishedPolicy(share=1, explore=0))
    assert files_of(copy, "landing", "truth") != before
    shutil.rmtree(copy / f"truth/dt={DAYS[2]}")
    for extra in (f"events/dt=2033-05-04/late-{DAYS[2]}-0009.jsonl", f"served/dt={DAYS[2]}/simulated-0009.jsonl"):
        (copy / "landing" / extra).write_text("{}\n")
    simulate.append(config_of(copy), days=1, policy=POLICY)
    assert files_of(copy, "landing", "truth") == before


def test_the_arms_are_read_as_an_experiment_and_compared_by_the_loop(
    spark: SparkSession, config: Config, home: Path
) -> None:
    zone = config.get(Paths).root / "landing"
    for kind in ("events", "served"):
        for folder in (home / "landing" / kind).glob("dt=*"):
            shutil.copytree(folder, zone / kind / folder.name, dirs_exist_ok=True)
    events.run(spark, config, DAYS[:2])
    result = read_served(spark, config, EXPERIMENT, DAYS[1], 1, ReadOptions(control="site"))
    assert set(result["arms"]) == {"published", "site"}
    assert result["sample_ratio_p"] > 0.001
    rates = next(row for row in result["metrics"] if row["metric"] == "click_rate")
    row = day_row(spark, config_of(home), DAYS[1])
    # The experiment takes out what the clicks of the day before explain.
    assert row["click_rate"] == pytest.approx(rates["value_arm"], rel=0.02)
    assert row["site_click_rate"] == pytest.approx(rates["value_control"], rel=0.02)
    assert row["ratio_low"] < row["ratio"] < row["ratio_high"]
    assert row["ratio_low"] < row["true_ratio"] < row["ratio_high"]
    assert row["gini"] > row["site_gini"]  # the same ten items for everybody
    assert row["coverage"] == 1.0
    first = day_row(spark, config_of(home), DAYS[0])
    assert (first["click_rate"], first["ratio"], first["ratio_low"]) == (None, None, None)
    assert first["site_click_rate"] > 0


def test_a_home_without_days_can_not_be_gone_on_with(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no simulated days to go on from: run `millrace simulate` without"):
        simulate.append(config_of(tmp_path), days=1)


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ("--policy published --share 1.5", 1, "--share 1.5: write a share from 0 to 1"),
        ("--policy published --explore -0.1", 1, "--explore -0.1: write a share from 0 to 1"),
        ("--explore 0.1", 2, "--explore is of --policy published"),
        ("--append --seed 3", 2, "--append goes on with the site that is there: leave out --scale and --seed"),
        ("--policy other", 2, "unknown policy 'other'; choose from site, published"),
    ],
)
def test_a_wrong_option_is_a_line(tmp_path: Path, options: str, code: int, message: str) -> None:
    status, _, stderr = run_front_door("simulate", *options.split(), home=tmp_path)
    assert (status, stderr) == (code, f"millrace: {message}\n")
