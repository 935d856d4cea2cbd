"""Logging to stderr: coloured on a terminal, plain lines elsewhere."""

import logging
import sys

OURS = ("conf", "etl", "features", "training", "recsys", "tuning", "dags", "benchmarks")


def set_up_logging(*, debug: bool = False) -> None:
    """Called once by the front door; jobs only ask for their logger. Libraries are heard when something is wrong."""
    handler: logging.Handler
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.logging import RichHandler

        handler = RichHandler(console=Console(stderr=True), show_path=False, log_time_format="%H:%M:%S")
    else:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s", "%H:%M:%S"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for name in OURS:
        logging.getLogger(name).setLevel(logging.DEBUG if debug else logging.INFO)
