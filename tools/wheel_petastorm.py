"""Mend Petastorm for today's pyarrow and numpy, and cure its race that loses rows."""

import base64
import hashlib
import shutil
import zipfile
from pathlib import Path

from wheel_parts import SUFFIX, download, main, replace, substitute

PETASTORM = "0.13.1"
SHA256 = "7d073f01f65ba6b50e05fae8254d0f469881bcaf41ead2028e676517c45bbd1b"  # of the published wheel
HERE = Path(__file__).resolve().parent

# (files, regular expression, replacement): every rule must match in every file it names, or the build stops.
PETASTORM_RULES = [
    # The dataset API that pyarrow 15 removed comes from arrow_legacy.py.
    (
        "reader.py arrow_reader_worker.py py_dict_reader_worker.py etl/dataset_metadata.py etl/rowgroup_indexing.py "
        "etl/petastorm_generate_metadata.py etl/metadata_util.py",
        r"from pyarrow import parquet as pq",
        "from petastorm import arrow_legacy as pq",
    ),
    ("fs_utils.py", r"import pyarrow\n", "from petastorm.arrow_legacy import LocalFileSystem\n"),
    ("fs_utils.py", r"pyarrow\.localfs", "LocalFileSystem()"),
    (
        "utils.py",
        r"from pyarrow\.filesystem import LocalFileSystem",
        "from petastorm.arrow_legacy import LocalFileSystem",
    ),
    ("utils.py", r"import pyarrow\n", "import pyarrow\nimport pyarrow.parquet\n"),
    (
        "spark/spark_dataset_converter.py",
        r"from pyarrow import LocalFileSystem",
        "from petastorm.arrow_legacy import LocalFileSystem",
    ),
    (
        "hdfs/namenode.py",
        r"from pyarrow\.hdfs import HadoopFileSystem\nfrom pyarrow\.lib import ArrowIOError",
        "from fsspec.implementations.arrow import HadoopFileSystem\n\nArrowIOError = OSError",
    ),
    ("hdfs/namenode.py", r"return pyarrow\.hdfs\.connect\(", "return HadoopFileSystem("),
    # fsspec's class has cached properties beside its methods; only methods can be wrapped.
    (
        "hdfs/namenode.py",
        r"inspect\.getmembers\(cls, inspect\.isroutine\)",
        "inspect.getmembers(cls, inspect.isfunction)",
    ),
    # What a data set's metadata may unpickle: see petastorm_safe_pickle.py.
    (
        "etl/legacy.py",
        r"    return RestrictedUnpickler\(io\.BytesIO\(s\)\)\.load\(\)",
        "    from petastorm import safe_pickle\n\n    return safe_pickle.loads(s)",
    ),
    # A batch is a data frame: `in` does not go through its rows.
    (
        "predicates.py",
        r"        return values\[self\._predicate_field\] in self\._inclusion_values\n",
        "        value = values[self._predicate_field]\n"
        "        if hasattr(value, 'isin'):\n"
        "            return value.isin(self._inclusion_values)\n"
        "        return value in self._inclusion_values\n",
    ),
    (
        "predicates.py",
        r"        return not self\._predicate\.do_include\(values\)",
        "        found = self._predicate.do_include(values)\n        return ~found if hasattr(found, 'isin') else not found",
    ),
    # Lists of different lengths stay lists instead of stopping the reader.
    (
        "arrow_reader_worker.py",
        r"            except ValueError:\n                raise RuntimeError\('Length of all values(.|\n)*?in list_of_lists\)\)\)\n",
        "            except ValueError:\n                result_dict[column_name] = list_of_lists\n",
    ),
    # Standard output belongs to the command.
    ("reader.py", r'print\("Cache cleanup complete\."\)', 'logger.debug("Cache cleanup complete.")'),
    # Names that numpy 2 removed.
    ("unischema.py arrow_reader_worker.py", r"np\.unicode_", "np.str_"),
    ("unischema.py", r"np\.string_", "np.bytes_"),
    ("weighted_sampling_reader.py", r"np\.float\)", "np.float64)"),
    ("predicates.py", r"np\.in1d", "np.isin"),
    # The race: all_workers_done() was asked before ventilator.completed(), so what was ventilated between the two
    # was dropped without a word. Asked in this order nothing can come in between: once completed, no item follows.
    (
        "workers_pool/thread_pool.py",
        r"            if self\.all_workers_done\(\):\n.*\n                if not self\._ventilator or self\._ventilator\.completed\(\):\n"
        r"                    raise EmptyResultError\(\)\n",
        "            ventilated_all = not self._ventilator or self._ventilator.completed()\n"
        "            if self.all_workers_done():\n"
        "                if ventilated_all:\n"
        "                    raise EmptyResultError()\n"
        "                sleep(0.001)\n",
    ),
    (
        "workers_pool/thread_pool.py",
        r"from traceback import format_exc\n",
        "from time import sleep\nfrom traceback import format_exc\n",
    ),
    (
        "workers_pool/process_pool.py",
        r"            if self\._ventilated_items == self\._ventilated_items_processed:\n.*\n"
        r"                if not self\._ventilator or self\._ventilator\.completed\(\):\n",
        "            ventilated_all = not self._ventilator or self._ventilator.completed()\n"
        "            if self._ventilated_items == self._ventilated_items_processed:\n"
        "                if ventilated_all:\n",
    ),
    # The dummy pool waits for an item that may never come: completed() can turn true between its two questions.
    (
        "workers_pool/dummy_pool.py",
        r"                while not self\._ventilator_queue:\n                    sleep\(\.1\)\n",
        "                if not self._ventilator_queue:\n                    sleep(0.001)\n                    continue\n",
    ),
]


