"""The benchmark's arithmetic and its tables."""

from benchmark.command import machine, markdown, missed
from benchmark.timing import number, side_by_side


def row(ratio, target):
    return {"what": "ours", "ours": 1000 * ratio, "ratio": ratio, "target": target}


def test_both_sides_work_in_turns_and_the_first_round_is_not_counted():
    calls = []
    found = side_by_side(
        "a", "b", "u", lambda: calls.append("a") or 8.0, lambda: calls.append("b") or 2.0, rounds=3
    )
    assert calls == ["a", "b"] * 4
    assert found["range"][0] <= found["ratio"] <= found["range"][1]
    assert min(found["ours"], found["theirs"]) > 0


def test_tables_and_what_is_missed():
    numbers = [number("memory", 2.9, "GiB", 3.0), number("difference", 2.5, "of 255", 2.0)]
    rows = [row(31.25, 30.0), row(2.0, 2.5), row(1.0, None), *numbers]
    growth = {"steps/s by lanes": {"1": 1234.4, "2": 56.7}}
    report = {"machine": machine(), "seconds": 90.0, "rows": rows, "growth": growth}
    text = " ".join(markdown(report).split())  # without the padding
    assert "1.5 minutes. | what | ours | ratio | target |" in text
    assert "| ours | 31250 | 31.25 | 30 |" in text
    assert "| memory | 2.9 | GiB | 3 |" in text
    assert "steps/s by lanes: | 1 | 2 |" in text
    assert "| 1234 | 56.7 |" in text
    assert missed(rows) == ["ours", "difference"]
    assert report["machine"]["cores"] >= 1
    assert report["machine"]["precision"] in ("bfloat16", "float32")
