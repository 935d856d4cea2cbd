"""What is configured elsewhere: Spark's master, Ray's nodes, the metastore's PostgreSQL, Redis."""

import json
import socket
import subprocess
import sys
from urllib.parse import urlsplit

from conf import Config, Paths
from doctor.check import Check
from doctor.engines import PROBE_TIMEOUT_S
from etl.metastore.settings import MetastoreSettings
from etl.settings import SparkSettings
from recsys.serve.settings import ServingSettings
from training.settings import RaySettings

CONNECT_TIMEOUT_S = 3.0
MAX_CLOCK_S = 5.0
# One task a node, which says what it is; in a process of its own, that ends with its time.
RAY_PROBE = """
import json, sys, time, ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as On
ray.init(address=sys.argv[1], logging_level="ERROR", log_to_driver=False)
@ray.remote(num_cpus=0)
def about():
    import sys, time, ray
    return ray.__version__, "%d.%d" % sys.version_info[:2], time.time()
nodes = [node for node in ray.nodes() if node["Alive"]]
tasks = [about.options(scheduling_strategy=On(node["NodeID"], soft=False)).remote() for node in nodes]
answers = ray.get(tasks, timeout=5)
print(json.dumps([
    {"host": n["NodeManagerAddress"], "ray": r, "python": p, "behind_s": time.time() - t,
     "cpus": n["Resources"].get("CPU", 0), "gpus": n["Resources"].get("GPU", 0)}
    for n, (r, p, t) in zip(nodes, answers)
]))
"""


def reaches(host: str, port: int) -> bool:
    """Whether something listens at `host:port`."""
    try:
        with socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_S):
            return True
    except OSError:
        return False


def spark_cluster(config: Config) -> Check:
    """Whether a standalone or Kubernetes master answers; YARN's address is Hadoop's own."""
    master = config.get(SparkSettings).master
    address = urlsplit(master.removeprefix("k8s://"))
    if config.get(SparkSettings).is_local or not address.hostname or not address.port:
        return Check("ok", f"{master}: nothing to reach")
    if reaches(address.hostname, address.port):
        return Check("ok", f"{master} answers")
    return Check("missing", f"nothing answers at {master}", "start the master, or set spark.master")


def ray_nodes(config: Config) -> Check:
    """Version, Python and clock on every node of `ray.address`; without one a local Ray is started when needed."""
    import importlib.metadata

    own, address = importlib.metadata.version("ray"), config.get(RaySettings).address
    if address is None:
        return Check("ok", f"{own}, a local one is started when needed")
    command = [sys.executable, "-W", "ignore", "-c", RAY_PROBE, address]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PROBE_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        cure = "start it, or set ray.address; with tokens on, RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH"
        return Check("missing", f"{address} does not answer within {PROBE_TIMEOUT_S:g} s", cure)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]
        return Check("missing", f"{address}: {last}", "start it, or set ray.address")
    nodes = json.loads(done.stdout.splitlines()[-1])
    return judge_nodes(own, nodes)


def judge_nodes(own: str, nodes: list[dict[str, object]]) -> Check:
    """The line for a cluster whose nodes said what they are."""
    cpus, gpus = (sum(float(str(node[name])) for node in nodes) for name in ("cpus", "gpus"))
    text = f"{own}, {len(nodes)} nodes with {cpus:g} CPUs and {gpus:g} GPUs"
    python = "{}.{}".format(*sys.version_info[:2])
    for node in nodes:
        if (node["ray"], node["python"]) != (own, python):
            wrong = f"{node['host']} has Ray {node['ray']} on Python {node['python']}"
            return Check("missing", f"{text}; {wrong}", f"install Ray {own} on Python {python} there")
    late = [node for node in nodes if abs(float(str(node["behind_s"]))) > MAX_CLOCK_S]
    if late:
        return Check(
            "warning", f"{text}; the clock of {late[0]['host']} is off by {late[0]['behind_s']:.0f} s", "run NTP"
        )
    return Check("ok", text)


def metastore(config: Config) -> Check:
    """The Hive metastore: Derby under the home, or PostgreSQL."""
    settings = config.get(MetastoreSettings)
    if settings.url is None:
        return Check("ok", f"embedded, in {config.get(Paths).metastore}: one process at a time")
    return _postgres(settings.url)


def postgresql(config: Config) -> Check:
    """The JDBC driver, which imports from databases and a metastore on PostgreSQL need."""
    if any("postgres" in jar for jar in config.get(SparkSettings).installed_jdbc_jars):
        return Check("ok", "its JDBC driver is there")
    cure = "only for imports from it, and a metastore on it: apt-get install libpostgresql-jdbc-java"
    is_needed = config.get(MetastoreSettings).url is not None
    return Check("missing" if is_needed else "warning", "no JDBC driver", cure)


def redis(config: Config) -> Check:
    """The Redis server by which several machines' servers know each other's events, where one is set."""
    from redis import RedisError

    from recsys.serve.events.redis_stream import connect

    settings = config.get(ServingSettings)
    if settings.redis is None:
        return Check("ok", "none set (serving.redis)")
    try:
        version = connect(settings).info("server")["redis_version"]
    except RedisError as error:
        # The class alone: a message may repeat the address with its user.
        cure = "start it, or mend serving.redis: until then servers count their own events only"
        return Check("warning", f"serving.redis does not answer: {type(error).__name__}", cure)
    return Check("ok", f"Redis {version} answers")


def _postgres(url: str) -> Check:
    address = urlsplit(url.removeprefix("jdbc:"))
    host, port = address.hostname or "localhost", address.port or 5432
    if reaches(host, port):
        return Check("ok", f"PostgreSQL at {host}:{port} answers")
    return Check("missing", f"nothing answers at {host}:{port}", "start PostgreSQL, or set metastore.url")
