"""An inspection in a few lines for the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any


def summary(report: Mapping[str, Any]) -> list[str]:
    """The lines of what inspection.json holds."""
    return [line for part, tell in TELLERS.items() if report.get(part) for line in tell(report)]


def _reconstruction(report: Mapping[str, Any]) -> Iterator[str]:
    row = report["reconstruction"]
    moving, median = (_number(row[name], ".4f") for name in ("moving_error", "median_error"))
    yield (
        f"V: {row['active']} of {row['latents']} latents active, KL {row['kl']:.1f} nats; mean "
        f"square where something moves ({row['moving_share']:.1%}) {moving}, of the median image "
        f"{median}, everywhere {row['error']:.4f}"
    )
    if seen := row["fireballs"]:
        sizes = [f"{_recall(size)} of {size['pixels']} pixels" for size in seen["sizes"]]
        yield f"  fireballs recalled: {_recall(seen)}; {', '.join(sizes)}"


def _recall(row: Mapping[str, Any]) -> str:
    share = "none" if row["recall"] is None else f"{row['recall']:.0%}"
    return f"{share} ({row['count']})"


def _likelihood(report: Mapping[str, Any]) -> Iterator[str]:
    yield "nats per dimension of the real z, predicted some steps ahead:"
    columns = {
        "nll": "M",
        "nll_limit": "M, S → ∞",
        "entropy": "floor",
        "copy_z": "copy z",
        "data_normal": "data's",
        "standard_normal": "N(0, 1)",
    }
    yield " ".join(["  ahead", *(f"{title:>10}" for title in columns.values()), "  windows"])
    for row in report["likelihood"]:
        numbers = " ".join(_number(row[name], "10.3f") for name in columns)
        short = f" ({row['left_out']} too short)" if row["left_out"] else ""
        yield f"  {row['horizon']:5} {numbers}   {row['windows']}{short}"


def _termination(report: Mapping[str, Any]) -> Iterator[str]:
    part = report["termination"]
    raw = part["raw"]
    yield f"the end, predicted over {raw['steps']} steps, of which {raw['observed']:.2%} ended:"
    for name in ("raw", "corrected"):
        row = part[name]
        weight = f" for weight {part['positive_weight']:g}" if name == "corrected" else ""
        yield (
            f"  {name}{weight}: mean {row['predicted']:.2%}, Brier {row['brier']:.5f} "
            f"(no skill {row['no_skill']:.5f}), calibration error {row['ece']:.5f}"
        )


def _pit(report: Mapping[str, Any]) -> Iterator[str]:
    row = report["pit"]
    yield (
        f"PIT of the next z: KS distance {row['ks']:.3f}, "
        f"worst {row['worst_ks']:.3f} (dimension {row['worst_dimension']})"
    )


def _survival(report: Mapping[str, Any]) -> Iterator[str]:
    part = report["survival"]
    kind = "steps survived" if part["kind"] == "survival" else "returns"
    yield (
        f"{kind} in {part['horizon']} steps from {part['starts']} moments ({part['left_out']} left "
        f"out: too soon, or not to be replayed), temperature {part['temperature']:g}:"
    )
    for name, row in part["policies"].items():
        yield f"  {name:10} {_compared(row[part['kind']])}"


def _recorded(report: Mapping[str, Any]) -> Iterator[str]:
    part = report["recorded"]
    yield f"the collecting policy from {part['starts']} moments, beside what was recorded:"
    yield f"  {part['kind']:10} {_compared(part[part['kind']])}"


def _compared(row: Mapping[str, Any]) -> str:
    means = f"dream {row['dream']:8.1f}  reality {row['real']:8.1f}"
    if row["ratio"] is None:
        low, high = row["difference_ci95"]
        return f"{means}  difference {row['difference']:.1f} [{low:.1f}, {high:.1f}]"
    low, high = row["ratio_ci95"]
    return f"{means}  ratio {row['ratio']:.2f} [{low:.2f}, {high:.2f}]"


def _ranking(report: Mapping[str, Any]) -> Iterator[str]:
    row = report["ranking"]
    rho, ceiling = (_number(row[name], ".2f") for name in ("spearman", "ceiling"))
    low, high = (_number(end, ".2f") for end in row["ci95"])
    yield (
        f"ranks of {row['controllers']} controllers in dream and reality: "
        f"ρ {rho} [{low}, {high}], at most {ceiling}"
    )


def _number(value: float | None, form: str) -> str:
    return f"{'-':>{form.partition('.')[0]}}" if value is None else f"{value:{form}}"


TELLERS: dict[str, Callable[[Mapping[str, Any]], Iterator[str]]] = {
    "reconstruction": _reconstruction,
    "likelihood": _likelihood,
    "termination": _termination,
    "pit": _pit,
    "survival": _survival,
    "recorded": _recorded,
    "ranking": _ranking,
}
