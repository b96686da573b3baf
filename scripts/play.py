"""Play inside a dream: play.py BUNDLE [--play.field value]; BUNDLE may be a run folder."""

from dataclasses import dataclass, field

from worldmodels.command_line import leading, one_line_errors, parse
from worldmodels.errors import InputError
from worldmodels.stages.play import PlayConfig, play


@dataclass(frozen=True, kw_only=True)
class Sections:
    """What playing has to know."""

    play: PlayConfig = field(default_factory=PlayConfig)


def main() -> None:
    bundle, flags = leading()
    config, _ = parse(Sections, "Drive, or watch the agent drive: play.py BUNDLE ...", flags)
    if bundle is None:
        raise InputError("no bundle is named: play.py BUNDLE, a shipped name, a bundle or a run")
    play(bundle, config.play)


if __name__ == "__main__":
    with one_line_errors():
        main()
