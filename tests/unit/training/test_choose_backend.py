"""The backend of `millrace train`: what the command line says, then the settings, then what is usual."""

import pytest

from conf import load
from dags.stages import STAGES
from training.train import choose_backend


@pytest.mark.parametrize(
    ("overrides", "options", "daily", "expected"),
    [
        ([], (None, None), False, ("local", 1)),
        ([], (None, None), True, ("horovod", 2)),
        (["train.backend=ray", "train.workers=8"], (None, None), True, ("ray", 8)),
        (["train.backend=ray", "train.workers=8"], ("spark", 3), False, ("spark", 3)),
        (["train.backend=ray", "train.workers=8"], ("local", None), False, ("local", 1)),
        (["train.backend=local"], (None, None), True, ("local", 1)),
    ],
)
def test_options_come_before_settings(
    overrides: list[str], options: tuple[str | None, int | None], daily: bool, expected: tuple[str, int]
) -> None:
    assert choose_backend(load(overrides=overrides, environment={}), *options, daily=daily) == expected


def test_the_stage_of_the_day_leaves_backend_and_workers_to_the_settings() -> None:
    command = next(stage.command for stage in STAGES if stage.name == "train")
    assert "--daily" in command
    assert not {"--backend", "--workers"} & set(command.split())
