"""P-values, other rates and promises, from the rows of score files."""

import numpy as np
import pytest

from asd_jax.errors import UserError
from asd_jax.evaluation.promises import (
    decided_anew,
    promise_lines,
    references_of,
    with_p_values,
)
from asd_jax.evaluation.results import (
    ScoreRow,
    TrainingRow,
    read_scores_csv,
    read_training_csv,
    write_scores_csv,
    write_training_csv,
)

SCORES = np.float32(np.random.default_rng(0).normal(5, 1, 19))


def training(machine="fan", scores=SCORES, seed=0, section="00", by_section=1, groups=None):
    groups = groups or [""] * len(scores)
    return [
        TrainingRow(machine, section, "", seed, f"{i}.wav", score, 1, 1, group, by_section)
        for i, (score, group) in enumerate(zip(scores, groups, strict=True))
    ]


def test(machine="fan", scores=(9.0, 5.0, 1.0), seed=0, section="00", threshold=6.0):
    return [
        ScoreRow(machine, section, "", seed, f"t{i}.wav", -1, np.float32(score), threshold, 0)
        for i, score in enumerate(scores)
    ]


test.__test__ = False  # rows of test clips, no test


def test_p_values_are_by_the_seed_and_the_machine():
    rows = [*test(), *test(seed=1), *test("pump", section="02"), *test("valve")]
    known = [
        *training(),
        *training(seed=1, scores=SCORES + 10),
        *training("pump", section="00", by_section=0),
        *[row._replace(unseen=0) for row in training("valve")],
    ]
    found = np.array([row.p_value for row in with_p_values(rows, known)]).reshape(4, 3)
    for own, scores in zip(found, (SCORES, SCORES + 10, SCORES), strict=False):
        expected = [(1 + np.sum(scores >= score)) / 20 for score in (9, 5, 1)]
        np.testing.assert_allclose(own, expected, rtol=1e-12)
    assert np.isnan(found[3]).all()


def test_a_threshold_that_is_a_score_is_none_above_itself_also_from_files(tmp_path):
    """The shortest decimals of a float32 are not its number."""
    rows, known = test(threshold=float(np.sort(SCORES)[-2])), training()
    write_scores_csv(tmp_path / "scores.csv", rows)
    write_training_csv(tmp_path / "training.csv", known)
    read = read_scores_csv(tmp_path / "scores.csv"), read_training_csv(tmp_path / "training.csv")
    for some in ((rows, known), read):
        (line,) = promise_lines(*some, clip_seconds=10)
        assert line.startswith("fan 00: by 19 normal clips, at most 10 % false alarms on average")
        assert "so 864 a day if a clip of 10 s follows another; no p-value below 1/20" in line
        decided = decided_anew(*some, 0.1)
        assert {row.threshold for row in decided} == {rows[0].threshold}
        assert [row.decision for row in decided] == [1, 0, 0]


def test_alike_promises_share_a_line_and_groups_count():
    groups = [f"day {i // 4}" for i in range(19)]
    known = [*training(), *training("pump"), *training("valve", groups=groups)]
    rows = [*test(), *test("pump"), *test("valve", threshold=50.0)]
    lines = promise_lines(rows, known)
    assert len(lines) == 2
    assert lines[0].startswith("fan 00, pump 00: by 19 normal clips, ") and "a day" not in lines[0]
    assert lines[1].startswith("valve 00: by 5 groups of normal clips, at most 16.7 % ")


def test_a_rate_that_cannot_be_promised_is_one_line():
    with pytest.raises(UserError, match=r"fan 00: 19 normal clips promise at most 5 %.* ask for 0"):
        decided_anew(test(), training(), 0.01)
    seen = [row._replace(unseen=0) for row in training()]
    with pytest.raises(UserError, match="fan 00: no normal clip was kept apart"):
        decided_anew(test(), seen, 0.1)
    assert promise_lines(test(), seen) == []
    with pytest.raises(UserError, match="did not score the same clips"):
        references_of([*training(), *training(seed=1, scores=SCORES[:3])])
