"""Draft the declaration of a site: look at the files, guess, write a Python file that can be loaded."""

import logging
from collections.abc import Sequence
from pathlib import Path

from conf import UserError
from conf.site import SiteError, load_site
from etl.site.draft import drafted, site_text
from etl.site.roles import assign_roles
from etl.site.tables import read_tables

log = logging.getLogger(__name__)


def run(paths: Sequence[str], out: Path, *, replaces: bool = False) -> dict[str, object]:
    """Look at files and write a declaration.

    Args:
        paths: files, folders and patterns.
        out: the file to write.
        replaces: whether a file that is there is written over.

    Returns:
        `file`, `rows` of all tables, what each table is (`tables`), and `faults`, what the declaration still lacks.

    Raises:
        UserError: there is such a file, or no table among the paths.
    """
    shown, out = out, out.absolute()
    if out.exists() and not replaces:
        raise UserError(f"{out} exists: --force writes over it, --out names another file")
    if not out.parent.is_dir():
        raise UserError(f"no such folder: {out.parent}")
    tables, left_out = read_tables(paths, out.parent)
    if not tables:
        reason = f"; {left_out[0].path.name}: {left_out[0].reason}" if left_out else ""
        raise UserError(f"no table among {len(left_out)} files{reason}")
    draft = drafted(_folder_name(paths[0]), assign_roles(tables))
    out.write_text(site_text(draft, left_out), encoding="utf-8")
    load_site.cache_clear()
    faults: list[str] = []
    try:
        load_site(out)
    except SiteError as error:
        faults = [str(fault) for fault in error.faults]
        for fault in faults:
            log.warning("to be completed: %s", fault)
    log.info("wrote %s; next: millrace check --site %s", shown, shown)
    parts = {one.table.pattern: f"action {one.name}" for one in draft.actions}
    parts |= {one.table.pattern: "impressions" for one in draft.impressions}
    for name, part in (("items", draft.items), ("users", draft.users)):
        if part is not None:
            parts[part.table.pattern] = name
    roles = {table.pattern: parts.get(table.pattern, "none") for table in tables}
    return {"file": str(out), "rows": sum(table.num_rows for table in tables), "tables": roles, "faults": faults}


def _folder_name(path: str) -> str:
    """The name of the folder that a path is, or of that it is in."""
    folder = Path(path).absolute()
    return folder.name if folder.is_dir() else folder.parent.name
