"""The parts of `python -m benchmarks.day`."""

import subprocess
import sys

import pytest

from benchmarks.day import Sampler, parse_options, table
from dags.stages import DEMO

# A child of a child that holds 100 MB until it is told to go.
HOLD = "import sys; text = b'x' * (100 << 20); print('ready', flush=True); sys.stdin.read()"
PARENT = f"import subprocess, sys; sys.exit(subprocess.run([sys.executable, '-c', {HOLD!r}]).returncode)"


def test_memory_and_work_of_all_that_a_stage_starts_count() -> None:
    with Sampler() as sampler:
        process = subprocess.Popen([sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        sampler.sample()
        process.communicate(b"")
    usage = sampler.usage
    assert process.returncode == 0
    # Other tests may have a JVM in this process.
    assert usage.total - usage.driver - usage.jvm > 100
    assert usage.cpu > 0
    assert table({"weblog": usage}).splitlines()[1].startswith("weblog ")


def test_stages_are_those_of_the_demo_and_need_a_site(capsys: pytest.CaptureFixture[str]) -> None:
    assert parse_options([]).stages == ["simulate", *(stage.name for stage in DEMO)]
    assert parse_options(["--stages", "simulate,events"]).stages == ["simulate", "events"]
    with pytest.raises(SystemExit):
        parse_options(["--stages", "recal"])
    assert "unknown stage 'recal'; choose from simulate, collect" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        parse_options(["--stages", "recall"])
    assert "needs a --home" in capsys.readouterr().err


def test_the_demo_searches_before_it_publishes() -> None:
    names = [stage.name for stage in DEMO]
    assert names.index("tune") < names.index("publish") < names.index("report")
    assert "export" not in names
