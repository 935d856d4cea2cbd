"""The lines of `millrace doctor` by name, as other errors point at them."""

from doctor import clusters, engines, machine
from doctor.check import Checker

LINES: dict[str, Checker] = {
    "python": machine.python,
    "java": machine.java,
    "spark": engines.spark,
    "spark cluster": clusters.spark_cluster,
    "metastore": clusters.metastore,
    "postgresql": clusters.postgresql,
    "redis": clusters.redis,
    "ray": clusters.ray_nodes,
    "arrow": engines.arrow,
    "petastorm": engines.petastorm,
    "horovod": engines.horovod,
    "cuda": engines.cuda,
    "nccl": engines.nccl,
    "gpus": engines.gpus,
    "cpus": machine.cpus,
    "memory": machine.memory,
    "shared memory": machine.shared_memory,
    "disk": machine.disk,
    "home": machine.home,
    "ports": machine.ports,
    "clock": machine.clock,
    "locale": machine.language,
    "airflow": engines.airflow,
    "versions": engines.versions,
}
