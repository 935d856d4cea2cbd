"""The front door: `millrace AREA …` finds the area by name and imports only that one.

Options that every command takes: --profile NAME, --site FILE, --experiment FILE, --set section.key=value, --debug.
"""

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conf import Config

# area -> ("module:Typer app", what it does). An area with one verb is a Typer app of one command.
AREAS = {
    "demo": ("dags.cli:demo", "the whole day on generated data, then a summary and where to look"),
    "simulate": ("etl.simulator.cli:simulate", "write logs, events, users and items with known click probabilities"),
    "run": ("dags.cli:run", "run the stages of a day in one process"),
    "etl": ("etl.cli:etl", "weblog, events, import, results …: raw data into warehouse tables"),
    "init": ("etl.site.cli:init", "draft the declaration of your data: what each file and column is"),
    "check": ("features.check.cli:check", "judge the declaration of your data on a sample of them"),
    "ingest": ("etl.ingest.cli:ingest", "ratings or events of another system into the warehouse"),
    "features": ("features.cli:app", "build the training set of a day"),
    "train": ("training.cli:app", "train a deep model: local, ray, horovod or spark"),
    "predict": ("training.cli:predict", "predictions of a deep model, for the warehouse"),
    "model": ("training.cli:model", "finished deep models: export, compress, ensemble, choose, gap"),
    "recsys": ("recsys.cli:app", "recall, rank, recommend, evaluate"),
    "serve": ("recsys.serve.cli:serve", "HTTP: recommend, rank, similar, events"),
    "experiment": ("recsys.experiment.cli:app", "A/B experiments: differences with intervals, into the warehouse"),
    "runs": ("recsys.cli:runs", "trained models: list, show where numbers come from, rollback"),
    "tune": ("tuning.cli:app", "search hyper-parameters on Ray Tune"),
    "sql": ("etl.warehouse.cli:sql", "query the warehouse"),
    "metrics": ("etl.report.cli:metrics", "newest metrics of every model"),
    "warehouse": ("etl.warehouse.cli:warehouse", "tables, describe, check, vacuum, serve, init, move"),
    "dags": ("dags.cli:dags", "start or stop a local Airflow with Millrace's DAGs"),
    "submit": ("dags.cli:submit", "send a job to a Ray or Spark cluster"),
    "report": ("etl.report.cli:report", "the stages, rows and metrics of a day"),
    "doctor": ("doctor.cli:app", "whether this machine and its clusters have what commands need"),
    "config": ("dags.cli:config", "show the resolved settings"),
}
# How the file system, and Derby's log, report a full disk.
DISK_FULL = ("No space left on device", "Disk quota exceeded", "XSLA4", "most likely the log is full")
COMMON = """Options of every command:
  --profile NAME          values of conf/profiles/NAME.yaml (MILLRACE_PROFILE; local by default)
  --site FILE             what your data are (MILLRACE_SITE): Python that sets SITE, or the name of a ready one
  --experiment FILE       a YAML file whose values override the profile's
  --set SECTION.KEY=VALUE one value, which overrides all others; may be repeated
  --debug                 show the stack of an error
Exit codes: 0 done; 1 the job failed or you must fix something; 2 wrong usage."""


@dataclass
class CommonOptions:
    """The options that every command takes, as they stood on the command line."""

    profile: str | None = None
    site: str | None = None
    experiment: Path | None = None
    overrides: list[str] = field(default_factory=list)
    debug: bool = False


def main() -> None:
    """Console script `millrace`: run the command line of this process and exit with its code."""
    sys.excepthook = _print_stack  # with --debug
    sys.exit(run_command(sys.argv[1:]))


