"""The versions and circumstances that world.json, evaluations and reports record."""

from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from worldmodels.precision import name_of, product_dtype
from worldmodels.run import command, cores


def package_versions() -> dict[str, str]:
    """Versions of the packages that scores depend on, and the number type of products here."""
    versions = {"precision": name_of(product_dtype())}
    for name in ("worldmodels-dream", "torch", "numpy", "gymnasium", "box2d", "vizdoom", "cma"):
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions


def circumstances() -> dict[str, Any]:
    """The command, processor cores and versions that made a result."""
    return {"command": command(), "cores": cores(), "versions": package_versions()}
