"""The front door: `millrace AREA …` finds the area by name and imports only that one.

Options that every command takes: --profile NAME, --experiment FILE, --set section.key=value, --debug.
"""

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conf import Config

# area -> (module with its Typer `app`, what it does). An area with one verb is a Typer app of one command.
AREAS = {
    "demo": ("dags.cli:demo", "the whole day on generated data, then a summary and where to look"),
    "simulate": ("etl.simulator.cli:simulate", "write logs, events, users and items with known click probabilities"),
    "run": ("dags.cli:run", "walk the stages of a day in one process"),
    "etl": ("etl.cli:etl", "weblog, events, import, results …: raw data into warehouse tables"),
    "ingest": ("etl.ingest.cli:ingest", "ratings or events of another system into the warehouse"),
    "features": ("features.cli:app", "build the training set of a day"),
    "train": ("training.cli:app", "train a deep model: local, ray, horovod or spark"),
    "predict": ("training.cli:predict", "answers of a deep model, for the warehouse"),
    "model": ("training.cli:model", "finished deep models: export, compress, ensemble, choose, gap"),
    "recsys": ("recsys.cli:app", "recall, rank, recommend, evaluate"),
    "runs": ("recsys.cli:runs", "trained models: list, show where numbers come from, rollback"),
    "tune": ("tuning.cli:app", "search hyper-parameters on Ray Tune"),
    "sql": ("etl.warehouse.cli:sql", "query the warehouse"),
    "metrics": ("etl.report.cli:metrics", "newest numbers of every model"),
    "warehouse": ("etl.warehouse.cli:warehouse", "tables, describe, check, vacuum, serve, init, move"),
    "dags": ("dags.cli:dags", "start or stop a local Airflow with Millrace's DAGs"),
    "submit": ("dags.cli:submit", "send a job to a Ray or Spark cluster"),
    "report": ("etl.report.cli:report", "the stages, rows and metrics of a day"),
    "config": ("dags.cli:config", "show the resolved settings"),
}
# How the file system, and Derby's log, say that there is no room.
DISK_FULL = ("No space left on device", "Disk quota exceeded", "XSLA4", "most likely the log is full")
COMMON = """Options of every command:
  --profile NAME          values of conf/profiles/NAME.yaml (MILLRACE_PROFILE; local by default)
  --experiment FILE       a YAML file with values over the profile's
  --set SECTION.KEY=VALUE one value, over all else; may be repeated
  --debug                 show the stack of an error
Exit codes: 0 done; 1 the job failed or you must fix something; 2 wrong usage."""


@dataclass
class CommonOptions:
    """What stands on the command line besides the area's own arguments."""

    profile: str | None = None
    experiment: Path | None = None
    overrides: list[str] = field(default_factory=list)
    debug: bool = False


def main() -> None:
    """Console script `millrace`."""
    sys.exit(run_command(sys.argv[1:]))


def run_command(arguments: Sequence[str]) -> int:
    """Run one command line; its counts go to stdout as one JSON line, problems to stderr as one line each."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(overview())
        return 0 if arguments else 2
    area, *rest = arguments
    if area not in AREAS:
        return _complain(f"unknown command '{area}'; choose from {', '.join(AREAS)}", 2)
    return _guarded(area, rest)


def _guarded(area: str, arguments: list[str]) -> int:
    """Turn what a command raises into one line and an exit code."""
    from typer._click.exceptions import ClickException

    from conf import UserError
    from conf.logs import set_up_logging

    debug = "--debug" in arguments
    try:
        set_up_logging(debug=debug)
        counts = invoke(area, arguments)
    except UserError as error:
        if debug:
            raise
        return _complain(str(error), error.exit_code)
    except ClickException as error:
        return _complain(error.format_message(), 2)
    except KeyboardInterrupt:
        return _complain("interrupted", 1)
    except BrokenPipeError:
        return 1
    except Exception as error:
        if debug:
            raise
        return _complain(_one_line(error), 1)
    if isinstance(counts, dict):
        print(json.dumps(counts, default=str), flush=True)
    return 0


def _one_line(error: Exception) -> str:
    """What an unforeseen error says, without its stack; a JVM's own line is the one that begins with a colon."""
    text = str(error)
    if any(sign in text for sign in DISK_FULL):
        return "the disk is full: nothing half-written can be seen; free some space and run the command again"
    lines = [line.strip(" :") for line in text.splitlines() if line.strip()]
    told = lines[1] if len(lines) > 1 and lines[0].startswith("An error occurred while calling") else (lines or [""])[0]
    return f"{type(error).__name__}: {told[:300]} (--debug shows the stack)"


def invoke(area: str, arguments: Sequence[str]) -> Any:
    """Run `millrace AREA ARGUMENTS` in this process and return what the command returns, or raise."""
    from conf import load

    rest, common = split_common(arguments)
    config = load(profile=common.profile, experiment=common.experiment, overrides=common.overrides)
    return invoke_with(config, area, rest)


def invoke_with(config: "Config", area: str, arguments: Sequence[str]) -> Any:
    """Run `millrace AREA ARGUMENTS` with settings that are resolved: `arguments` holds no option of every command."""
    module, name = AREAS[area][0].split(":")
    app: Callable[..., Any] = getattr(import_module(module), name)
    outcome = app(list(arguments), prog_name=f"millrace {area}", obj=config, standalone_mode=False)
    if isinstance(outcome, int) and outcome:  # `typer.Exit(code)` comes back as its code
        raise SystemExit(outcome)
    return outcome


def split_common(arguments: Sequence[str]) -> tuple[list[str], CommonOptions]:
    """Take the options of every command out of `arguments`, wherever they stand."""
    from conf import UsageError

    rest: list[str] = []
    common = CommonOptions()
    waiting = iter(arguments)
    for argument in waiting:
        name, equals, value = argument.partition("=")
        if argument == "--debug":
            common.debug = True
        elif name in ("--profile", "--experiment", "--set"):
            taken = value if equals else next(waiting, None)
            if taken is None:
                raise UsageError(f"{name} needs a value")
            if name == "--profile":
                common.profile = taken
            elif name == "--experiment":
                common.experiment = Path(taken)
            else:
                common.overrides.append(taken)
        else:
            rest.append(argument)
    return rest, common


def overview() -> str:
    """The text of `millrace --help`: plain strings, so that it shows at once."""
    lines = ["Usage: millrace COMMAND [OPTIONS]   (millrace COMMAND --help tells more)", "", "Commands:"]
    lines += [f"  {name:<10} {about}" for name, (_, about) in AREAS.items()]
    return "\n".join([*lines, "", COMMON])


def _complain(text: str, code: int) -> int:
    print(f"millrace: {text}", file=sys.stderr, flush=True)
    return code


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    main()
