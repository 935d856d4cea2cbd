"""The private parts of libraries that `training/compat.py` reaches into are still there; when one goes, so does ours."""

import inspect
import subprocess
import sys
from importlib.metadata import version

import pytest


def test_the_versions_are_those_that_were_looked_at() -> None:
    assert version("torch").split("+")[0] == "2.13.0"
    assert version("ray") == "2.60.0"


@pytest.mark.parametrize(("first", "is_imported"), [("", True), ("skip_torch_compiler_import(); ", False)])
def test_the_first_optimizer_imports_torchs_compiler_unless_it_is_skipped(first: str, is_imported: bool) -> None:
    """When torch no longer imports it by itself, `skip_torch_compiler_import` can go."""
    code = (
        "import sys, torch; from training.compat import skip_torch_compiler_import; "
        f"{first}w = torch.nn.Parameter(torch.ones(2)); o = torch.optim.Adam([w], fused=True); "
        "w.sum().backward(); o.step(); print('torch._dynamo' in sys.modules, bool((w < 1).all()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split() == [str(is_imported), "True"]


def test_ddp_reads_the_parameters_to_leave_alone_off_an_attribute() -> None:
    """When it takes them as an argument, `exclude_from_ddp` can go."""
    from torch.nn.parallel import DistributedDataParallel

    start = DistributedDataParallel.__init__
    assert "_ddp_params_and_buffers_to_ignore" in start.__code__.co_consts
    assert not [name for name in inspect.signature(start).parameters if "ignore" in name]


def test_ray_train_makes_its_callbacks_in_the_method_that_is_overridden() -> None:
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

    from training.launch.on_ray import SHARED_CLUSTER_CALLBACKS, UNUSED_CALLBACKS

    assert {*UNUSED_CALLBACKS, *SHARED_CLUSTER_CALLBACKS} <= set(
        DataParallelTrainer._create_default_callbacks.__code__.co_names
    )


def test_ray_serves_replicas_listen_by_the_function_that_is_replaced() -> None:
    """When it listens at the node's address by itself, `ray_serve_on_own_address` can go."""
    from ray.serve._private import replica

    code = inspect.getsource(replica)
    assert 'add_port_to_grpc_server(self._server, "[::]:0")' in code
    assert code.count("[::]") == 1
