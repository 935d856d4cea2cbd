"""Formats from the `#Fields:` lines of W3C extended logs: IIS, CloudFront and others."""

from collections.abc import Sequence

from etl.weblog.formats.format import ISO_DATE, ISO_TIME, STATUS, W3C, LineFormat, Piece

# Cell -> fields that hold it, the best first.
W3C_FIELDS = {
    "addr": ("c-ip",),
    "user": ("cs-username",),
    "date": ("date", "date-local"),
    "time": ("time", "time-local"),
    "method": ("cs-method",),
    "url": ("cs-uri-stem", "cs-uri"),
    "query": ("cs-uri-query",),
    "code": ("sc-status", "c-status"),
    "size": ("sc-bytes",),
    "referer": ("cs(referer)", "cs(referrer)", "c-referrer"),
    "agent": ("cs(user-agent)", "c-user-agent"),
    "forwarded": ("x-forwarded-for", "cs(x-forwarded-for)", "s-xff"),
    "host": ("x-host-header", "cs-host", "cs(host)"),
}
FIELDS_LINE = "#Fields:"
_W3C_REQUIRED = ("addr", "date", "time", "url", "code")


def w3c_formats(header: str) -> tuple[LineFormat, LineFormat]:
    """Formats of the lines below a `#Fields:` line: with tabs, and with blanks, between the fields.

    Raises:
        ValueError: a field that every request needs is not among them.
    """
    names = header.removeprefix(FIELDS_LINE).split()
    lower = [name.lower() for name in names]
    field_of = {cell: next((name for name in options if name in lower), None) for cell, options in W3C_FIELDS.items()}
    missing = [W3C_FIELDS[cell][0] for cell in _W3C_REQUIRED if field_of[cell] is None]
    if missing:
        raise ValueError(f"its #Fields line has no {', '.join(missing)}")
    cell_of = {name: cell for cell, name in field_of.items() if name is not None}
    cells = [(name, cell_of.get(lowered)) for name, lowered in zip(names, lower, strict=True)]
    # Times are UTC's, but for those that say that they are local.
    constants = {"escaping": W3C, **({"zone": "+0000"} if field_of["date"] == "date" else {})}
    label = "cloudfront" if "x-edge-location" in lower else "iis" if "sc-win32-status" in lower else "w3c"
    by_tab, by_blank = (_w3c_pieces(cells, is_tab) for is_tab in (True, False))
    return LineFormat(label, by_tab, constants), LineFormat(label, by_blank, constants)


def _w3c_pieces(cells: Sequence[tuple[str, str | None]], is_tab: bool) -> tuple[Piece, ...]:
    pieces = []
    for index, (name, cell) in enumerate(cells):
        if index:
            pieces.append(Piece(r"\t" if is_tab else r"[ \t]++", (), "a tab" if is_tab else "a blank"))
        pieces.append(_w3c_piece(name, cell, is_tab))
    return tuple(pieces)


def _w3c_piece(name: str, cell: str | None, is_tab: bool) -> Piece:
    times = {"date": ISO_DATE, "time": ISO_TIME, "code": STATUS}
    if cell in times:
        anything = None if cell == "code" else r"[^\t]*+" if is_tab else r"\S++"
        return Piece(f'"?{times[cell]}"?', (cell,), name, anything)
    quoted, plain, separator = r'(?:[^"]|"")*+', r"[^\t]*+" if is_tab else r"\S++", r"\t\r" if is_tab else r"\s"
    # Atomic: else each field of a line that does not match would be tried in both ways, and all ways together.
    if cell is None:
        return Piece(f'(?>"{quoted}"(?![^{separator}])|{plain})', (), name)
    return Piece(f'(?>"({quoted})"(?![^{separator}])|({plain}))', (cell, cell), name)
