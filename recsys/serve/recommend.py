"""The promoted list of one user, from its run folder, without Spark: `millrace recsys recommend u42`."""

import json
from datetime import date
from typing import Any

import pyarrow.parquet as pq

from conf import Config, Paths, UserError
from conf.runs import PROMOTED, RECOMMENDATIONS


def recommend(config: Config, user: str, day: date | None = None) -> list[dict[str, Any]]:
    """Rows of ads_recommendation of the newest promoted day (or of `day`). Raises UserError for an unknown user."""
    folder = config.get(Paths).runs
    promoted = sorted((folder / PROMOTED).glob(f"{day or '*'}.json"))
    if not promoted:
        raise UserError(f"no promoted lists{f' for {day}' if day else ''}: run `millrace run --date …` first")
    run_id = json.loads(promoted[-1].read_text())["recommend"]
    rows = pq.read_table(folder / run_id / RECOMMENDATIONS, filters=[("user_id", "=", user)]).to_pylist()
    if not rows:
        raise UserError(f"no list for user '{user}' on {promoted[-1].stem}: not in dim_user on that day")
    return sorted(rows, key=lambda row: int(row["rank"]))
