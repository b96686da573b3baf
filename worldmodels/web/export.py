"""Export a bundle as a folder that any web server can show: the dream in the browser."""

from __future__ import annotations

import html
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32

from worldmodels.artifacts import Bundle, claim
from worldmodels.envs.dream import DreamConfig, make_dream, warm
from worldmodels.errors import InputError
from worldmodels.files import save_json, save_text
from worldmodels.web.controls import pads_of, title
from worldmodels.web.graphs import graphs
from worldmodels.web.runtime import runtime_files

PAGE = Path(__file__).parent / "page"
"""The page's own files."""
MANIFEST = "dream.json"
UNFINISHED = ".worldmodels-export-"
"""Begins the name of the temporary folder of an export; a killed one leaves it."""
HORIZON = 1000
"""Steps after which a dream ends, as in `worldmodels play`."""
STARTS = 100
"""Most start windows that a page has."""


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Options of the command."""

    out: str = ""
    """The page's folder: new, empty, or an exported page, whose files are replaced."""


def export_web(name: str | Path, folder: Path) -> None:
    """Writes the page, the networks, the starts, the recordings and the runtime.

    Args:
        name: of a bundle, or its folder.
        folder: new, empty, or an exported page, whose files are replaced.

    Raises:
        InputError: there is no such bundle, or the folder holds other files or cannot be written.
    """
    bundle = Bundle.load(name)
    if bundle.controller.config.senses != "own":
        raise InputError("a page needs an agent whose controller.senses is own")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file: name a folder")
    for left in folder.glob(f"{UNFINISHED}*"):
        shutil.rmtree(left, ignore_errors=True)
    claim(folder / MANIFEST, "world")
    with _filling(folder) as fresh:
        for file in (*PAGE.iterdir(), *runtime_files()):
            shutil.copyfile(file, fresh / file.name)
        for graph, content in graphs(bundle).items():
            (fresh / f"{graph}.onnx").write_bytes(content)
        for place, recording in enumerate(bundle.recordings):
            (fresh / f"reality{place}.webp").write_bytes(recording.film.numpy().tobytes())
        starts = _starts(bundle)
        (fresh / "starts.bin").write_bytes(starts.astype("<f4").tobytes())
        manifest = _manifest(bundle, len(starts))
        index = Template((PAGE / "index.html").read_text(encoding="utf-8"))
        save_text(fresh / "index.html", index.substitute(_texts(bundle, manifest)))
        save_json(fresh / MANIFEST, manifest)


def _manifest(bundle: Bundle, starts: int) -> dict[str, Any]:
    """What the page must know of the bundle; `starts` counts those of recordings too."""
    dream: DreamConfig = make_dream(1, bundle=bundle).config.plain
    M, config = bundle.mdnrnn, bundle.world.config
    pads, rest = pads_of(bundle.world)
    windows = starts - len(bundle.recordings)
    ends = any(head.does("ends") for head in M.heads)
    return {
        "world": bundle.world.config.id,
        "size": bundle.vae.size,
        "rate": bundle.world.fps / config.action_repeat,
        "latent": M.latent_size,
        "hidden": M.config.hidden_size,
        "uniforms": M.uniforms,
        "mixtures": M.config.num_mixtures,
        "pads": [asdict(pad) for pad in pads],
        "rest": rest,
        "temperature": dream.temperature,
        "ends": dream.ends if ends else "none",
        "horizon": HORIZON,
        "windows": windows,
        "recordings": [
            {
                "start": windows + place,
                "film": f"reality{place}.webp",
                "actions": one.actions,
                "rewards": one.rewards,
                "ended": bool(one.ended[0]),
            }
            for place, one in enumerate(bundle.recordings)
        ],
    }


def _texts(bundle: Bundle, manifest: dict[str, Any]) -> dict[str, str]:
    """What is filled into the page: texts, and which parts are hidden for lack of content."""
    rewards = any(head.does("pays") for head in bundle.mdnrnn.heads)
    shown = {
        "return": rewards or bundle.world.config.reward == "constant",
        "reward": rewards,
        "end": manifest["ends"] != "none",
        "compare": manifest["recordings"],
    }
    scores = bundle.about.get("scores")
    score = "In reality this agent returns {mean:.0f} ± {std:.0f} ({episodes} {split} episodes)."
    return {
        "world": html.escape(title(bundle.world)),
        "size": str(bundle.vae.size),
        "rate": f"{manifest['rate']:.3g}",
        "temperature": f"{manifest['temperature']:.2f}",
        "scores": html.escape(score.format(**scores)) if scores else "",
        **{f"no_{part}": "" if there else "hidden" for part, there in shown.items()},
    }


@torch.inference_mode()
def _starts(bundle: Bundle) -> Float32[np.ndarray, "N numbers"]:
    """z, h, c and the restart flag where dreams begin: start windows, then recordings."""
    kept = np.linspace(0, len(bundle.starts) - 1, min(STARTS, len(bundle.starts))).astype(int)
    z, h, c, first = (part[kept] for part in warm(bundle.mdnrnn, bundle.starts))
    rows = [torch.cat([z, h, c, first[:, None]], 1)]
    rows += [torch.cat([one.z, one.h, one.c, torch.zeros(1)])[None] for one in bundle.recordings]
    return torch.cat(rows).numpy()


@contextmanager
def _filling(folder: Path) -> Iterator[Path]:
    """Yields a temporary folder whose files replace those of `folder` when the block succeeds."""
    there = folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=UNFINISHED) as name:
            fresh = Path(name)
            yield fresh
            files = sorted(fresh.iterdir(), key=lambda path: path.name == MANIFEST)
            if not (folder / MANIFEST).exists():  # ours from now on, and incomplete
                save_json(folder / MANIFEST, {"world": None})
            for film in folder.glob("reality*.webp"):  # the new bundle may have fewer
                film.unlink()
            for file in files:
                file.replace(folder / file.name)
    except OSError as error:
        raise InputError(
            f"{folder} cannot be written ({error.strerror or error}): free space or choose another "
            "folder"
        ) from error
    finally:
        if not there and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
