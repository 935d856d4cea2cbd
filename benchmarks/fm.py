"""The online FM against Vowpal Wabbit, on the same examples in the same run: `python -m benchmarks.fm [--scale S]`.

500,000 examples (times the scale) of 26 fields with 20,000 values each and of 39 fields with 25,000, Zipf and uniform
values mixed, clicks from a logistic model with pairs. VW reads its binary cache; we read arrays. Only training is
timed, on one core, in one online pass; log loss is progressive (predict, then learn) for both.
"""

import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import best_seconds, report, scale_option
from features.metrics.classification import log_loss
from recsys.fine.csr import Csr
from recsys.fine.fm import OnlineFM
from recsys.fine.parallel import partial_fit_threads
from recsys.settings import FMSettings

SETTINGS = FMSettings(k=8, alpha=0.05, alpha_v=0.02, l1=0.0, l2=1.0, sigma=0.03)


def main() -> None:
    """Measure both sizes, and print the table and one JSON line."""
    scale = scale_option(__doc__)
    rows = int(500_000 * scale)
    rates: dict[str, float] = {}
    figures: dict[str, float] = {}
    for fields, values in ((26, 20_000), (39, 25_000)):
        ids, label = examples(rows, fields, values)
        ours = measure_ours(ids, label)
        theirs = measure_vw(ids, label)
        rates |= {f"{name}, {fields} fields": rate for name, rate in (ours["rates"] | theirs["rates"]).items()}
        figures |= {f"{name}_{fields}": value for name, value in (ours["losses"] | theirs["losses"]).items()}
        figures[f"ratio_to_vw_linear_{fields}"] = (
            ours["rates"]["FM k=8, one core"] / theirs["rates"]["VW --ftrl, linear"]
        )
        if fields == 26:
            one, two, score = (
                ours["rates"][name] for name in ("FM k=8, one core", "FM k=8, two cores", "FM k=8, scoring")
            )
            limit = ours["rates"]["two separate FMs, two cores"]
            figures |= {"two_core_speedup": two / one, "two_core_limit": limit / one, "score_to_learn": score / one}
            figures["ratio_to_vw_linear"] = figures["ratio_to_vw_linear_26"]
            figures |= memory_per_million()
    report(f"Online learning, {rows:,} examples", rates, "examples/s", figures)


