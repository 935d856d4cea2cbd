"""Statements of an export: a staging table like the target, then one transaction from it, in each dialect."""

from collections.abc import Sequence

LEDGER = "millrace_export"
_TIME = {"mariadb": "datetime", "mysql": "datetime"}


def create_ledger(kind: str) -> str:
    """The target database's own note of the exports that it holds, written in the transaction of each."""
    return (
        f"create table {LEDGER} (run_id varchar(200) not null primary key, num_rows bigint not null, "
        f"exported_at {_TIME.get(kind, 'timestamp')} default current_timestamp)"
    )


def create_staging(kind: str, staging: str, target: str, columns: Sequence[str]) -> str:
    """A table with the target's own types, so that a value which does not fit fails before the target is touched."""
    query = f"select {', '.join(columns)} from {target}"
    if kind == "derby":
        return f"create table {staging} as {query} with no data"
    return f"create table {staging} as {query} where 1 = 0"


def append(staging: str, target: str, columns: Sequence[str]) -> str:
    names = ", ".join(columns)
    return f"insert into {target} ({names}) select {names} from {staging}"


def upsert(kind: str, staging: str, target: str, columns: Sequence[str], key: Sequence[str]) -> str:
    """Insert new keys, update known ones."""
    others = [name for name in columns if name not in key]
    if kind == "derby":
        return _merge(staging, target, columns, key, others)
    insert = append(staging, target, columns)
    if kind in ("mariadb", "mysql"):
        changes = ", ".join(f"{name} = values({name})" for name in others or key)
        return f"{insert} on duplicate key update {changes}"
    changes = ", ".join(f"{name} = excluded.{name}" for name in others)
    return f"{insert} on conflict ({', '.join(key)}) do {f'update set {changes}' if others else 'nothing'}"


def _merge(staging: str, target: str, columns: Sequence[str], key: Sequence[str], others: Sequence[str]) -> str:
    same = " and ".join(f"t.{name} = s.{name}" for name in key)
    update = f"when matched then update set {', '.join(f'{n} = s.{n}' for n in others)} " if others else ""
    values = ", ".join(f"s.{name}" for name in columns)
    return (
        f"merge into {target} t using {staging} s on {same} {update}"
        f"when not matched then insert ({', '.join(columns)}) values ({values})"
    )
