"""Draw the tree of packages in docs/architecture.md: `python tools/architecture.py [--check]` (`make docs`).

Every folder of code says in the first sentence of its `__init__.py` what lives in it; the page repeats these sentences.
Standard library only.
"""

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/architecture.md"
BEGIN, END = "<!-- tree: written by `make docs` -->", "<!-- end of tree -->"
# From the commands down to what everything builds on, as the import layers have it.
PACKAGES = ("dags", "tuning", "recsys", "training", "features", "etl", "conf")


def main() -> None:
    """Write the section, or with `--check` exit 1 when it is not what the tree says."""
    page = PAGE.read_text(encoding="utf-8")
    fresh = with_tree(page)
    if "--check" not in sys.argv:
        PAGE.write_text(fresh, encoding="utf-8")
    elif fresh != page:
        sys.exit(f"{PAGE.relative_to(ROOT)} is not what the tree says: run `make docs`")


def with_tree(page: str) -> str:
    """The page with the section of the tree made anew. Raises ValueError when a folder does not say what it holds."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    lines = [line for package in PACKAGES for line in tree_lines(ROOT / package, 0)]
    return "\n".join([before + BEGIN, "```", *lines, "```", END]) + after


def tree_lines(folder: Path, depth: int) -> list[str]:
    """A line for the folder and those below it: its name, indented, and its sentence."""
    name = "  " * depth + folder.name + "/"
    lines = [f"{name:<18} {sentence_of(folder)}"]
    for child in sorted(path.parent for path in folder.glob("*/__init__.py")):
        lines += tree_lines(child, depth + 1)
    return lines


def sentence_of(folder: Path) -> str:
    """The first line of the folder's docstring."""
    text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8")))
    if not text:
        raise ValueError(f"{folder.relative_to(ROOT)}/__init__.py does not say what lives in the folder")
    return text.splitlines()[0]


if __name__ == "__main__":
    main()
