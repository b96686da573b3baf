"""Writes a bundle again in the present format, with the same weights: renew_bundle.py BUNDLE.

A bundle of an older format is read too. Written again it has checksums.
"""

import sys

from worldmodels.artifacts import Bundle, bundle_folder
from worldmodels.command_line import one_line_errors
from worldmodels.errors import InputError
from worldmodels.files import file_hash


def main() -> None:
    """Renews the bundle that the command line names."""
    if len(sys.argv) != 2:
        raise InputError("name one bundle: scripts/renew_bundle.py BUNDLE")
    folder = bundle_folder(sys.argv[1])
    files = sorted(folder.glob("*.safetensors"))
    before = file_hash(*files)
    Bundle.load(folder).save(folder)
    same = "the same" if file_hash(*files) == before else "OTHER"
    print(f"{folder / 'bundle.json'} is written again; weights, starts and films are {same} bytes")


if __name__ == "__main__":
    with one_line_errors():
        main()
