"""The promoted list of one user, from its run folder, without Spark: `millrace recsys recommend u42`."""

import logging
from datetime import date
from pathlib import Path
from typing import Any

import duckdb

from conf import Config, Paths, UserError
from conf.runs import PROMOTED, RECOMMENDATIONS, UNKNOWN_USER, read_json, run_folder

log = logging.getLogger(__name__)


def recommend(config: Config, user: str, day: date | None = None) -> list[dict[str, Any]]:
    """Look up the list of a user on the newest promoted day, or on `day`.

    A user who was not in dim_user on that day gets what is hot, then what is new, without a score.

    Returns:
        Rows of ads_recommendation by rank: user_id, rank, item_id, score and channels.

    Raises:
        UserError: no lists were promoted (for the day), or there is neither a list for the user nor an item.
    """
    folder = config.get(Paths).runs
    promoted = sorted((folder / PROMOTED).glob(f"{day or '*'}.json"))
    if not promoted:
        raise UserError(
            f"no promoted lists for {day}: run `millrace run --date {day}`, or leave out --date for the newest"
            if day
            else "no promoted lists: run `millrace run --date DAY` first"
        )
    run = run_folder(folder, read_json(promoted[-1], "recommend")["recommend"])
    # The filter skips row groups: the file is sorted by user.
    if rows := _rows(run / RECOMMENDATIONS, "where user_id = ? order by rank", user):
        log.info("ranks follow recommend.order, diversity and freshness; score is the FM's click probability alone")
        return rows
    log.info("user '%s' was not in dim_user on %s: what is hot, then what is new, unscored", user, promoted[-1].stem)
    items = _rows(run / UNKNOWN_USER) if (run / UNKNOWN_USER).exists() else []
    if not items:
        raise UserError(f"no list for user '{user}' on {promoted[-1].stem}: not in dim_user, and no item is hot or new")
    return [{"user_id": user, "rank": rank, "score": None, **item} for rank, item in enumerate(items, start=1)]


def _rows(file: Path, condition: str = "", *values: str) -> list[dict[str, Any]]:
    """Rows of a Parquet file. By DuckDB, whose import takes a fifth of pyarrow's, which is most of the command."""
    result = duckdb.execute(f"select * from read_parquet(?) {condition}", [str(file), *values])
    names = [column[0] for column in result.description or ()]
    return [dict(zip(names, row, strict=True)) for row in result.fetchall()]
