"""Puts configs/ into the wheel; everything else about the package stands in pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithConfigs(build_py):
    """Copies the configs beside the modules, where `worldmodels --config NAME` finds them."""

    def run(self) -> None:
        """Builds the package."""
        super().run()
        if not self.editable_mode:
            shutil.copytree(
                Path(__file__).parent / "configs",
                Path(self.build_lib) / "worldmodels" / "configs",
                dirs_exist_ok=True,
            )


setup(cmdclass={"build_py": BuildWithConfigs})
