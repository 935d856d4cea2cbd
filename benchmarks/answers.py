"""Top-1, top-3 and MRR of an FAQ's answers on held-out questions, beside BM25 alone, in the same splits.

python -m benchmarks.answers ../shared/data/egret-wenda                    # 5 splits
python -m benchmarks.answers faq.csv --seeds 1,2,3 --set epochs=20         # columns question and answer

A folder is read as the Egret Wenda corpus (Chinese forum questions, one accepted answer each). Answers are ranked among
all of the FAQ, and once more among those that no training question has: nothing is remembered of these.
"""

import argparse
import csv
import json
import tempfile
import time
from pathlib import Path

from conf import load
from recsys.answers.evaluate import BLEND, METRICS, HeldOut, hold_out, with_intervals
from recsys.answers.faq import read_faq
from recsys.answers.settings import AnswersSettings

SEPARATOR = " +++$+++ "


def main() -> None:
    """Measure the splits, and print the table and one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("faq", type=Path)
    parser.add_argument("--seeds", default="1,2,3,4,5")
    parser.add_argument("--set", action="append", default=[], help="a setting of `answers.`, as epochs=20")
    options = parser.parse_args()
    overrides = [f"answers.{text}" for text in (*options.set, f"seeds=[{options.seeds}]")]
    settings = load(overrides=overrides, environment={}).get(AnswersSettings)
    with tempfile.TemporaryDirectory() as folder:
        path = write_egret(options.faq, Path(folder) / "egret.csv") if options.faq.is_dir() else options.faq
        faq, refused = read_faq(path)
    started, cpu = time.perf_counter(), time.process_time()
    held_out = hold_out(faq, settings)
    figures = {f"weight_{name}": weight for name, weight in held_out.weights.items()}
    figures |= table(held_out, settings.channels[0])
    sizes = {"questions": len(faq.questions), "answers": len(faq.answers), "quarantined": len(refused)}
    sizes |= {"held_out": len(held_out.question), "splits": len(settings.seeds)}
    seconds = {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - cpu}
    print(json.dumps(sizes | {name: round(value, 4) for name, value in {**figures, **seconds}.items()}))


def table(held_out: HeldOut, baseline: str) -> dict[str, float]:
    """Print the metrics of every channel and the blend, with 95 % intervals, and return them by name."""
    figures: dict[str, float] = {}
    for scope, ranks in (("all answers", held_out.ranks), ("new answers", held_out.new_ranks)):
        rows = {name: with_intervals(held_out.question, ranks[name]) for name in ranks}
        rows[f"{BLEND} - {baseline}"] = with_intervals(held_out.question, ranks[BLEND], ranks[baseline])
        print(f"\n{scope:<20}" + "".join(f"{name:>28}" for name in METRICS))
        for name, values in rows.items():
            print(f"{name:<20}" + "".join(f"{v:>10.4f} ({lo:.4f}, {hi:.4f})" for v, lo, hi in values.values()))
            for metric, ends in values.items():
                key = f"{scope.split()[0]}_{name.replace(' - ', '_minus_')}_{metric}"
                figures |= {f"{key}{end}": value for end, value in zip(("", "_low", "_high"), ends, strict=True)}
    print()
    return figures


def write_egret(folder: Path, path: Path) -> Path:
    """Write the corpus as one file of columns question and answer."""
    lines = {}
    for line in _records(folder / "egret_wenda_lines.txt"):
        lines[line[0].strip()] = line[2]
    with path.open("w", encoding="utf-8", newline="") as file:
        out = csv.writer(file)
        out.writerow(["question", "answer"])
        for conversation in _records(folder / "egret_wenda_conversations.txt"):
            question, answer = json.loads(conversation[5])
            out.writerow([lines[str(question)], lines[str(answer)]])
    return path


def _records(path: Path) -> list[list[str]]:
    text = path.read_text(encoding="utf-8", errors="replace")
    return [line.split(SEPARATOR) for line in text.split("\n") if line.strip()]


if __name__ == "__main__":
    main()
