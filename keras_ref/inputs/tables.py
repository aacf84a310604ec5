"""Tables with named columns, .csv and .parquet, as the data of a model: which of them are inputs, targets, weights."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_ref.errors import BadInput, CouldNotRun, join_names, shorten_error
from keras_ref.inputs.archives import NUMBER, require_declared
from keras_ref.inputs.targets import load_data
from keras_ref.reports.files import is_plain_file
from keras_ref.supervision.processes import default_memory
from scratch.arrays import Array

#: {end of a file's name: the function of pandas that reads it}
READERS = {".csv": "read_csv", ".parquet": "read_parquet"}
#: {function of pandas: keywords}: the library whose numbers are bounded is the one that reads
READ_WITH = {"read_parquet": {"engine": "pyarrow"}}
WEIGHT = "sample_weight"
#: bytes of an entry in memory: what is packed to fewer becomes a float or an integer of this size
BYTES = 8


@dataclass(frozen=True)
class Table:
    """The columns of a table by their names, in order, and the file that they come from."""

    path: str
    columns: Mapping[str, Array]


def is_table(path: str) -> bool:
    """Whether a file is a table, by its name."""
    return path.lower().endswith((*READERS,))


def read_table(path: str) -> Table:
    """Read a table with pandas, as a whole.

    Raises: CouldNotRun where pandas is missing or cannot read the file, or where the file is larger than memory.
    """
    if not is_plain_file(path):
        raise CouldNotRun(f"--data must name a file. Received: {path}, which is none. Check the path.")
    size, memory = Path(path).stat().st_size, default_memory()
    if memory and size > memory:
        raise CouldNotRun(
            f"A table must fit into memory. Received: {path} of {size / 2**20:,.0f} MiB, for {memory / 2**20:,.0f} "
            "MiB. Pass fewer rows."
        )
    try:
        import pandas as pd
    except ImportError as error:
        raise CouldNotRun(
            f"A table is read with pandas. Received: {path}, and pandas is not installed. Install gradtwin[pandas], or "
            "write an .npz file with numpy.savez(path, x=…, y=…)."
        ) from error
    if path.lower().endswith(".parquet"):
        _require_declared_size(path)
    reader = next(name for end, name in READERS.items() if path.lower().endswith(end))
    try:
        frame = getattr(pd, reader)(path, **READ_WITH.get(reader, {}))
    except Exception as error:
        raise CouldNotRun(
            f"--data must be a table. Received: {path}: {shorten_error(error)} Write it again."
        ) from error
    return Table(path, {str(name): frame[name].to_numpy() for name in frame.columns})


def _require_declared_size(path: str) -> None:
    """Refuse a .parquet file that unpacks to much more than its own size, before it is read. Raises: CouldNotRun."""
    try:
        from pyarrow.parquet import read_metadata
    except ImportError as error:  # another library that pandas may find would read the table whatever it declares
        raise CouldNotRun(
            f"A .parquet table is read with pyarrow. Received: {path}, and pyarrow is not installed. Install "
            "gradtwin[pandas], or write a .csv file."
        ) from error
    try:
        metadata = read_metadata(path)
        # a negative size, which nobody writes, would make up for a large one
        encoded = sum(abs(metadata.row_group(i).total_byte_size) for i in range(metadata.num_row_groups))
    except Exception as error:
        raise CouldNotRun(
            f"--data must be a table. Received: {path}: {shorten_error(error)} Write it again."
        ) from error
    require_declared(path, max(encoded, abs(metadata.num_rows) * metadata.num_columns * BYTES))


def load_data_of(model: Any, path: str) -> tuple[Any, Any, Any]:
    """x, y and sample_weight of the file that --data names, a table or an .npz file, nested as a model takes them.

    Raises: CouldNotRun for a file that cannot be read; BadInput where it does not fit the model.
    """
    from keras_ref.inputs.data import nest_numbered

    if is_table(path):
        return split_table(read_table(path), model)
    x, y, weight = load_data(path)
    return *nest_numbered(model, x, y), weight


def split_table(table: Table, model: Any) -> tuple[Any, Any, Array | None]:
    """(x, y, sample_weight) of a table for a model.

    sample_weight is the column of that name. Targets are the columns y, or y0, y1, …; or of the names of the model's
    outputs. All other columns are the input of a model that has one; of several, each has the column of its name, or
    those of its name and a number.

    Raises: BadInput where an input has no column.
    """
    left = dict(table.columns)
    weight = left.pop(WEIGHT, None)
    # a Sequential model has its outputs in a functional one
    y = _take_target(left, list(getattr(getattr(model, "_functional", None) or model, "output_names", ())))
    names = [str(spec.name) for spec in getattr(model, "inputs", None) or []]
    if len(names) < 2:
        if not left:
            raise BadInput(f"A table must have columns of inputs. Received: {join_names(table.columns)}. Add them.")
        return _join_columns(left.values()), y, weight
    found = {name: _list_columns(left, name) for name in names}
    missing = [name for name, columns in found.items() if not columns]
    if missing:
        raise BadInput(
            f"A table must have a column for each input of the model. Received: {join_names(table.columns)} in "
            f"{table.path}, and none for {join_names(missing)}. Name the columns as the inputs, with numbers "
            "behind for several."
        )
    return [_join_columns(left[column] for column in columns) for columns in found.values()], y, weight


def _take_target(left: dict[str, Array], outputs: list[str]) -> Any:
    """The targets, taken from the columns; None without any."""
    columns = _list_columns(left, "y")
    if columns:
        return _join_columns([left.pop(column) for column in columns])
    found = {name: _list_columns(left, name) for name in outputs}
    if not outputs or not all(found.values()):
        return None
    targets = [_join_columns([left.pop(column) for column in columns]) for columns in found.values()]
    return targets[0] if len(targets) == 1 else targets


def _list_columns(columns: Iterable[str], name: str) -> list[str]:
    """The columns of a name, alone or with numbers, in the order of the numbers."""
    found = [column for column in columns if re.fullmatch(re.escape(name) + NUMBER, column)]
    return sorted(found, key=lambda column: int(column[len(name) :] or -1))


def _join_columns(columns: Iterable[Array]) -> Array:
    """Columns side by side: (samples, columns)."""
    return np.stack(list(columns), axis=-1)
