"""Draw the tree of packages in docs/architecture.md: `python tools/architecture.py [--check]` (`make docs`).

Every folder of code says in the first sentence of its `__init__.py` what lives in it; the page repeats these sentences.
Standard library only.
"""

import ast
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/architecture.md"
BEGIN, END = "<!-- tree: written by `make docs` -->", "<!-- end of tree -->"


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
    lines = [line for package in layers() for line in tree_lines(ROOT / package, 0)]
    return "\n".join([before + BEGIN, "```", *lines, "```", END]) + after


def layers() -> list[str]:
    """The packages from the commands down to what all build on, as the contract of import layers has them."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = pyproject["tool"]["importlinter"]["contracts"]
    packages: list[str] = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    return packages


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
