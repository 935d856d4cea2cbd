"""A small day on a Spark standalone cluster of two workers and a Ray cluster of two nodes; one of each is killed."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
from support import FEW_CHANNELS, ROOT, SMALL, Millrace

from conf.machine.processes import free_port
from etl.spark_options import spark_program

BIN = Path(sys.executable).parent
SECRET = "geheim-7f3a"
DAY = "2026-01-04"


def kill_tree(pid: int) -> int:
    """kill -9 a process and all under it; how many."""
    try:
        tree = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    for process in tree:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(tree, timeout=20)
    return len(tree)


@dataclass
class Clusters:
    """Both clusters: their processes, and the environment of who uses them."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    processes: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)
    ray_node: tuple[str, ...] = ()
    """How a node is started that does work; the head does none."""

    def start(self, name: str, *command: str, **environment: str) -> None:
        with (self.folder / f"{name}.log").open("wb") as out:
            self.processes[name] = subprocess.Popen(
                command, cwd=self.folder, env={**os.environ, **self.environment, **environment}, stdout=out,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def start_ray(self, name: str, *command: str) -> None:
        """`ray start --block`, which gives up after half a minute on a machine that is slow at that moment."""
        log = self.folder / f"{name}.log"
        for _ in range(3):
            self.start(name, str(BIN / "ray"), "start", "--block", "--object-store-memory=100000000", *command)
            while self.processes[name].poll() is None:
                if "Ray runtime started" in log.read_text():
                    return
                time.sleep(0.3)
        raise AssertionError(f"{name} did not start: {log.read_text()[-2000:]}")

    def wait_for(self, what: str, url: str, seconds: float = 120) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                urllib.request.urlopen(url, timeout=5).close()
                return
            except urllib.error.HTTPError:  # it answers; without the token not more
                return
            except OSError:
                time.sleep(0.3)
        raise AssertionError(f"{what} did not start: {(self.folder / f'{what}.log').read_text()[-2000:]}")


@contextmanager
def clusters(folder: Path) -> Iterator[Clusters]:
    """Started on loopback, ended by pid."""
    found = Clusters(folder)
    token = folder / "ray_token"
    token.write_text("0123456789abcdef" * 4)
    token.chmod(0o600)
    found.environment = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), "SPARK_LOCAL_IP": "127.0.0.1"}
    master, ui, head, jobs = (free_port() for _ in range(4))
    spark_class = spark_program("spark-class")
    spark, spark_home = str(spark_class), str(spark_class.parent.parent)
    deploy = "org.apache.spark.deploy"
    try:
        found.start(
            "master", spark, f"{deploy}.master.Master", "--host", "127.0.0.1", "--port", str(master),
            "--webui-port", str(ui), SPARK_HOME=spark_home,
        )  # fmt: skip
        found.wait_for("master", f"http://127.0.0.1:{ui}")
        for number in (1, 2):
            found.start(
                f"worker{number}", spark, f"{deploy}.worker.Worker", "--host", "127.0.0.1", "--cores", "1",
                "--memory", "1g", "--webui-port", "0", "--work-dir", f"{folder}/worker{number}",
                f"spark://127.0.0.1:{master}", SPARK_HOME=spark_home,
            )  # fmt: skip
        found.start_ray(
            "head", "--head", f"--port={head}", f"--dashboard-port={jobs}", "--num-cpus=0", f"--temp-dir={folder}/ray"
        )
        found.wait_for("head", f"http://127.0.0.1:{jobs}/api/version")
        found.ray_node = (f"--address=127.0.0.1:{head}", "--num-cpus=2")
        found.start_ray("node", *found.ray_node)
        found.environment |= {
            **SMALL,
            **FEW_CHANNELS,
            "MILLRACE_PROFILE": "standalone",
            "MILLRACE__SPARK__SHUFFLE_PARTITIONS": "4",
            "MILLRACE__SPARK__MASTER": f"spark://127.0.0.1:{master}",
            "MILLRACE__SPARK__EXTRA": '{"spark.executor.memory": "900m", "spark.driver.host": "127.0.0.1"}',
            "MILLRACE__RAY__ADDRESS": f"127.0.0.1:{head}",
            "MILLRACE__RAY__JOBS": f"http://127.0.0.1:{jobs}",
            "MILLRACE__TRAIN__EPOCHS": "2",
            "MILLRACE__TRAIN__CHECKPOINT_STEPS": "5",
            "MILLRACE__BUSINESS__PASSWORD": SECRET,
        }
        yield found
    finally:
        for process in found.processes.values():
            kill_tree(process.pid)


