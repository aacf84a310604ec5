"""The names of a target's variables and inputs, as a check names them; `python -m` writes them from another process."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def list_variable_names(model: Any, x: Any, seed: int) -> list[str]:
    """The names of a model's trained variables and float inputs. The model is not run; the data build it if need be.

    Raises: BadInput.
    """
    from keras_ref.errors import errors_as_bad_input
    from keras_ref.evaluation.keras_objects.naming import find_float_inputs, find_path, make_unique
    from keras_ref.inputs.arrays import convert_data
    from keras_ref.inputs.building import build_model
    from keras_ref.inputs.data import draw_inputs

    data = convert_data(draw_inputs(model, seed=seed) if x is None else x)
    with errors_as_bad_input():
        build_model(model, data.x)
    return [*make_unique([find_path(v) for v in model.trainable_variables]), *find_float_inputs(data.tensors().x)]


def main(target: str, seed: str, path: str) -> int:
    """Write the names of a target to a file. Returns the exit status, 2 after a sentence on stderr."""
    from keras_ref.errors import BadInput, CouldNotRun
    from keras_ref.inputs.targets import import_quietly, load_target, quiet_tensorflow

    quiet_tensorflow()
    import_quietly()
    try:
        model, x, *_ = load_target(target)
        names = list_variable_names(model, x, int(seed))
    except (CouldNotRun, BadInput) as error:
        print(f"gradtwin: {error}", file=sys.stderr)  # noqa: T201 (the parent reads it)
        return 2
    Path(path).write_text(json.dumps(names), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
