"""Unpickles a data set's schema and indexes without letting it do anything else.

`tools/wheel_petastorm.py` puts this file into the Petastorm wheel as `petastorm/safe_pickle.py`. As published, Petastorm
lets any name of `builtins` be called, `eval` among them: reading somebody's data set runs somebody's code. It imports
nothing of Millrace.
"""

import importlib
import io
import pickle
from contextlib import contextmanager
from contextvars import ContextVar

_trusted = ContextVar("petastorm_metadata_is_trusted", default=False)

PLAIN = {
    "builtins": {
        "bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "int", "list", "object", "set", "str",
        "tuple",
    },
    "collections": {"OrderedDict", "defaultdict"},
    "copyreg": {"_reconstructor"},
    "decimal": {"Decimal"},
    "_codecs": {"encode"},
}
# Modules whose classes describe columns and indexes, and functions of numpy that put arrays together.
OF_CLASSES = ("petastorm.codecs", "petastorm.unischema", "petastorm.etl.rowgroup_indexers", "pyspark.sql.types")
OF_NUMPY = {"_reconstruct", "scalar", "_frombuffer"}


@contextmanager
def trust_metadata(is_trusted=True):
    """Within it, schemas may name any class: for data sets that oneself or a friend wrote."""
    token = _trusted.set(is_trusted)
    try:
        yield
    finally:
        _trusted.reset(token)


class SafeUnpickler(pickle.Unpickler):
    """Finds names that a schema needs, and refuses all others."""

    def find_class(self, module, name):
        if _trusted.get():
            return super().find_class(module, name)
        module = {"__builtin__": "builtins", "copy_reg": "copyreg"}.get(module, module)
        if name in PLAIN.get(module, ()):
            return super().find_class(module, name)
        if module in OF_CLASSES:
            candidate = getattr(importlib.import_module(module), name, None)
            if isinstance(candidate, type) and candidate.__module__ == module:
                return candidate
        if module.split(".")[0] == "numpy" and "." not in name:
            candidate = super().find_class(module, name)
            if isinstance(candidate, type) or name in OF_NUMPY:
                return candidate
        raise pickle.UnpicklingError("{}.{} is no part of a schema".format(module, name))


def loads(data):
    """The object in `data`. Raises pickle.UnpicklingError when it needs what no schema needs."""
    return SafeUnpickler(io.BytesIO(data)).load()
