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
    {"errors", "temporary"},
    {"files", "ranges", "seeding"},
    {"schema"},
    {"calls", "device", "precision", "run", "world", "film", "figure"},
    {"kernels", "command_line", "versions"},
    {"cluster"},
    {"workers"},
    {"models"},
    {"data"},
    {"artifacts"},
    {"envs"},
    {"acting"},
    {"stages"},
    {"config"},
    {"diagnostics", "gallery", "play", "web"},
    {"report", "estimate"},
    {"pipeline"},
    {"cli"},
    {"__main__"},
]
"""Packages and files of each floor. Files of one package may import each other, and so may those of
the lowest floors that are single files."""
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
    return module.split(".")[0] == other.split(".")[0] or floor_of(other) < floor_of(module)


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_imports_go_down(path):
    module = module_of(path)
    wrong = [other for other in imports_of(path) if not allowed(module, other)]
    assert not wrong, f"worldmodels.{module} imports upwards or sideways: {wrong}"


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
