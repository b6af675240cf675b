"""Published official scores: values as printed, counts and sums by source, wrong lines."""

import re
from collections import Counter

import pytest

from asd_jax.config import load_config, shipped_configs
from asd_jax.data.synthetic.takes import machines_of
from asd_jax.errors import UserError
from asd_jax.published.scores import MEANS, Score, load_scores, read_scores

FILES = {
    "asdkit2025": 124,
    "normalisation2026": 15,
    "official2024": 2,
    "rdp2026": 56,
    "systems2026": 64,
}
# In hundredths, so that sums are exact.
SUMS = {
    "asdkit2025": 810_717,
    "normalisation2026": 99_881,
    "official2024": 5925 + 5649,
    "rdp2026": 397_420,
    "systems2026": 453_666,
}


def of_file(name):
    return [n for n in load_scores() if n.where.startswith(f"published/score_tables/{name}.csv:")]


def percent(system, year, subset, metric="score"):
    found = [
        n.percent for n in load_scores(year, subset) if n.system == system and n.metric == metric
    ]
    (text,) = found
    return text


@pytest.mark.parametrize("name", FILES)
def test_counts_and_sums_are_those_of_the_sources(name):
    numbers = of_file(name)
    assert len(numbers) == FILES[name]
    assert sum(round(100 * float(n.percent)) for n in numbers) == SUMS[name]


def test_every_file_is_checked():
    assert len(load_scores()) == sum(FILES.values())


def test_asdkit_s_table():
    """15 systems: 9 with all ten sets and two means, 4 with means alone, 2 on four sets."""
    counts = Counter(n.system for n in of_file("asdkit2025"))
    assert sorted(counts.values()) == [2] * 4 + [4] * 2 + [12] * 9
    assert percent("dis_multispec_scac_trainable", 2020, "dev") == "91.65"
    assert percent("dis_multispec_scac_trainable", 2024, "eval") == "56.73"
    assert percent("raw_spec", 2021, "eval") == "54.92"
    assert percent("ae", 2023, "eval") == "57.80"
    means = {(n.system, n.metric): n.percent for n in load_scores(0) if n.years == "2020-2024"}
    assert means["dis_eat_scac_trainable", "hmean"] == "71.13"
    assert means["dis_spec_featex", "amean"] == "70.44"


@pytest.mark.parametrize("metric", MEANS)
def test_asdkit_s_means_are_those_of_its_sets(metric):
    """To 0.011: half a unit of the last digit of both, and 4 trials' means are averaged first."""
    numbers = of_file("asdkit2025")
    checked = 0
    for mean in (n for n in numbers if n.metric == metric):
        own = [float(n.percent) for n in numbers if n.system == mean.system and n.metric == "score"]
        if len(own) == 10:
            found = sum(own) / 10 if metric == "amean" else 10 / sum(1 / value for value in own)
            assert float(mean.percent) == pytest.approx(found, abs=0.011), mean.system
            checked += 1
    assert checked == 9


def test_scores_of_other_papers():
    assert percent("Direct-ACT, 10 models (LDN paper)", 2023, "eval") == "72.4"
    assert percent("BEAM (band-wise memory, BEATs)", 2024, "dev") == "62.4"
    assert percent("challenge winner (NA-BEATs)", 2026, "eval") == "70.24"
    assert percent("STgram-MFN", 2020, "dev", "auc") == "92.36"
    assert percent("TWFR-GMM", 2022, "eval", "auc_target") == "66.63"
    means = {n.system: n.percent for n in load_scores(0) if n.years == "2020-2025"}
    assert means["Direct-ACT, LDN + VarMin"] == "69.25"
    assert means["BEATs, LDN + VarMin + CED K=64"] == "69.20"


def test_sets_and_scores_are_possible():
    for number in load_scores():
        if number.metric in ("score", *MEANS):
            assert 50 < float(number.percent) < 96, number.where
        if number.metric not in MEANS:
            assert machines_of(number.year, number.subset), number.where


def test_settings_are_those_of_configurations():
    """But for configurations that are to come."""
    to_come = {"direct_act"}
    for number in {(n.configuration, n.settings): n for n in load_scores()}.values():
        if number.configuration in shipped_configs():
            load_config(number.configuration, number.overrides)
        else:
            assert number.configuration in {"", *to_come}, number.where


LINE = "Own 2025,Table 1,own,dense_ae,,no,2020,dev,score,61.5,"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (LINE, "own, 2020, dev, score is in published/score_tables/own.csv:2 already"),
        (LINE.replace("2020", "20x0"), "years '20x0' is no year or range of years"),
        (LINE.replace("2020", "2020-2019"), "years '2020-2019' is no year or range of years"),
        (LINE.replace("2020", "2020-2024"), "score is of one year and of dev or eval"),
        (LINE.replace("dev", "test"), "score is of one year and of dev or eval"),
        (LINE.replace("score", "hmean"), "hmean is over a range of years and the subset all"),
        (LINE.replace("score", "f1"), "metric 'f1' is none of score, auc"),
        (LINE.replace(",no,", ",none,"), "weights 'none' is none of yes, no"),
        (LINE.replace("dense_ae,", ",a=1"), "settings without a configuration"),
        (LINE.replace("dense_ae,", "dense_ae,a"), "settings 'a' is no key=value"),
        (LINE.replace(",own,", ", ,"), "system is empty"),
        (LINE.replace("61.5", "161.5"), "percent '161.5' is no number from 0 to 100"),
        (LINE.replace("61.5", "61,5"), "a line has 11 values"),
    ],
)
def test_a_wrong_line_is_named_where_it_is_read(tmp_path, wrong, message):
    path = tmp_path / "own.csv"
    path.write_text("\n".join([",".join(Score._fields[:-1]), LINE, wrong]) + "\n")
    with pytest.raises(UserError, match=rf"^published/score_tables/own\.csv:3: .*{message}"):
        list(read_scores(path))


def test_a_wrong_heading_is_named(tmp_path):
    path = tmp_path / "own.csv"
    path.write_text("source,table\n")
    message = re.escape("published/score_tables/own.csv:1: the first line must be source,table,s")
    with pytest.raises(UserError, match=message):
        list(read_scores(path))
