"""Serve an exported page on this machine's loopback address."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Annotated, Any

from worldmodels.errors import InputError
from worldmodels.ranges import Range
from worldmodels.run import say
from worldmodels.temporary import using_temporary_folder
from worldmodels.web.export import export_web

ADDRESS = "127.0.0.1"


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """Options of the command."""

    port: Annotated[int, Range(0, 65535)] = 0
    """Port of the loopback address; 0: any free one."""


class _Files(SimpleHTTPRequestHandler):
    """Serves a folder quietly; a browser asks for each file again, since a port has many pages."""

    # the system's own table may call JavaScript text/plain, which browsers do not run
    extensions_map = {  # noqa: RUF012
        **SimpleHTTPRequestHandler.extensions_map,
        **{".js": "text/javascript", ".mjs": "text/javascript", ".webp": "image/webp"},
    }

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: ARG002
        return


@contextmanager
def serving(folder: Path, port: int = 0) -> Iterator[ThreadingHTTPServer]:
    """Yields a server of a folder; `serve_forever` runs it.

    Args:
        folder: what is served.
        port: 0: any free one.

    Raises:
        InputError: the port is taken.
    """
    try:
        server = ThreadingHTTPServer((ADDRESS, port), partial(_Files, directory=str(folder)))
    except OSError as error:
        raise InputError(
            f"--port {port} cannot be used ({error.strerror}): name another, or leave it out"
        ) from error
    with server:
        yield server


def address_of(server: ThreadingHTTPServer) -> str:
    """The page's address."""
    return f"http://{ADDRESS}:{server.server_address[1]}/"


def web(bundle: str | Path, port: int = 0) -> None:
    """Exports a bundle to a temporary folder and serves it until Ctrl-C.

    Raises:
        InputError: there is no such bundle, or the port is taken.
    """
    with using_temporary_folder("web") as temporary:
        folder = temporary / "page"
        with serving(folder, port) as server:  # a taken port is found out before the export
            export_web(bundle, folder)
            say(f"{address_of(server)} shows the dream; Ctrl-C ends it")
            try:
                server.serve_forever()
            except KeyboardInterrupt:
                say("")
