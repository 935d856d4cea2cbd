"""Mutants of one module, as JSON lines: `uvx --from mutmut==3.8.1 python tools/mutants.py FILE`.

The operators are mutmut's. Left out are those whose mutants nearly always crash, and so flatter the tests: names in
strings, `None` for a value or an argument. Annotations, decorators and log messages are no targets.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import libcst as cst
from libcst import matchers
from libcst.metadata import MetadataWrapper, PositionProvider
from mutmut.mutation import mutators

OPERATORS = (
    (cst.BaseNumber, mutators.operator_number),
    (cst.Name, mutators.operator_name),
    (cst.AugAssign, mutators.operator_augmented_assignment),
    (cst.UnaryOperation, mutators.operator_remove_unary_ops),
    (cst.Call, mutators.operator_arg_removal),
    (cst.Call, mutators.operator_symmetric_string_methods_swap),
    (cst.Call, mutators.operator_unsymmetrical_string_methods_swap),
    (cst.CSTNode, mutators.operator_keywords),
    (cst.CSTNode, mutators.operator_swap_op),
    (cst.Match, mutators.operator_match),
    (cst.IfExp, mutators.operator_if_exp),
)


class Targets(cst.CSTVisitor):
    """Collects each node that may be mutated, with its replacements."""

    METADATA_DEPENDENCIES = (PositionProvider,)

    def __init__(self) -> None:
        self.replacements: list[tuple[int, cst.CSTNode, cst.CSTNode]] = []

    def on_visit(self, node: cst.CSTNode) -> bool:
        is_log = matchers.matches(node, matchers.Call(matchers.Attribute(matchers.Name("log"))))
        if is_log or isinstance(node, cst.Annotation | cst.Decorator):
            return False
        for kind, operator in OPERATORS:
            if isinstance(node, kind):
                line = self.get_metadata(PositionProvider, node).start.line
                self.replacements += [(line, node, new) for new in operator(node) if not _gives_none(node, new)]
        return True


def _gives_none(node: cst.CSTNode, new: cst.CSTNode) -> bool:
    """Whether an argument became None, rather than being dropped."""
    return (
        isinstance(node, cst.Call)
        and isinstance(new, cst.Call)
        and len(node.args) == len(new.args)
        and any(before is not after for before, after in zip(node.args, new.args, strict=True))
    )


def mutants(source: str) -> Iterator[dict[str, object]]:
    wrapper = MetadataWrapper(cst.parse_module(source))
    targets = Targets()
    wrapper.visit(targets)
    for line, node, replacement in targets.replacements:
        mutated = wrapper.module.deep_replace(node, replacement).code
        if mutated != source:
            yield {"line": line, "source": mutated}


if __name__ == "__main__":
    for mutant in mutants(Path(sys.argv[1]).read_text()):
        print(json.dumps(mutant))
