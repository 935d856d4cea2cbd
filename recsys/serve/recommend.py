"""The promoted list of one user, from its run folder, without Spark: `millrace recsys recommend u42`."""

import json
from datetime import date
from typing import Any

import pyarrow.parquet as pq

from conf import Config, Paths, UserError
from conf.runs import PROMOTED, RECOMMENDATIONS


def recommend(config: Config, user: str, day: date | None = None) -> list[dict[str, Any]]:
    """Look up the list of a user on the newest promoted day, or on `day`.

    Returns:
        Rows of ads_recommendation by rank: user_id, rank, item_id, score and channels.

    Raises:
        UserError: no lists were promoted (for the day), or there is none for the user.
    """
    folder = config.get(Paths).runs
    promoted = sorted((folder / PROMOTED).glob(f"{day or '*'}.json"))
    if not promoted:
        raise UserError(
            f"no promoted lists for {day}: run `millrace run --date {day}`, or leave out --date for the newest"
            if day
            else "no promoted lists: run `millrace run --date DAY` first"
        )
    run_id = json.loads(promoted[-1].read_text())["recommend"]
    # The filter skips row groups: the file is sorted by user.
    rows = pq.read_table(folder / run_id / RECOMMENDATIONS, filters=[("user_id", "=", user)]).to_pylist()
    if not rows:
        raise UserError(f"no list for user '{user}' on {promoted[-1].stem}: not in dim_user on that day")
    return sorted(rows, key=lambda row: int(row["rank"]))
