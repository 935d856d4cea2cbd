"""Logging to stderr: coloured on a terminal, plain lines elsewhere."""

import logging
import sys

QUIET = ("py4j", "urllib3", "numba", "petastorm", "fsspec", "matplotlib")


def set_up_logging(*, debug: bool = False) -> None:
    """Called once by the front door; libraries and jobs only ask for their logger."""
    level = logging.DEBUG if debug else logging.INFO
    handler: logging.Handler
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.logging import RichHandler

        handler = RichHandler(console=Console(stderr=True), show_path=False, log_time_format="%H:%M:%S")
    else:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s", "%H:%M:%S"))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