def run_command(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code.

    The dict that a command returns goes to stdout as one JSON line; an error goes to stderr as one line.
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        print(overview())
        return 0 if arguments else 2
    area, *rest = arguments
    if area not in AREAS:
        return _fail(f"unknown command '{area}'; choose from {', '.join(AREAS)}", 2)
    return _run_area(area, rest)


def _run_area(area: str, arguments: list[str]) -> int:
    """Run an area's command; what it raises becomes one line and an exit code, or a stack trace with --debug."""
    # In here, not above: `millrace --help` answers without loading pydantic and Typer.
    from typer import TyperException

    from conf import UserError
    from conf.console.logs import set_up_logging
    from conf.errors import error_line
    from conf.plugins import add_current_folder

    debug = "--debug" in arguments
    # Before any Ray or Spark session starts: Ray hands the driver's sys.path to its workers.
    add_current_folder()
    try:
        set_up_logging(debug=debug)
        result = invoke(area, arguments)
    except UserError as error:
        if debug:
            raise
        # A site's declaration is told fault by fault; Ray adds a stack to the text of a worker's UserError.
        lines = [str(fault) for fault in getattr(error, "faults", ())] or [error_line(error)]
        return max(_fail(line, error.exit_code) for line in lines)
    except TyperException as error:
        return _fail(error.format_message(), 2)
    except KeyboardInterrupt:
        return _fail("interrupted", 1)
    except BrokenPipeError:  # `millrace sql … | head`
        return 1
    except Exception as error:
        if debug:
            raise
        return _fail(_one_line(error), 1)
    if isinstance(result, dict):
        print(json.dumps(result, default=str), flush=True)
    return 0


def _print_stack(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print a stack as Python does, without secrets: drivers quote the URL that they were given."""
    from traceback import format_exception

    from conf.masking import masked_text

    print(masked_text("".join(format_exception(kind, error, trace))), end="", file=sys.stderr)


def _one_line(error: Exception) -> str:
    """The message of an unforeseen error without its stack."""
    from conf.errors import error_line

    text = str(error)
    if any(sign in text for sign in DISK_FULL):
        return "the disk is full: nothing half-written can be seen; free some space and run the command again"
    return f"{error_line(error)} (--debug shows the stack)"


def invoke(area: str, arguments: Sequence[str]) -> Any:
    """Run `millrace AREA ARGUMENTS` in this process and return what the command returns.

    Raises whatever the command raises: UserError for what a user can fix, SystemExit for another exit code.
    """
    from conf import load
    from conf.site import choose_site

    rest, common = split_common_options(arguments)
    # Before any area is imported: the features that a process knows are those of its site.
    choose_site(common.site)
    config = load(profile=common.profile, experiment=common.experiment, overrides=common.overrides)
    return invoke_with(config, area, rest)


def invoke_with(config: "Config", area: str, arguments: Sequence[str]) -> Any:
    """As `invoke`, with settings that are resolved already; `arguments` contains none of the common options.

    Stages that run in one process share a Config this way, and through it the process's Spark session.
    """
    module, name = AREAS[area][0].split(":")
    app: Callable[..., Any] = getattr(import_module(module), name)
    result = app(list(arguments), prog_name=f"millrace {area}", obj=config, standalone_mode=False)
    if isinstance(result, int) and result:  # `typer.Exit(code)` comes back as its code
        raise SystemExit(result)
    return result


def split_common_options(arguments: Sequence[str]) -> tuple[list[str], CommonOptions]:
    """Separate the common options from an area's own arguments, wherever they stand.

    Raises UsageError for an option without its value.
    """
    from conf import UsageError

    rest: list[str] = []
    common = CommonOptions()
    remaining = iter(arguments)
    for argument in remaining:
        name, equals, value = argument.partition("=")
        if argument == "--debug":
            common.debug = True
        elif name in ("--profile", "--site", "--experiment", "--set"):
            text = value if equals else next(remaining, None)
            if text is None:
                raise UsageError(f"{name} needs a value")
            if name == "--profile":
                common.profile = text
            elif name == "--site":
                common.site = text
            elif name == "--experiment":
                common.experiment = Path(text)
            else:
                common.overrides.append(text)
        else:
            rest.append(argument)
    return rest, common


def overview() -> str:
    """The text of `millrace --help`: plain strings, so that it shows at once."""
    lines = ["Usage: millrace COMMAND [OPTIONS]   (millrace COMMAND --help tells more)", "", "Commands:"]
    lines += [f"  {name:<10} {about}" for name, (_, about) in AREAS.items()]
    return "\n".join([*lines, "", COMMON])


def _fail(message: str, code: int) -> int:
    """Print one line to stderr; returns the exit code."""
    from conf.console.terminal import one_printable_line
    from conf.masking import masked_text

    # A message may quote data, a file's name, or a URL with a password.
    print(f"millrace: {one_printable_line(masked_text(message))}", file=sys.stderr, flush=True)
    return code


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    main()
