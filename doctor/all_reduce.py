"""One rank of the proof's all-reduce: `python -m doctor.all_reduce LIBRARY STORE_FILE RANKS MEGABYTES SECONDS RANK`."""

import sys
import time

import torch
import torch.distributed as dist


def main() -> None:
    """Exchange a tensor until the time is up, on GPU number RANK with NCCL; rank 0 prints GB/s."""
    library, store, ranks, megabytes, seconds, rank = sys.argv[1:]
    device = torch.device("cuda", int(rank)) if library == "nccl" else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    else:
        torch.set_num_threads(1)
    dist.init_process_group(library, init_method=f"file://{store}", rank=int(rank), world_size=int(ranks))
    rate = measure(device, int(megabytes) * 2**20, float(seconds))
    if dist.get_rank() == 0:
        print(f"{rate:.2f}", flush=True)
    dist.destroy_process_group()


def measure(device: torch.device, size: int, seconds: float) -> float:
    """Bus bandwidth in GB/s of all-reduces of `size` bytes: 2 (n − 1) / n · bytes / time, as NCCL's tests count it."""
    ranks = dist.get_world_size()
    tensor = torch.ones(size // 4, device=device)
    dist.all_reduce(tensor)  # the first one sets up the connections
    exchanged, started, is_over = 0, time.perf_counter(), torch.zeros(1, device=device)
    while not is_over.item():
        for _ in range(10):
            dist.all_reduce(tensor)
            exchanged += size
        # Rank 0's clock decides for all; reading it also waits for the GPU.
        is_over.fill_(time.perf_counter() - started > seconds)
        dist.broadcast(is_over, src=0)
    share = 2 * (ranks - 1) / ranks if ranks > 1 else 1.0
    return share * exchanged / (time.perf_counter() - started) / 1e9


if __name__ == "__main__":
    main()