def mend_petastorm(scratch: Path, python: str) -> Path:
    download(scratch, python, f"petastorm=={PETASTORM}", SHA256, "--only-binary", ":all:")
    tree = scratch / "tree"
    with zipfile.ZipFile(next(scratch.glob("petastorm-*.whl"))) as archive:
        archive.extractall(tree)
    for files, pattern, replacement in PETASTORM_RULES:
        for name in files.split():
            substitute(tree / "petastorm" / name, pattern, replacement)
    shutil.copyfile(HERE / "petastorm_arrow_legacy.py", tree / "petastorm/arrow_legacy.py")
    shutil.copyfile(HERE / "petastorm_safe_pickle.py", tree / "petastorm/safe_pickle.py")
    substitute(tree / "petastorm/__init__.py", rf"__version__ = '{PETASTORM}'", f"__version__ = '{PETASTORM}+{SUFFIX}'")
    for unwanted in (tree / "examples", tree / "petastorm/tests"):
        shutil.rmtree(unwanted, ignore_errors=True)
    old_info, version = tree / f"petastorm-{PETASTORM}.dist-info", f"{PETASTORM}+{SUFFIX}"
    info = old_info.rename(tree / f"petastorm-{version}.dist-info")
    replace(info / "METADATA", f"Version: {PETASTORM}", f"Version: {version}")
    return zip_wheel(tree, info, scratch / f"petastorm-{version}-py3-none-any.whl")


def zip_wheel(tree: Path, info: Path, wheel: Path) -> Path:
    """Zip `tree`, with RECORD written anew: installers refuse a file whose hash does not stand there."""
    record = info / "RECORD"
    record.unlink()
    files = sorted(path for path in tree.rglob("*") if path.is_file())
    lines = []
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in files:
            data, name = path.read_bytes(), path.relative_to(tree).as_posix()
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            lines.append(f"{name},sha256={digest},{len(data)}")
            archive.writestr(name, data)
        name = record.relative_to(tree).as_posix()
        archive.writestr(name, "\n".join([*lines, f"{name},,"]) + "\n")
    return wheel


if __name__ == "__main__":
    main(mend_petastorm, __doc__)
