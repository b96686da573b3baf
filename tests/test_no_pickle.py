"""Nothing in the package unpickles: a file from somebody else can run no code."""

import ast
from pathlib import Path

import pytest

import worldmodels

# public data sets of drawings are object arrays: `public_files` reads arrays of numbers out of them
# and refuses everything else, see tests/gallery/test_public_files.py
READER = "public_files.py"
FILES = sorted(p for p in Path(worldmodels.__file__).parent.rglob("*.py") if p.name != READER)
UNPICKLING = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}


def imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name.partition(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").partition(".")[0]


def called(tree):
    """Calls of `load` by torch or numpy, which may unpickle, with their keyword arguments."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("torch.load", "np.load"):
            given = {word.arg: ast.unparse(word.value) for word in node.keywords}
            yield ast.unparse(node.func), given


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_nothing_unpickles(path):
    tree = ast.parse(path.read_text())
    assert not UNPICKLING & set(imported(tree))
    for function, given in called(tree):
        assert function == "np.load", "torch.load unpickles: use worldmodels.files.load_tensors"
        assert given.get("allow_pickle") == "False"
