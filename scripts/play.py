"""Play inside a dream: play.py BUNDLE [--play.field value]; BUNDLE may be a run folder."""

import sys
from dataclasses import dataclass, field

from worldmodels.config import InputError, one_line_errors, parse
from worldmodels.stages.play import PlayConfig, play


@dataclass(frozen=True, kw_only=True)
class Sections:
    """What playing has to know."""

    play: PlayConfig = field(default_factory=PlayConfig)


def main() -> None:
    bundle, argv = sys.argv[1:2], sys.argv[2:]
    if not bundle or bundle[0].startswith("-"):
        bundle, argv = [], sys.argv[1:]
    config, _ = parse(Sections, "Drive, or watch the agent drive: play.py BUNDLE ...", argv)
    if not bundle:
        raise InputError("no bundle is named: play.py BUNDLE, a shipped name, a bundle or a run")
    play(bundle[0], config.play)


if __name__ == "__main__":
    with one_line_errors():
        main()
