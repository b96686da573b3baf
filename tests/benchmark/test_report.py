"""The benchmark's arithmetic and its tables."""

import json

from benchmark.machine import machine
from benchmark.report import Number, Report, missed
from benchmark.timing import Row, side_by_side

from worldmodels.files import save_json


def row(ratio, target):
    return Row("ours", "theirs", "steps/s", 1000 * ratio, 1000.0, ratio, (1.0, 9.0), target)


def test_both_sides_work_in_turns_and_the_first_round_is_not_counted():
    calls = []
    found = side_by_side(
        "a", "b", "u", lambda: calls.append("a") or 8.0, lambda: calls.append("b") or 2.0, rounds=3
    )
    assert calls == ["a", "b"] * 4
    assert found.spread[0] <= found.ratio <= found.spread[1]
    assert min(found.ours, found.theirs) > 0


def test_tables_and_what_is_missed(tmp_path):
    report = Report(machine(), True)
    report.rows = [row(31.25, 30.0), row(2.0, 2.5), row(1.0, None)]
    report.numbers = [Number("memory", 2.9, "GiB", 3.0), Number("difference", 2.5, "of 255", 2.0)]
    report.growth = {"steps/s by lanes": {"1": 1234.4, "2": 56.7}}
    text = report.to_markdown()
    assert "| ours | theirs | 31,200 steps/s | 1,000 steps/s | **31.2x** | 1 to 9 | 30x |" in text
    assert "| memory | 2.9 GiB | 3 |" in text
    assert "| steps/s by lanes | 1 | 2 |" in text
    assert "|  | 1,230 | 56.7 |" in text
    assert missed(report) == ["ours", "difference"]
    save_json(tmp_path / "benchmark.json", report.to_dict())
    kept = json.loads((tmp_path / "benchmark.json").read_text())
    assert kept["rows"][0]["ratio"] == 31.25
    assert kept["machine"]["cores"] >= 1
    assert kept["machine"]["precision"] in ("bfloat16", "float32")
