"""SQL of an export in each dialect: a staging table like the target, then one transaction from it."""

from collections.abc import Sequence

LEDGER = "millrace_export"
# MariaDB's and MySQL's timestamp has a shorter range, until 2038 in most releases.
_TIME_TYPES = {"mariadb": "datetime", "mysql": "datetime"}


def create_ledger(kind: str) -> str:
    """DDL of the target database's own ledger of exports: one row per run, written in the run's transaction.

    Args:
        kind: the dialect, such as postgresql.
    """
    time_type = _TIME_TYPES.get(kind, "timestamp")
    # The key also stops two processes that export the same run at once: the second one's transaction fails.
    return (
        f"create table {LEDGER} (run_id varchar(200) not null primary key, num_rows bigint not null, "
        f"exported_at {time_type} default current_timestamp)"
    )


def create_staging(kind: str, staging: str, target: str, columns: Sequence[str]) -> str:
    """DDL of an empty staging table with the target's own types.

    A value that doesn't fit so fails before the target is touched.

    Args:
        kind: the dialect.
        staging: the table to create.
        target: the table whose types it has.
        columns: quoted names.
    """
    query = f"select {', '.join(columns)} from {target}"
    if kind == "derby":
        return f"create table {staging} as {query} with no data"
    return f"create table {staging} as {query} where 1 = 0"


def append(staging: str, target: str, columns: Sequence[str]) -> str:
    """Insert all rows of the staging table into the target; `columns` are quoted names."""
    names = ", ".join(columns)
    return f"insert into {target} ({names}) select {names} from {staging}"


def upsert(kind: str, staging: str, target: str, columns: Sequence[str], key: Sequence[str]) -> str:
    """Insert the staging table's rows with new keys into the target, and update those whose key it has.

    Args:
        kind: the dialect.
        staging: the table that rows come from.
        target: the table that they go to.
        columns: quoted names.
        key: quoted names of columns with a unique constraint.
    """
    others = [name for name in columns if name not in key]
    if kind == "derby":
        return _merge(staging, target, columns, key, others)
    insert = append(staging, target, columns)
    if kind in ("mariadb", "mysql"):
        # There is no `do nothing`: without other columns the key is set to itself.
        assignments = ", ".join(f"{name} = values({name})" for name in others or key)
        return f"{insert} on duplicate key update {assignments}"
    assignments = ", ".join(f"{name} = excluded.{name}" for name in others)
    return f"{insert} on conflict ({', '.join(key)}) do {f'update set {assignments}' if others else 'nothing'}"


def _merge(staging: str, target: str, columns: Sequence[str], key: Sequence[str], others: Sequence[str]) -> str:
    same_key = " and ".join(f"t.{name} = s.{name}" for name in key)
    update = f"when matched then update set {', '.join(f'{n} = s.{n}' for n in others)} " if others else ""
    values = ", ".join(f"s.{name}" for name in columns)
    return (
        f"merge into {target} t using {staging} s on {same_key} {update}"
        f"when not matched then insert ({', '.join(columns)}) values ({values})"
    )
