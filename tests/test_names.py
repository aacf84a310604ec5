"""Names: functions are verbs; somebody's scratch.py and gradtwin's package scratch are both themselves wherever met."""

import ast
import os
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import pytest

import keras_ref
import scratch

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "keras_ref").rglob("*.py"))
LOADS = "keras_ref.own_modules"
WORDS = tomllib.loads((Path(__file__).parent / "function_names.toml").read_text(encoding="utf-8"))
PUBLIC = {*scratch.__all__, *keras_ref.__all__}


def functions(node, owner=""):
    """(qualified name, definition) of the functions of a module and the methods of its classes."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield owner + child.name, child
        elif not isinstance(child, ast.expr):
            yield from functions(child, f"{child.name}." if isinstance(child, ast.ClassDef) else owner)


def reasons(path, name, function):
    """Why a function may have its name: (table, entry) of function_names.toml, or what Python or __all__ demands."""
    place = str(path.relative_to(ROOT))
    if function.name.startswith(("__", "_repr_", "pytest_")) or function.name in PUBLIC:
        yield "demanded", function.name
    words = function.name.strip("_").split("_")
    places = [i for i, word in enumerate(words) if i and word in WORDS["prepositions"].split()]
    quantity = words[places[0] - 1 if places else -1]
    decorators = {n.id for d in function.decorator_list for n in ast.walk(d) if isinstance(n, ast.Name)}
    decorators |= {n.attr for d in function.decorator_list for n in ast.walk(d) if isinstance(n, ast.Attribute)}
    for table, found in (("verbs", words[0]), ("conversions", words[0]), ("quantities", quantity)):
        if found in WORDS[table].split():
            yield table, found
    matches = {
        "contracts": {function.name}.__contains__,
        "decorators": decorators.__contains__,
        "files": place.startswith,
        "functions": {f"{place}:{name}"}.__contains__,
    }
    for table, is_match in matches.items():
        yield from ((table, one) for one in listed(table) if is_match(one))


def listed(table):
    """The entries of a table of exceptions, without their reasons."""
    return {one for line in WORDS[table].values() for one in line.split()}


@pytest.mark.sampled
def test_functions_are_verbs():
    """Or named by the quantity that they compute, or listed with a reason; no exception is left that nothing needs."""
    found = {
        f"{path.relative_to(ROOT)}:{name}": list(reasons(path, name, function))
        for room in ("scratch", "keras_ref")
        for path in sorted((ROOT / room).rglob("*.py"))
        for name, function in functions(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert [place for place, why in found.items() if not why] == []
    used = {reason for why in found.values() for reason in why}
    assert {(t, one) for t in ("contracts", "decorators", "files", "functions") for one in listed(t)} <= used


@pytest.mark.parametrize("name", ["named", "_row", "table_html", "shown", "lines_of_report"])
def test_a_name_that_is_no_verb_is_found(name):
    function = ast.parse(f"def {name}(): ...").body[0]
    assert list(reasons(ROOT / "scratch" / "model.py", name, function)) == []


def imports(path):
    """(module, names) of the imports of a file, those at the top of it first."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in sorted(ast.walk(tree), key=lambda node: node not in tree.body):
        if isinstance(node, ast.ImportFrom):
            yield node.module, [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            yield from ((alias.name, []) for alias in node.names)


def rooms_that_load():
    return {path.parent.name for path in MODULES if path.name == "__init__.py" and (LOADS, []) in imports(path)}


@pytest.mark.sampled
@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_taken_from_the_bare_name(path):
    found = list(imports(path))
    if path.stem == "own_modules":
        return
    assert "scratch" not in [module for module, _ in found]
    if any(str(module).startswith("scratch.") for module, _ in found):
        # the first import of such a module loads the package: its room's own, or that of another room
        rooms = {path.relative_to(ROOT / "keras_ref").parts[0]}
        rooms |= {str(module).split(".")[1] for module, _ in found if str(module).startswith("keras_ref.")}
        assert rooms & (rooms_that_load() | {"own_modules"})


THEIRS = "WHO = 'theirs'\n"
MEETINGS = {
    "theirs comes later": """
        import keras_ref.reports, sys
        from scratch.registry import names
        assert "scratch" not in sys.modules and "Dense" in names("layer")
        import scratch
        assert scratch.WHO == "theirs"
        from scratch.layers.core import Dense
        assert Dense.__name__ == "Dense" and sys.modules["scratch"] is scratch
    """,
    "theirs comes first": """
        import scratch, sys
        import keras_ref.reports
        from scratch.registry import names
        assert "Dense" in names("layer") and scratch.WHO == "theirs" and sys.modules["scratch"] is scratch
        from keras_ref.own_modules import registry
        assert registry.names is names
    """,
}


@pytest.mark.sampled
@pytest.mark.parametrize("kind", ["scratch.py", "scratch/__init__.py"])
def test_both_are_themselves(tmp_path, kind):
    (tmp_path / kind).parent.mkdir(exist_ok=True)
    (tmp_path / kind).write_text(THEIRS)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    for meeting in MEETINGS.values():
        code = textwrap.dedent(meeting)
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment, cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr


def test_ours_is_found_where_there_is_no_other():
    code = """
        import keras_ref.reports, sys
        before = sys.modules["scratch.registry"]
        import scratch, scratch.registry
        assert scratch.registry is before and scratch.Model.__module__ == "scratch.model"
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, env=environment)


def test_namesakes_that_cannot_be_told_apart_are_refused(gradtwin):
    """In one sentence, before anything of theirs is run."""
    target = gradtwin.write_module("namesake_shop", "raise RuntimeError('run')")
    package = gradtwin.folder / "scratch"
    package.mkdir()
    for name in ("__init__.py", "model.py", "own.py"):
        (package / name).write_text("raise RuntimeError('run')")
    status, out, err = gradtwin("check", target)
    assert (status, out) == (2, "")
    assert err == (
        f"gradtwin: A package called scratch must not have modules that gradtwin's own has. Received: {package} with "
        "model. Rename the package or these modules.\n"
    )
    (package / "model.py").unlink()
    (gradtwin.folder / "keras_ref.py").write_text("raise RuntimeError('run')")
    status, out, err = gradtwin("check", target)
    assert (status, out) == (2, "")
    assert err == (
        "gradtwin: No module but gradtwin's own may be called keras_ref. Received: "
        f"{gradtwin.folder}/keras_ref.py. Rename it.\n"
    )


USERS = """
import keras
import scratch
assert scratch.WHO == "theirs"

class Doubled(keras.layers.Layer):
    def call(self, x):
        import scratch
        assert scratch.WHO == "theirs"
        return 2 * x

def build():
    import scratch
    assert scratch.WHO == "theirs"
    model = keras.Sequential([keras.Input((3,)), Doubled(), keras.layers.Dense(1)])
    model.compile(loss="mse")
    return model

def test_it(check_gradients):
    import numpy, scratch
    rows = numpy.arange(6.0).reshape(2, 3)
    assert check_gradients(build(), rows, rows[:, :1]) and scratch.WHO == "theirs"
"""
PYTEST = ("pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider", "--gradtwin", "test_shop:build", "test_shop.py")


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ("-P", "-m", "keras_ref", "check", "test_shop:build"),
        ("-m", "keras_ref", "check", "test_shop:build", "--isolate"),
        ("-m", "keras_ref", "compare", "test_shop:build", "test_shop:build"),
        ("-m", *PYTEST),
        ("-m", *PYTEST, "--gradtwin-isolate"),
    ],
    ids=" ".join,
)
def test_every_front_beside_a_scratch_of_theirs(tmp_path, words):
    (tmp_path / "scratch.py").write_text(THEIRS)
    (tmp_path / "test_shop.py").write_text(USERS)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, check=False, cwd=tmp_path, env=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_face_has_the_public_names():
    import gradtwin

    assert gradtwin.__all__ == keras_ref.__all__ and set(keras_ref.__all__) < set(dir(gradtwin))
    assert all(getattr(gradtwin, name) is getattr(keras_ref, name) for name in gradtwin.__all__)
    assert gradtwin.__version__ and not hasattr(gradtwin, "check_everything")
    assert scratch.registry.names is not None
