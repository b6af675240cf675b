"""The frame of the benchmarks, on comparisons that cost nothing; no figure is judged here."""

import importlib

import numpy as np
import pytest
from fake_comparison import comparison, measured


def test_ways_run_in_turns_and_ratios_are_those_of_a_round(
    main, harness, roofline, clock, tmp_path, capsys
):
    calls = []
    made = comparison(harness, roofline, clock, calls=calls)
    assert main(["--rounds=3", f"--out_dir={tmp_path}"], [made]) == 0
    # A first run of each, then rounds, another way first each time; the start is put back before.
    order = ["ours", "peer"] * 2 + ["peer", "ours"] + ["ours", "peer"]
    assert calls == [step for name in order for step in (f"before {name}", name)] + ["close"]

    (record,) = measured(tmp_path)["comparisons"]
    ours, peer = record["ways"]["ours"], record["ways"]["peer"]
    # Sums of a clock that counts in thousands: 1e-9 is far above the rounding.
    np.testing.assert_allclose(ours["rounds_s"], [1, 2, 3], rtol=1e-9)
    np.testing.assert_allclose(ours["quartiles_s"], [1.5, 2.5], rtol=1e-9)
    assert (ours["first_s"], ours["median_s"]) == pytest.approx((10, 2))
    assert ours["compile_s"] == pytest.approx(8)
    np.testing.assert_allclose(peer["rounds_s"], [3, 6, 12], rtol=1e-9)
    # The first run is as it was; of what is multiplied by ten, a tenth is compared with it.
    assert (peer["first_s"], peer["compile_s"]) == pytest.approx((0.9, 0.3))
    ratio = record["ratios"]["peer"]
    np.testing.assert_allclose(ratio["rounds"], [3, 3, 4], rtol=1e-9)
    assert ratio["median"] == pytest.approx(3)
    assert (ratio["goal"], ratio["range"]) == (4.5, pytest.approx([3, 4]))
    # 1e9 bytes take 1 s, 1e9 flops half of it; ours took 2 s.
    assert record["roofline"]["bound"] == "copy bandwidth"
    assert record["roofline"]["share"] == pytest.approx(0.5)

    text = (tmp_path / "benchmarks.md").read_text(encoding="utf-8")
    assert text == capsys.readouterr().out[: len(text)]
    assert "| group.fake | ours | 10 s | 8 s | 2 s | 1.5 s to 2.5 s |  |  |" in text
    peers_row = (
        "| group.fake | peer (× 10) | 900 ms | 300 ms | 6 s | 4.5 s to 9 s | 3 (goal 4.5) | "
    )
    assert peers_row + "3 to 4 |" in text
    assert "- group.fake, absent: absent is not installed" in text
    assert "ours reaches 50 % of that limit" in text
    where = measured(tmp_path)["environment"]
    assert where["versions"]["jax"] and where["threads"]["torch"] and where["device"]
    assert f"jax {where['versions']['jax']}" in text and where["precision"] in text


@pytest.mark.parametrize("theirs", [1.01, np.nan, np.ones(2)])
def test_a_wrong_answer_fails_however_fast(
    main, harness, roofline, clock, tmp_path, capsys, theirs
):
    wrong = comparison(harness, roofline, clock, results={"ours": 1.0, "peer": theirs})
    right = comparison(harness, roofline, clock)
    assert main(["--rounds=2", f"--out_dir={tmp_path}"], [wrong, right]) == 1
    line = "group.fake: wrong answer: " + (
        "results have shapes () and (2,)" if np.ndim(theirs) else "peer: value differs by "
    )
    assert line in capsys.readouterr().err
    failed, done = measured(tmp_path)["comparisons"]
    assert failed["error"] and "ratios" not in failed
    assert not done["error"] and done["ratios"]  # the others are measured all the same
    text = (tmp_path / "benchmarks.md").read_text(encoding="utf-8")
    assert "- **group.fake**: wrong answer: " in text


def test_an_answer_that_is_wrong_in_a_later_round_fails(
    main, harness, roofline, clock, tmp_path, capsys
):
    results = {"ours": 1.0, "peer": 1.0}
    made = comparison(harness, roofline, clock, results=results)
    setup = made.setup

    def drifting(quick, peers):
        prepared = setup(quick, peers)
        run, runs = prepared.ways["peer"].run, []

        def drift():
            runs.append(run())
            return 1.0 if len(runs) < 3 else 2.0

        ways = {**prepared.ways, "peer": harness.Way(drift)}
        return harness.dataclasses.replace(prepared, ways=ways)

    made = harness.dataclasses.replace(made, setup=drifting)
    assert main(["--rounds=3", f"--out_dir={tmp_path}"], [made]) == 1
    assert "peer: value differs by 1, at most 0.001 is right (rounding)" in capsys.readouterr().err