def examples(rows: int, fields: int, values: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Draw examples whose clicks follow a factorisation machine with four factors.

    Returns:
        Ids (rows, fields) below fields · values, the first half of the fields with Zipf values, and labels (rows,).
    """
    rng = np.random.default_rng(11)
    # Most values of a log's fields are rare, a few are frequent: that is what Zipf fields are like.
    field_values = rng.integers(0, values, (rows, fields))
    zipf = np.minimum(rng.zipf(1.3, (rows, fields // 2)), values) - 1
    field_values[:, : fields // 2] = zipf
    ids = (field_values + np.arange(fields) * values).astype(np.int32)
    weights = rng.normal(0, 0.15, fields * values).astype(np.float32)
    factors = rng.normal(0, 0.16, (fields * values, 4)).astype(np.float32)
    logit = np.empty(rows, np.float32)
    for start in range(0, rows, 50_000):
        # In blocks: the factors of all rows, (rows, fields, 4), would take hundreds of MB.
        block = ids[start : start + 50_000]
        total = factors[block].sum(axis=1)  # (block, 4)
        pairs = 0.5 * ((total**2).sum(axis=1) - (factors[block] ** 2).sum(axis=(1, 2)))
        logit[start : start + 50_000] = -1.8 + weights[block].sum(axis=1) + pairs
    return ids, (rng.random(rows) < 1 / (1 + np.exp(-logit))).astype(np.float32)


def measure_ours(ids: NDArray[np.int32], label: NDArray[np.float32]) -> dict[str, dict[str, float]]:
    """Examples per second by k, cores and memory settings, and of prediction; and progressive log losses."""
    rows = Csr.one_hot(ids)
    bits = int(np.ceil(np.log2(ids.max() + 1)))
    rates, losses = {}, {}
    variants: dict[str, dict[str, Any]] = {
        "FM k=4": {"k": 4}, "FM k=8": {}, "FM k=16": {"k": 16}, "FM k=8, 16-bit weights": {"weights": "q2.13"},
        "FM k=8, Bloom inclusion": {"inclusion": "bloom"},
    }  # fmt: skip
    for name, update in variants.items():
        settings = SETTINGS.model_copy(update={"bits": bits, **update})
        OnlineFM(settings).partial_fit(rows[:100], label[:100])  # compiles the kernel
        seconds, model, predicted = fit_seconds(settings, lambda model: model.partial_fit(rows, label))
        rates[name if update else "FM k=8, one core"] = len(label) / seconds
        losses[f"log_loss {name}"] = log_loss(label, predicted)
        if not update:
            first = num_lrqfa_rows(len(label))
            losses[f"log_loss {name}, first tenth"] = log_loss(label[:first], predicted[:first])
            seconds, _, _ = fit_seconds(settings, lambda model: partial_fit_threads(model, rows, label, threads=2))
            rates["FM k=8, two cores"] = len(label) / seconds
            rates["two separate FMs, two cores"] = len(label) / separate_fit_seconds(settings, rows, label)
            model.predict(rows[:100])  # compiles the kernel, and builds the scoring table
            rates["FM k=8, scoring"] = len(label) / best_seconds(partial(model.predict, rows))
    return {"rates": rates, "losses": losses}


def fit_seconds(
    settings: FMSettings, fit: Callable[[OnlineFM], NDArray[np.float32]]
) -> tuple[float, OnlineFM, NDArray[np.float32]]:
    """Seconds of the fastest of three fits, each of a new model; the last model and its progressive predictions."""
    durations = []
    for _ in range(3):
        model = OnlineFM(settings)  # not timed: allocating the tables is no training
        started = time.perf_counter()
        predicted = fit(model)
        durations.append(time.perf_counter() - started)
    return min(durations), model, predicted


def separate_fit_seconds(settings: FMSettings, rows: Csr, label: NDArray[np.float32]) -> float:
    """Train a model of its own on each half of the rows, side by side: what two cores can do when nothing is shared."""
    halves = [slice(0, len(label) // 2), slice(len(label) // 2, len(label))]
    durations = []
    for _ in range(3):
        models = [OnlineFM(settings) for _ in halves]
        started = time.perf_counter()
        with ThreadPoolExecutor(2) as pool:
            futures = [
                pool.submit(model.partial_fit, rows[half], label[half])
                for model, half in zip(models, halves, strict=True)
            ]
            for future in futures:
                future.result()
        durations.append(time.perf_counter() - started)
    return min(durations)


def num_lrqfa_rows(rows: int) -> int:
    """A tenth of the rows: VW's factors are slow."""
    return max(rows // 10, 1)


def measure_vw(ids: NDArray[np.int32], label: NDArray[np.float32]) -> dict[str, dict[str, float]]:
    """Measure VW's linear models, by FTRL and by its default rule, and its closest to an FM (--lrqfa), from the cache.

    Its factors diverge under the default rule at every rate that we tried (0.00005 to 0.5) on rows of so many features;
    under FTRL they don't. They are slow, so they are trained on the first tenth of the rows.
    """
    from vowpalwabbit import Workspace

    fields, rows = ids.shape[1], len(label)
    kinds = {
        "VW --ftrl, linear": ("--ftrl", rows),
        "VW linear, -l 0.1": ("-l 0.1", rows),
        "VW --ftrl --lrqfa, k=8": (f"--ftrl --lrqfa {_letters(fields)}8", num_lrqfa_rows(rows)),
    }
    rates, losses = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for name, (options, limit) in kinds.items():
            text = Path(folder) / f"{limit}.txt"
            if not text.exists():
                _write(text, ids[:limit], label[:limit])
            command = f"{options} --loss_function logistic -b 22 -d {text} --cache_file {text}.cache --quiet"
            # Writes the cache, so that parsing text is not timed.
            Workspace(f"--loss_function logistic -b 22 -d {text} --cache_file {text}.cache -k --quiet").finish()
            seconds = []
            for _ in range(3 if limit == rows else 1):
                started = time.perf_counter()
                model = Workspace(command)
                seconds.append(time.perf_counter() - started)
                losses[f"log_loss {name}"] = model.get_sum_loss() / limit
                model.finish()
            rates[name] = limit / min(seconds)
    return {"rates": rates, "losses": losses}


def _letters(fields: int) -> str:
    """A letter per field: VW tells namespaces apart by their first letter, so 52 is the most."""
    return "".join(chr(ord("A") + i) if i < 26 else chr(ord("a") + i - 26) for i in range(fields))


def _write(path: Path, ids: NDArray[np.int32], label: NDArray[np.float32]) -> None:
    """Write VW's text format: a namespace of one letter per field."""
    letters = _letters(ids.shape[1])
    with path.open("w") as out:
        for row, y in zip(ids.tolist(), label.tolist(), strict=True):
            features = " ".join(f"|{letter} {i}" for letter, i in zip(letters, row, strict=True))
            out.write(f"{1 if y else -1} {features}\n")


def memory_per_million() -> dict[str, float]:
    """MB of parameters per million features, in training and in prediction."""
    sizes = {}
    for name, update in (("float32", {}), ("q2.13", {"weights": "q2.13"})):
        model = OnlineFM(SETTINGS.model_copy(update={"bits": 20, **update}))
        sizes[f"mb_per_million_learning_{name}"] = model.memory_bytes / model.size
        sizes[f"mb_per_million_scoring_{name}"] = model.scoring_table().nbytes / model.size
    return sizes


if __name__ == "__main__":
    main()
