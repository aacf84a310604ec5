"""What `keras_ref` exports: the same names for `dir()`, type checkers and at run time; nothing is loaded early."""

import ast
import subprocess
import sys
from pathlib import Path

import keras_ref


def test_every_name_is_found_where_type_checkers_look():
    tree = ast.parse(Path(keras_ref.__file__).read_text(encoding="utf-8"))
    (guarded,) = [node for node in tree.body if isinstance(node, ast.If)]
    typed = {alias.name: node.module for node in guarded.body for alias in node.names}
    assert typed == {name: f"keras_ref.{module}" for name, module in keras_ref._HOMES.items()}
    assert sorted(typed) == keras_ref.__all__
    assert set(keras_ref.__all__) <= set(dir(keras_ref))
    for name, module in typed.items():
        assert getattr(keras_ref, name).__module__ == module


def test_an_unknown_name_is_an_attribute_error():
    assert not hasattr(keras_ref, "check_everything")


def test_importing_loads_neither_tensorflow_nor_hypothesis():
    code = "import sys, keras_ref; dir(keras_ref); print({'tensorflow', 'keras', 'hypothesis'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
