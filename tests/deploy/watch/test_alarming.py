import json

import numpy as np
import pytest

from asd_jax.deploy.watch.alarming import Alarming
from asd_jax.deploy.watch.scorer import Scored
from asd_jax.deploy.watch.streams import Stream
from asd_jax.deploy.watch.windows import Window
from asd_jax.scoring.alarm_promises import Cadence
from asd_jax.scoring.alarms import AlarmRule
from asd_jax.scoring.conformal import Reference

STREAM = Stream("a", "a", ("fan", ""))


class FakeFitted:
    def __init__(self, threshold=4.0):
        self._threshold = threshold

    def threshold(self, *, machine, section, false_alarms):
        assert (machine, section) == ("fan", None)
        return {None: self._threshold, 0.2: 2.0}[false_alarms]

    def alarm_threshold(self, rule, cadence, most, *, machine, section):
        assert (rule.need, cadence, most) == (1, Cadence(10.0, 5.0), 2.5)
        return 7.0

    def group_reference(self, group, seed):
        return Reference.of([])


def judged(alarming, scores, problems=None):
    """The records of windows of one second, two at a time."""
    records, messages = [], []
    for first in range(0, len(scores), 2):
        some = [*scores[first : first + 2]]
        windows = [
            Window("a", None, 1, first + i, 1.0, "é\udcff.wav", position=first + i)
            for i in range(len(some))
        ]
        said = (problems or [""] * len(scores))[first : first + 2]
        found = alarming.judge(windows, Scored(np.array(some), said))
        records += [json.loads(line) for line in found.lines]
        messages += [json.loads(message["body"]) for message in found.messages]
    return records, messages


def test_two_thresholds():
    alarming = Alarming(
        FakeFitted(), [STREAM], AlarmRule(clear_after=2), {}, clear_false_alarms=0.2
    )
    records, messages = judged(alarming, [1.0, 5.0, 3.0, 3.0, 1.0, 3.0, 2.0, 1.0])
    assert [record["alarm"] for record in records] == [
        "off", "raised", "on", "on", "on", "on", "on", "cleared",
    ]  # fmt: skip
    assert [message["event"] for message in messages] == ["raised", "cleared"]
    assert messages[0]["alarm_id"] == messages[1]["alarm_id"] == records[3]["alarm_id"]
    assert messages[0]["id"] != messages[1]["id"]
    assert messages[0]["score"] == 5.0 and messages[0]["window"] == 2
    assert records[0]["file"] == "é\\xff.wav"  # bytes that are no text
    assert alarming.n_active == 0 and alarming.tallies["a"] == (8, 1, 1, 0)


def test_thresholds_by_alarms_a_month():
    alarming = Alarming(
        FakeFitted(), [STREAM], AlarmRule(), {}, alarms_a_month=2.5, cadence=Cadence(10.0, 5.0)
    )
    records, _ = judged(alarming, [5.0, 8.0])
    assert [record["alarm"] for record in records] == ["off", "raised"]
    assert records[0]["threshold"] == 7.0


def test_windows_without_a_score_count_for_nothing():
    scores = [5.0, np.nan, 5.0, np.nan, 5.0]
    problems = ["", "it has samples that are NaN", "", "too short", ""]
    alarming = Alarming(FakeFitted(), [STREAM], AlarmRule(need=3, among=3), {})
    records, _ = judged(alarming, scores, problems)
    assert [record["alarm"] for record in records] == ["off"] * 4 + ["raised"]
    assert [record["problem"] for record in records] == [text or None for text in problems]
    assert records[1]["score"] is None and records[1]["decision"] is None
    assert not records[1]["exceeds"] and records[0]["exceeds"]
    assert alarming.tallies["a"].unscored == 2


def test_a_run_without_a_threshold():
    alarming = Alarming(FakeFitted(np.nan), [STREAM], AlarmRule(), {})
    (record,), messages = judged(alarming, [1e9])
    assert record["score"] == 1e9 and not messages
    assert record["threshold"] is None and record["decision"] is None and not record["exceeds"]


@pytest.mark.parametrize("among, alarm", [(3, "on"), (4, "off")])
def test_what_is_kept_of_another_rule_is_forgotten(among, alarm):
    rule = AlarmRule(need=1, among=3, clear_after=9)
    first = Alarming(FakeFitted(), [STREAM], rule, {})
    judged(first, [5.0])
    kept = first.kept("a")
    assert kept.windows == 1 and kept.alarm_id and json.loads(json.dumps(kept.alarm)) == kept.alarm
    again = Alarming(
        FakeFitted(), [STREAM], AlarmRule(need=1, among=among, clear_after=9), {"a": kept}
    )
    (record,), _ = judged(again, [1.0])
    assert record["alarm"] == alarm and record["window"] == 2
    assert record["alarm_id"] == (kept.alarm_id if alarm == "on" else None)
