"""Which modules an environment's id may import: a bundle or a run of somebody else may name any.

Importing a module runs its code. So only modules of installed environment packages, and those that
the command line names, are imported without `--trust-env`.
"""

from __future__ import annotations

import os
import re
import sys
from functools import cache
from importlib.metadata import distribution, packages_distributions
from importlib.util import find_spec
from pathlib import Path

from worldmodels.errors import InputError

VARIABLE = "WORLDMODELS_TRUST_ENV"
"""The environment variable with the trusted modules' names, so that child processes inherit it."""
ANY = "*"


def trust(*modules: str) -> None:
    """Lets this process, and those that it starts, import modules; ANY: all of them."""
    os.environ[VARIABLE] = " ".join({*_trusted(), *modules})


def module_of(env_id: str) -> str:
    """The module that an environment's id names; empty: none.

    >>> module_of("my_package.games:Game-v0"), module_of("CarRacing-v3")
    ('my_package.games', '')
    """
    return env_id.rpartition(":")[0]


def check_trusted(env_id: str, field: str = "env.id") -> None:
    """Checks that the module, or the file, of an id may be imported.

    Raises:
        InputError: it is not in an installed environment package, and not trusted.
    """
    module = module_of(env_id)
    package = module if module.endswith(".py") else module.partition(".")[0]
    trusted = {ANY, module, package} & _trusted() or module in sys.modules
    if module and not trusted and not _is_installed(package):
        raise InputError(
            f"{field} is {env_id}: it would import {module} ({_origin(package) or 'not found'}), "
            "which is not an installed environment package and may run any code: add --trust-env "
            "if you trust it"
        )


def _trusted() -> set[str]:
    return set(os.environ.get(VARIABLE, "").split())


def _origin(package: str) -> str | None:
    """The file that importing a package would run first; nothing is imported."""
    if package.endswith(".py"):
        return str(Path(package).resolve())
    try:
        spec = find_spec(package)
    except (ImportError, ValueError):
        return None
    return spec.origin if spec else None


@cache
def _is_installed(package: str) -> bool:
    """Whether it comes from Gymnasium, or from an installed distribution that needs it.

    A folder of the same name that would be imported in its place does not count.
    """
    origin = _origin(package)
    for name in packages_distributions().get(package, []) if origin else []:
        owner = distribution(name)
        needs = [re.split(r"[^\w-]", need)[0].lower() for need in owner.requires or []]
        if {name.lower(), *needs} & {"gymnasium", "gym"}:
            home = Path(str(owner.locate_file(package))).resolve()
            return home in Path(str(origin)).resolve().parents
    return False