def test_a_crash_costs_its_own_figures_only(main, harness, roofline, clock, tmp_path, capsys):
    def broken(quick, peers):
        raise RuntimeError("no memory\nleft")

    made = harness.Comparison("broken", {"peer": lambda: ""}, broken)
    good = comparison(harness, roofline, clock)
    assert main(["--rounds=1", f"--out_dir={tmp_path}"], [made, good]) == 1
    assert "broken: RuntimeError: no memory left" in capsys.readouterr().err
    assert "ratios" in measured(tmp_path)["comparisons"][1]


def test_without_any_peer_it_is_skipped_and_said(main, harness, tmp_path, capsys):
    def setup(quick, peers):
        raise AssertionError("nothing to compare with")

    reason = harness.installed("no_such_module_here", "bench")
    made = harness.Comparison("alone", {"peer": reason}, setup)
    assert main([f"--out_dir={tmp_path}"], [made]) == 0
    assert "alone: skipped" in capsys.readouterr().err
    line = "- alone, peer: no_such_module_here is not installed (pip install -e '.[bench]')"
    assert line in (tmp_path / "benchmarks.md").read_text(encoding="utf-8")


def test_names_choose_comparisons_and_groups(harness):
    made = [
        harness.Comparison(name, {}, None, brief=name != "steps.lstm_ae")
        for name in ("steps.dense_ae", "steps.lstm_ae", "start")
    ]

    def chosen(*names, brief=False):
        return [c.name for c in harness.choose(made, names, brief=brief)]

    assert chosen(brief=True) == ["steps.dense_ae", "start"]
    assert chosen("steps", brief=True) == ["steps.dense_ae", "steps.lstm_ae"]
    assert chosen() == [c.name for c in made]
    assert chosen("steps") == ["steps.dense_ae", "steps.lstm_ae"]
    assert chosen("start", "steps.lstm_ae") == ["steps.lstm_ae", "start"]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["fronted"], "no benchmark 'fronted'; did you mean frontend?; python -m benchmarks"),
        (["steps.lstm"], "did you mean steps.lstm_ae?"),
        (["--rounds=0"], "--rounds and --threads must be 1 or more"),
    ],
)
def test_a_wrong_request_is_one_line(main, tmp_path, capsys, arguments, line):
    assert main([*arguments, f"--out_dir={tmp_path}"]) == 2
    error = capsys.readouterr().err
    assert line in error and error.count("\n") == 1


def test_every_group_of_the_brief_is_there(main, capsys):
    assert main(["--list"]) == 0
    names = [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()]
    assert len(set(names)) == len(names)
    groups = {name.partition(".")[0] for name in names}
    assert groups >= {"frontend", "metrics", "steps", "fleets", "mixtures", "left_out", "start"}
    assert "end_to_end" in groups


def test_products_are_counted_by_shapes(roofline):
    import jax
    import jax.numpy as jnp

    def scanned(x, k):
        return jax.lax.scan(lambda x, _: (jax.nn.relu(x @ k), None), x, None, length=3)[0]

    # Three products of (4, 5) by (5, 5), two flops each.
    assert roofline.product_flops(scanned, jnp.ones((4, 5)), jnp.ones((5, 5))) == 3 * 2 * 4 * 25

    @jax.jit
    def depthwise(x, k):
        return jax.lax.conv_general_dilated(
            x, k, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=4
        )

    # (2, 4, 4, 4) outputs of nine taps each.
    x, k = jax.ShapeDtypeStruct((2, 8, 8, 4), "float32"), jnp.ones((3, 3, 1, 4))
    assert roofline.product_flops(depthwise, x, k) == 2 * 128 * 9


@pytest.fixture
def metadata():
    return importlib.import_module("benchmarks.metadata")


@pytest.mark.parametrize(
    "stage", ["walk", "index", "summary", "choice", "cache", "description", "layout", "scores",
              "training", "challenge", "evaluate", "bootstrap", "promises", "decisions",
              "recordings", pytest.param("page", marks=pytest.mark.slow)],
)  # fmt: skip
def test_each_stage_of_the_metadata_runs(metadata, stage):
    measured = metadata.measure(stage, 1000)
    assert measured["seconds"] > 0 and measured["peak"] >= measured["base"] > 0


def test_the_metadata_are_a_run_s():
    metadata = importlib.import_module("benchmarks.metadata_stages")
    clips = metadata.make_table(2000)
    assert len(clips) == 2000 and not [*clips.namesakes()]
    assert clips.where(split="train").sum() == 1000
    scores, training = metadata.make_scores(clips), metadata.make_training(clips)
    assert len(scores) == len(training) == 2000 and len({*scores.values("clip")}) == 1000
    assert training.where(unseen=1).sum() == 200
    listed = sum(len(names) for _, names in metadata.listing(2000))
    assert listed == 2000


def test_steep_growth_is_marked(metadata):
    sizes = (10, 100)
    of_sizes = {
        size: {"cpu": size**1.5, "peak": size + 5.0, "base": 5.0, "seconds": 0.0} for size in sizes
    }
    line = metadata.table_of({"index": of_sizes}, sizes)[-1]
    assert line.endswith("| **1.50** | 1.00 |") and "1e+03 s, 105 MiB" in line
