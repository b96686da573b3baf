"""The versions that world.json, evaluations and reports record."""

from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

from worldmodels.precision import name_of, product_dtype


def package_versions() -> dict[str, str]:
    """Versions of the packages that scores depend on, and the number type of products here."""
    versions = {"precision": name_of(product_dtype())}
    for name in ("worldmodels-dream", "torch", "numpy", "gymnasium", "box2d", "vizdoom", "cma"):
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions
