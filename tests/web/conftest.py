"""Exported pages, and a server for each."""

import functools
import sys
import threading
from contextlib import ExitStack

import pytest

from worldmodels.artifacts import SHIPPED, Bundle
from worldmodels.errors import InputError
from worldmodels.web.runtime import runtime_files
from worldmodels.web.serve import address_of, serving


@pytest.fixture(scope="session")
def runtime():
    """The files of onnxruntime-web; without npm or its registry the test is skipped."""
    try:
        return runtime_files()
    except InputError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def export(runtime):
    """Writes a bundle's page with `worldmodels export-web`, in this process."""
    from worldmodels.cli import main

    def write(bundle, folder):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["worldmodels"])
            main(["export-web", str(bundle), "--out", str(folder)])
        return folder

    return write


@pytest.fixture(scope="session")
def page_of(export, tmp_path_factory):
    """The page of a shipped bundle, exported once."""
    return functools.cache(lambda name: export(name, tmp_path_factory.mktemp(name) / "page"))


@pytest.fixture
def exported(page_of):
    """The page of Doom."""
    return page_of("take_cover")


@pytest.fixture(params=sorted(folder.name for folder in SHIPPED.iterdir()))
def shipped(request, page_of):
    """A shipped bundle, and its page."""
    return Bundle.load(request.param), page_of(request.param)


@pytest.fixture
def visit(browser):
    """Opens an exported folder in a fresh browser; fails at the end if the console has errors."""
    opened = []

    def open_(folder, width=1440, height=900, **options):
        server = stack.enter_context(serving(folder))
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        stack.callback(server.shutdown)
        size = {"width": width, "height": height}
        page = browser.new_page(viewport=size, **options)
        stack.callback(page.close)
        page.lines, page.asked = [], []
        page.on("console", lambda line: line.type == "error" and page.lines.append(line.text))
        page.on("pageerror", lambda error: page.lines.append(str(error)))
        page.on("request", lambda request: page.asked.append(request.url))
        page.address = address_of(server)
        page.goto(page.address)
        page.wait_for_selector("#driver:enabled", timeout=60_000)
        opened.append(page)
        return page

    with ExitStack() as stack:
        yield open_
        for page in opened:
            assert page.lines == []
            assert all(url.startswith((page.address, "data:")) for url in page.asked)
