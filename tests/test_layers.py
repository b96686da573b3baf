"""Holds the floors of the design: a file imports only from floors below its own."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "worldmodels"

FLOORS = [
    {"errors"},
    {"files"},
    {"mixture", "seeding", "run", "figure", "film", "world", "lanes", "precision", "fastmath"},
    {"models", "data", "evolution"},
    {"trained"},
    {"bundle"},
    {"envs"},
    {"agent", "workers", "evaluation", "selection", "replay", "arena", "dreamt_end"},
    {"honesty"},
    {"stages"},
    {"config", "command_line"},
    {"pipeline", "gallery", "web", "benchmark", "study"},
]
INSIDE = ("mixture", "data", "models", "honesty", "gallery", "web", "benchmark", "study")
"""Packages whose files may import each other."""
TIES = {
    ("envs.car_racing", "envs.car_bar"),
    ("envs.car_racing", "envs.car_kernel"),
    ("envs.car_racing", "envs.car_motion"),
    ("envs.car_racing", "envs.car_picture"),
    ("envs.car_kernel", "envs.car_bar"),
    ("envs.car_kernel", "envs.car_picture"),
    ("envs.car_picture", "envs.car_bar"),
    ("envs.real", "envs.shrink"),
    ("envs.real", "envs.take_cover"),
    ("envs.shrink", "envs.shrink_kernel"),
    ("envs.explore", "envs.features"),
    ("envs.single_dream", "envs.dream"),
    ("envs.sensed_dream", "envs.dream"),
    ("evaluation", "workers"),
    ("selection", "evaluation"),
    ("arena", "evaluation"),
    ("arena", "workers"),
    ("config", "command_line"),
}
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def floor_of(module: str) -> int:
    found = [floor for floor, names in enumerate(FLOORS) if module.split(".")[0] in names]
    assert found, f"worldmodels.{module} stands on no floor: enter it in FLOORS"
    return found[0]


def imports_of(path: Path) -> Iterator[str]:
    """All imports of the package's modules, lazy ones inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            names = [node.module or ""]
            if module_file(names[0]).is_dir():
                names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            if name.startswith("worldmodels."):
                yield name.removeprefix("worldmodels.")


def module_file(name: str) -> Path:
    return ROOT / name.replace(".", "/")


def allowed(module: str, other: str) -> bool:
    same = module.split(".")[0] == other.split(".")[0] and module.split(".")[0] in INSIDE
    return same or (module, other) in TIES or floor_of(other) < floor_of(module)


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_imports_go_down(path):
    module = module_of(path)
    wrong = [other for other in imports_of(path) if not allowed(module, other)]
    assert not wrong, f"worldmodels.{module} imports upwards or sideways: {wrong}"


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_files_are_short(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 300


def functions() -> list[tuple[str, int]]:
    """Length of every function in lines, less its docstring."""
    found = []
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body[1:] if ast.get_docstring(node) is not None else node.body
                lines = body[-1].end_lineno - body[0].lineno + 1 if body else 0
                found.append((f"{module_of(path)}.{node.name}", lines))
    return found


def test_functions_are_short():
    found = sorted(functions(), key=lambda entry: entry[1])
    longest = found[-10:]
    assert found[len(found) // 2][1] < 10, longest
    assert found[len(found) * 9 // 10][1] < 30, longest


def test_no_file_for_odds_and_ends():
    assert not [path for path in FILES if path.stem in {"utils", "util", "common", "helpers"}]


def test_importing_is_quick_and_light():
    code = (
        "import sys, gymnasium, worldmodels; "
        "heavy = {'torch', 'cv2', 'Box2D', 'vizdoom', 'pygame', 'cma'} & set(sys.modules); "
        "assert not heavy, heavy; "
        "assert not [m for m in sys.modules if m.startswith('worldmodels.envs')]; "
        "assert gymnasium.spec('worldmodels/Dream-v0').vector_entry_point; "
        "assert gymnasium.spec('worldmodels/CarRacing-v3').max_episode_steps == 1000"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_unknown_names_are_refused():
    import worldmodels

    with pytest.raises(AttributeError, match="nothing"):
        worldmodels.nothing  # noqa: B018
    assert set(dir(worldmodels)) == {"InputError", "__version__", "load"}
