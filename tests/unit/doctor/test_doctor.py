"""`millrace doctor`: a line for each thing, what errors point at is a line, and what is missing makes exit code 1."""

import ast
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from engines.redis_server import RedisServer
from support import ROOT, run_front_door

from conf import Config, UserError, load
from conf.code import PACKAGES
from doctor import clusters, engines, machine
from doctor.check import Check, run_all
from doctor.lines import LINES
from doctor.proof import all_reduce, prove


def config_of(home: Path, *overrides: str) -> Config:
    return load(overrides=[f"paths.home={home}", *overrides], environment={})


def test_every_line_says_how_it_is(tmp_path: Path) -> None:
    code, out, _ = run_front_door("doctor", "--json", home=tmp_path)
    checks = json.loads(out)
    assert list(checks) == list(LINES)
    assert code == int(any(check["level"] == "missing" for check in checks.values()))
    for name in ("python", "java", "spark", "arrow", "petastorm", "horovod", "airflow"):  # the tests run on them
        assert checks[name]["level"] == "ok", checks[name]
    assert "gloo" in checks["horovod"]["text"]


def test_something_missing_is_exit_code_1_and_says_what_to_do(tmp_path: Path) -> None:
    nowhere = "metastore.url=jdbc:postgresql://127.0.0.1:1/hive"
    code, out, err = run_front_door("doctor", "--set", nowhere, home=tmp_path)
    assert (code, err) == (1, "")
    line = next(line for line in out.splitlines() if " metastore " in line)
    assert line.startswith("missing ")
    assert line.endswith("nothing answers at 127.0.0.1:1. Start PostgreSQL, or set metastore.url")
    assert len(out.splitlines()) == len(LINES)


def test_a_redis_server_answers_or_does_not_without_its_password_in_the_line(tmp_path: Path) -> None:
    def check(url: str) -> Check:
        return clusters.redis(load(environment={"MILLRACE__SERVING__REDIS": url}))

    server = RedisServer(tmp_path)
    try:
        assert re.fullmatch(r"Redis \d+\.\d+\.\d+ answers", check(server.url).text)
        wrong = check(f"redis://:hidden@127.0.0.1:{server.port}/0")
    finally:
        server.stop()
    gone = check(server.url)
    assert (wrong.level, gone.level) == ("warning", "warning")
    assert [one.text.rsplit(" ", 1)[1] for one in (wrong, gone)] == ["AuthenticationError", "ConnectionError"]


def test_what_other_errors_point_at_is_a_line() -> None:
    names = set()
    for path in (path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "DOCTOR.format":
                names |= set(ast.literal_eval(node.args[0]).split(", "))
    assert {"gpus", "horovod", "ray", "spark", "cuda", "cpus"} <= names <= set(LINES)


def test_a_check_that_fails_hides_no_other(tmp_path: Path) -> None:
    def broken(config: Config) -> Check:
        raise KeyError("f_x")

    def refused(config: Config) -> Check:
        raise UserError("install it")

    def slow(config: Config) -> Check:
        raise subprocess.TimeoutExpired(["python", "-c", "import torch"], 8.0)

    checks = run_all(config_of(tmp_path), {"a": broken, "b": refused, "c": machine.python, "d": slow})
    assert [check.level for check in checks.values()] == ["warning", "missing", "ok", "warning"]
    assert checks["d"].text == "no answer within 8 s"
    assert checks["b"].text == "install it"


PYTHON = "{}.{}".format(*sys.version_info[:2])
NODE = {"host": "n1", "ray": "2.60.0", "python": PYTHON, "behind_s": 0.1, "cpus": 8, "gpus": 1}


@pytest.mark.parametrize(
    ("change", "level", "text"),
    [
        ({}, "ok", "2 nodes with 16 CPUs and 2 GPUs"),
        ({"ray": "2.59.0"}, "missing", "n1 has Ray 2.59.0"),
        ({"python": "3.10"}, "missing", "on Python 3.10"),
        ({"behind_s": -90.0}, "warning", "the clock of n1 is off by -90 s"),
    ],
)
def test_a_cluster_is_as_good_as_its_worst_node(change: dict[str, object], level: str, text: str) -> None:
    check = clusters.judge_nodes("2.60.0", [NODE, {**NODE, **change}])
    assert check.level == level
    assert text in check.text


def test_limits_of_the_machine_are_told(tmp_path: Path) -> None:
    assert machine.memory(config_of(tmp_path, "spark.driver_memory=900000g")).level == "warning"
    assert machine.shared_memory(config_of(tmp_path, "ray.object_store_mb=2000000000")).level == "warning"
    assert machine.cpus(config_of(tmp_path, "ray.num_cpus=100000")).level == "warning"
    (tmp_path / "open").mkdir(mode=0o777)
    (tmp_path / "open").chmod(0o777)
    assert machine.home(config_of(tmp_path / "open")).level == "warning"


def test_a_version_that_is_not_the_lock_s_is_found() -> None:
    own = torch.__version__.partition("+")[0]
    assert engines._other("torch", own) is None  # whatever its build
    assert engines._other("torch", "1.0.0") == torch.__version__
    assert engines._other("petastorm", "0.13.1") is None
    assert engines._other("petastorm", "0.13.1+millrace0") is not None
    assert engines._other("no-such-package", "1.0") is None


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU to prove")
def test_without_a_gpu_the_proof_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no GPU that torch can use: nothing was run; --cpu runs it over gloo"):
        prove(config_of(tmp_path), on_cpu=False, seconds=1)


def test_the_all_reduce_measures_between_two_processes() -> None:
    started = time.monotonic()
    text = all_reduce(2, on_cpu=True, seconds=0.3)
    assert time.monotonic() - started > 0.3
    rate = re.fullmatch(r"([\d.]+) GB/s between 2 processes on the CPU, by gloo", text)
    assert rate is not None
    assert float(rate[1]) > 0
