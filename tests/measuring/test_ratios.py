"""Ratios that are kept, and what counts as slower or faster; no figure is judged here."""

import importlib
import json

import pytest
from fake_comparison import comparison, measured


@pytest.fixture
def ratios(monkeypatch, tmp_path):
    """The module, with its file in a folder of the test."""
    module = importlib.import_module("benchmarks.ratios")
    path = tmp_path / "ratios.json"
    monkeypatch.setattr(module, "PATH", path)
    monkeypatch.setattr(module.read, "__defaults__", (path,))
    monkeypatch.setattr(module.keep, "__defaults__", (path,))
    return module


def timed(harness, roofline, clock, peer):
    """Ours takes 1 s in each of two rounds; the peer as given, after a first run."""
    return comparison(harness, roofline, clock, seconds={"ours": [1, 1, 1], "peer": [0.1, *peer]})


def test_what_is_kept_is_compared_with(main, harness, roofline, clock, ratios, tmp_path, capsys):
    out = [f"--out_dir={tmp_path / 'out'}", "--rounds=2"]
    # Ten times these seconds count: ratios from 2 to 3.
    assert main([*out, "--keep"], [timed(harness, roofline, clock, [0.2, 0.3])]) == 0
    (kept,) = json.loads(ratios.PATH.read_text(encoding="utf-8")).values()
    entry = kept["group.fake"]["peer"]
    assert (entry["median"], entry["low"], entry["high"], entry["rounds"]) == (2.5, 2, 3, 2)
    assert entry["versions"]["jax"] and entry["date"] and "commit" in entry
    capsys.readouterr()

    cases = [
        ([0.25, 0.32], 0, ""),  # its range touches the one kept
        ([0.17, 0.19], 1, "slower: group.fake beside peer, 1.8 (1.7 to 1.9); kept 2.5 (2 to 3)"),
        ([0.4, 0.5], 0, "faster: group.fake beside peer, 4.5 (4 to 5); kept 2.5 (2 to 3)"),
    ]
    for seconds, status, line in cases:
        made = timed(harness, roofline, clock, seconds)
        assert main([*out, "--compare"], [made]) == status
        error = capsys.readouterr().err
        assert line in error and "1 ratios compared" in error
        assert ("slower" in error or "faster" in error) == bool(line)


def test_keeping_leaves_other_processors_and_benchmarks(
    main, harness, roofline, clock, ratios, tmp_path
):
    one = ratios.Kept(1.0, 0.9, 1.1, 3, "2026-01-01", "abc", {})._asdict()
    others = {"another, 8 cores": {"b": {"peer": one}}}
    ratios.PATH.write_text(json.dumps(others), encoding="utf-8")
    assert (
        main(
            [f"--out_dir={tmp_path / 'out'}", "--rounds=2", "--keep"],
            [timed(harness, roofline, clock, [0.2, 0.3])],
        )
        == 0
    )
    table = ratios.read()
    assert table.pop("another, 8 cores") == others["another, 8 cores"]
    assert len(table) == 1


def test_medians_that_are_close_are_not_told_apart(ratios):
    old = ratios.Kept(2.0, 2.0, 2.0, 1, "2026-01-01", "abc", {})._asdict()
    where = {"device": "1 × cpu (cpu)", "processor": "A", "cores": 2, "commit": "d", "versions": {}}

    def found(ratio):
        record = {
            "name": "b",
            "date": "2026-01-02",
            "error": "",
            "ratios": {"peer": {"rounds": [ratio], "median": ratio, "range": [ratio, ratio]}},
        }
        now = {"environment": where, "comparisons": [record]}
        return [c.slower for c in ratios.changes(now, {"A, 2 cores": {"b": {"peer": old}}})]

    assert (found(1.85), found(2.15)) == ([], [])  # within a tenth
    assert (found(1.75), found(2.25)) == ([True], [False])


@pytest.mark.parametrize("text", ["[]", "{", '{"A": {"b": {"peer": {"median": 1}}}}'])
def test_a_damaged_file_is_one_line(main, ratios, tmp_path, capsys, text):
    ratios.PATH.write_text(text, encoding="utf-8")
    assert main([f"--out_dir={tmp_path / 'out'}"], []) == 2
    error = capsys.readouterr().err
    assert "not a table of ratios" in error and error.count("\n") == 1


def test_figures_of_quick_are_not_kept(main, ratios, tmp_path, capsys):
    assert main(["--quick", "--keep", f"--out_dir={tmp_path}"], []) == 2
    assert "mean nothing and are not kept" in capsys.readouterr().err


def test_resuming_measures_what_is_missing_alone(
    main, harness, roofline, clock, ratios, tmp_path, monkeypatch
):
    module = importlib.import_module("benchmarks.__main__")
    where = module.environment(2)
    monkeypatch.setattr(module, "environment", lambda threads: {**where, "commit": "abc"})
    calls: list[str] = []

    def made():
        first = timed(harness, roofline, clock, [0.2, 0.3])
        second = comparison(harness, roofline, clock, calls=calls)
        second = harness.dataclasses.replace(second, name="group.second")
        return [first, second]

    out = f"--out_dir={tmp_path / 'out'}"
    assert main([out, "--rounds=2", "group.fake"], made()) == 0
    assert not calls
    assert main([out, "--rounds=2", "--resume"], made()) == 0
    assert calls.count("ours") == 3
    names = [record["name"] for record in measured(tmp_path / "out")["comparisons"]]
    assert names == ["group.fake", "group.second"]
    assert main([out, "--rounds=2", "--resume"], made()) == 0
    assert calls.count("ours") == 3  # nothing is measured twice
    # Another commit, or changed files: all is measured again.
    monkeypatch.setattr(module, "environment", lambda threads: {**where, "commit": "abc+"})
    assert main([out, "--rounds=2", "--resume"], made()) == 0
    assert calls.count("ours") == 6
