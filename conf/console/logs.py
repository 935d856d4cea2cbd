"""Logging to stderr: coloured on a terminal, plain lines elsewhere."""

import logging
import sys

from conf.code import PACKAGES
from conf.console.terminal import PrintableFormatter

# The root loggers of our modules; `millrace.py` itself logs nothing.
LOGGERS = (*PACKAGES, "benchmarks")


def set_up_logging(*, debug: bool = False) -> None:
    """Configure the root logger once, from the front door; jobs only ask for their own logger.

    Millrace's packages log from INFO on (DEBUG with `debug`), libraries only warnings and errors.
    """
    handler: logging.Handler
    if sys.stderr.isatty():
        # Only here: plain lines need no rich, which is slow to load.
        from rich.console import Console
        from rich.logging import RichHandler

        handler = RichHandler(console=Console(stderr=True), show_path=False, log_time_format="%H:%M:%S")
        handler.setFormatter(PrintableFormatter("%(message)s"))
    else:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(PrintableFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s", "%H:%M:%S"))
    # Ray, Airflow and absl install handlers of their own when they are imported: without `force` lines come twice.
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.DEBUG if debug else logging.INFO)
