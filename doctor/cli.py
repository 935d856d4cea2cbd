"""`millrace doctor`: whether this machine, and the clusters that are configured, have what commands need."""

import json
from dataclasses import asdict
from typing import Annotated, Any

import typer

from conf.console.cli import settings_of
from conf.console.terminal import one_printable_line

app = typer.Typer(add_completion=False)


@app.command()
def doctor(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object by line's name")] = False,
    gpu: Annotated[bool, typer.Option("--gpu", help="all-reduce and training on every GPU and backend")] = False,
    cpu: Annotated[bool, typer.Option("--cpu", help="with --gpu: the same over gloo on CPUs")] = False,
    seconds: Annotated[float, typer.Option(help="with --gpu: length of the all-reduce", min=0.1)] = 20.0,
) -> None:
    """Check the machine, and clusters that are configured, against what commands need; 1 when something is missing."""
    config = settings_of(context)
    if gpu or cpu:
        from doctor.proof import prove

        rows = prove(config, on_cpu=cpu, seconds=seconds)
        _show({row.name: asdict(row) for row in rows}, [f"{row}" for row in rows], as_json)
        raise typer.Exit(int(not all(row.has_run for row in rows)))
    from doctor.check import run_all
    from doctor.lines import LINES

    checks = run_all(config, LINES)
    lines = []
    for name, check in checks.items():
        cure = f". {check.cure[:1].upper()}{check.cure[1:]}" if check.cure else ""
        lines.append(f"{check.level:<8} {name:<14} {check.text}{cure}")
    _show({name: asdict(check) for name, check in checks.items()}, lines, as_json)
    raise typer.Exit(int(any(check.level == "missing" for check in checks.values())))


def _show(values: dict[str, Any], lines: list[str], as_json: bool) -> None:
    print(json.dumps(values) if as_json else "\n".join(one_printable_line(line) for line in lines), flush=True)