@pytest.mark.slow
@pytest.mark.wide
@pytest.mark.timeout(2400)
def test_a_day_on_both_clusters_with_a_worker_and_a_node_killed(tmp_path: Path, millrace: Millrace) -> None:
    short = Path("/tmp") / f"millrace-{os.getpid()}"  # Ray's sockets have short names
    short.mkdir()
    try:
        with clusters(short) as found:
            _the_day(found, millrace)
            _submitted(found, millrace)
    finally:
        subprocess.run(["rm", "-rf", str(short)], check=False)


def _the_day(found: Clusters, millrace: Millrace) -> None:
    made = millrace("simulate", "--days", "4", "--scale", "0.1")
    assert made.returncode == 0, made.stderr
    environment = {**os.environ, **found.environment, "MILLRACE_HOME": str(millrace.home)}
    command = [str(BIN / "millrace"), "run", "--date", DAY, "--since", "2026-01-01"]
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    told: list[str] = []
    killed: dict[str, int] = {}
    commands: list[str] = []

    def watch() -> None:
        for line in process.stderr or ():
            told.append(line)
            if "── features" in line:
                time.sleep(5)
                commands.append(subprocess.run(["ps", "auxww"], capture_output=True, text=True, check=True).stdout)
                killed["worker"] = kill_tree(found.processes["worker1"].pid)
            if "── train" in line:
                threading.Thread(target=kill_node).start()

    def kill_node() -> None:
        """As soon as a checkpoint shows that workers train; another node takes its place."""
        while process.poll() is None and not list(millrace.home.glob("runs/deepfm-*/checkpoints/*")):
            time.sleep(0.05)
        killed["node"] = kill_tree(found.processes["node"].pid)
        found.start_ray("another", *found.ray_node)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        process.wait(timeout=1800)
    finally:
        process.kill()
        watcher.join(timeout=30)
    log = "".join(told)
    assert process.returncode == 0, log[-4000:]
    assert killed["worker"] >= 2, killed  # the worker and its executor
    assert killed["node"] >= 2, killed
    assert "workers start again from the last checkpoint" in log
    assert SECRET not in log
    assert SECRET not in commands[0]
    counted = millrace(
        "sql",
        f"select (select count(*) from ads_recommendation where dt = '{DAY}') / count(*) lists,"
        " (select count(*) from ops_run where status = 'failed') failed,"
        " (select count(distinct model) from ads_model_metric where metric = 'auc' and split = 'test') models"
        " from dim_user",
        "--format", "json",
    )  # fmt: skip
    assert json.loads(counted.stdout) == [{"lists": 20.0, "failed": 0, "models": 4}], counted.stderr


def _submitted(found: Clusters, millrace: Millrace) -> None:
    """Commands sent to either cluster; cancelling one stops it there."""
    ranked = millrace("submit", "recsys", "fine", "--date", DAY, **found.environment)
    assert ranked.returncode == 0, ranked.stderr[-3000:]
    assert "log_loss" in ranked.stdout
    loaded = millrace("submit", "--on", "spark", "etl", "events", "--date", DAY, **found.environment)
    assert loaded.returncode == 0, loaded.stderr[-3000:]
    assert json.loads(loaded.stdout)["rows_out"] > 0
    for archive in (millrace.home / "tmp").glob("millrace-*.zip"):
        with zipfile.ZipFile(archive) as held:
            assert not any(SECRET.encode() in held.read(name) for name in held.namelist())

    environment = {**os.environ, **found.environment, "MILLRACE_HOME": str(millrace.home)}
    environment["MILLRACE__TRAIN__EPOCHS"] = "5000"
    command = [str(BIN / "millrace"), "submit", "train", "lr", "--date", DAY]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        for line in process.stderr or ():
            if "epoch 1:" in line:
                break
        process.send_signal(signal.SIGTERM)
        _, rest = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 1
    assert "was stopped" in rest.splitlines()[-1]
    assert not [p for p in psutil.process_iter(["cmdline"]) if "train lr --date" in " ".join(p.info["cmdline"] or ())]
    told = _jobs(found)
    assert SECRET not in json.dumps(told)
    submitted = [job for job in told if job["type"] == "SUBMISSION"]  # the others are drivers that connected
    assert sorted(str(job["status"]) for job in submitted) == ["STOPPED", "SUCCEEDED"]


def _jobs(found: Clusters) -> list[dict[str, object]]:
    """All that the cluster tells of its jobs, to those who have the token and to nobody else."""
    url = f"{found.environment['MILLRACE__RAY__JOBS']}/api/jobs/"
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(url, timeout=30)
    token = Path(found.environment["RAY_AUTH_TOKEN_PATH"]).read_text()
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        jobs: list[dict[str, object]] = json.load(answer)
    return jobs
