import csv
import json
import re
import wave
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from asd_jax.data import synthetic
from asd_jax.data.layouts import find_clips, scan
from asd_jax.data.synthetic import machine_kinds, machine_sounds, machine_wear
from asd_jax.data.synthetic.takes import KINDS, Settings, handful, machines_of, plan
from asd_jax.errors import UserError
from asd_jax.scoring.state_space import StateSpace

RATE = 16_000


def names(root):
    return sorted(path.relative_to(root).as_posix() for path in Path(root).rglob("*.wav"))


def contents(root):
    return {name: (root / name).read_bytes() for name in names(root)}


def anomalies(root):
    with (root / "anomalies.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def read(path):
    with wave.open(str(path)) as file:
        frames = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        assert file.getsampwidth() == 2
        return frames.reshape(-1, file.getnchannels()), file.getframerate()


def test_states_are_speeds_in_the_names(tmp_path):
    """Each state is one by `data.state`, of training and test clips, of both domains."""
    for year, machine in ((2022, "valve"), (2023, "fan")):
        root = tmp_path / str(year)
        synthetic.synthesize(
            root, year=year, machines=[machine], sections=1, clips=12, duration=2.0, states=3
        )
        speeds = Counter()
        for clip in find_clips(root):
            speeds[dict(clip.attributes)["spd"], clip.split] += 1
        assert {speed for speed, _ in speeds} == {"60", "100", "140"} and min(speeds.values()) >= 2
    space, places = StateSpace.of([f"spd={speed}" for speed in (60, 100, 140) * 3], list(range(9)))
    assert len(set(places)) == 3 and space.place("spd=80") is None


def small(root, **settings):
    return synthetic.synthesize(root, **{"clips": 4, "duration": 2.0, "sections": 1, **settings})


# The challenge's names, written down from its documentation.
ATTRIBUTES = r"_spd_\d+_load_[12]_mic_[12]"
LAYOUTS = [
    (2020, "dev", {"fan": [
        r"dev_data/fan/train/normal_id_00_\d{8}\.wav",
        r"dev_data/fan/test/(normal|anomaly)_id_00_\d{8}\.wav",
    ]}),
    (2020, "eval", {"ToyCar": [
        r"eval_data/ToyCar/train/normal_id_05_\d{8}\.wav",
        r"eval_data/ToyCar/test/id_05_\d{8}\.wav",
    ]}),
    (2021, "dev", {"pump": [
        rf"dev_data/pump/train/section_00_(source|target)_train_normal_\d{{4}}{ATTRIBUTES}\.wav",
        r"dev_data/pump/source_test/section_00_source_test_(normal|anomaly)_\d{4}\.wav",
        r"dev_data/pump/target_test/section_00_target_test_(normal|anomaly)_\d{4}\.wav",
    ]}),
    (2021, "eval", {"valve": [
        rf"eval_data/valve/train/section_03_(source|target)_train_normal_\d{{4}}{ATTRIBUTES}\.wav",
        r"eval_data/valve/source_test/section_03_source_test_\d{4}\.wav",
        r"eval_data/valve/target_test/section_03_target_test_\d{4}\.wav",
    ]}),
    (2022, "dev", {"bearing": [
        rf"dev_data/bearing/train/section_00_(source|target)_train_normal_\d{{4}}{ATTRIBUTES}\.wav",
        rf"dev_data/bearing/test/section_00_(source|target)_test_(normal|anomaly)_\d{{4}}{ATTRIBUTES}"
        r"\.wav",
    ]}),
    (2022, "eval", {"fan": [
        rf"eval_data/fan/train/section_03_(source|target)_train_normal_\d{{4}}{ATTRIBUTES}\.wav",
        r"eval_data/fan/test/section_03_\d{4}\.wav",
    ]}),
    (2023, "eval", {"Vacuum": [
        rf"eval_data/Vacuum/train/section_00_(source|target)_train_normal_\d{{4}}{ATTRIBUTES}\.wav",
        r"eval_data/Vacuum/test/section_00_\d{4}\.wav",
    ]}),
    (2024, "dev", {
        "slider": [
            r"dev_data/slider/train/section_00_(source|target)_train_normal_\d{4}_noAttribute\.wav",
            r"dev_data/slider/test/section_00_(source|target)_test_(normal|anomaly)_\d{4}"
            r"_noAttribute\.wav",
        ],
        "fan": [
            rf"dev_data/fan/train/section_00_(source|target)_train_normal_\d{{4}}{ATTRIBUTES}\.wav",
            rf"dev_data/fan/test/section_00_(source|target)_test_(normal|anomaly)_\d{{4}}{ATTRIBUTES}"
            r"\.wav",
        ],
    }),
    (2026, "dev", {"valveEmu": [
        rf"dev_data/valveEmu/train/section_00_(source|target)_train_normal_\d{{4}}{ATTRIBUTES}\.wav",
        rf"dev_data/valveEmu/test/section_00_(source|target)_test_(normal|anomaly)_\d{{4}}{ATTRIBUTES}"
        r"\.wav",
    ]}),
    (0, "dev", {"pump": [r"pump/id_00/(normal|abnormal)/\d{8}\.wav"]}),
]  # fmt: skip


@pytest.mark.parametrize(("year", "subset", "patterns"), LAYOUTS)
def test_names_are_the_years(tmp_path, year, subset, patterns):
    summary = small(tmp_path, year=year, subset=subset, machines=list(patterns))
    made = names(tmp_path)
    for name in made:
        machine = next(machine for machine in patterns if f"{machine}/" in name)
        assert any(re.fullmatch(pattern, name) for pattern in patterns[machine]), name
    for pattern in sum(patterns.values(), []):
        assert any(re.fullmatch(pattern, name) for name in made), pattern
    # 4 training clips, 8 normal and 8 anomalous test clips a machine.
    assert len(made) == summary.clips == 20 * len(patterns)
    assert len(anomalies(tmp_path)) == summary.anomalies == 8 * len(patterns)
    channels = {0: 8, 2026: 2}.get(year, 1)
    audio, rate = read(tmp_path / made[0])
    assert audio.shape[1] == channels and rate == RATE


@pytest.mark.parametrize("year", [2020, 2021, 2022])
def test_the_index_reads_the_set_back(tmp_path, year):
    small(tmp_path, year=year, machines=["fan"])
    clips = find_clips(tmp_path, year)
    assert len(clips) == 20
    anomalous = {row["path"] for row in anomalies(tmp_path)}
    for clip in clips:
        path = Path(clip.path).relative_to(tmp_path).as_posix()
        assert (clip.label == 1) == (path in anomalous)


def test_clips_of_2025_beside_the_others_are_of_noise_or_of_the_machine(tmp_path):
    """A tenth of the training clips, found by `run`, and without attributes or labels."""
    small(tmp_path, year=2025, machines=["fan", "slider"], clips=20)
    found = scan(tmp_path)
    names = sorted(Path(path).relative_to(tmp_path).as_posix() for path in found.supplemental)
    assert names == [
        f"dev_data/{machine}/supplemental/section_00_{alone}_{i:04}.wav"
        for machine, alone in (("fan", "noise"), ("slider", "machine"))
        for i in range(2)
    ]
    assert {clip.year for clip in found.clips} == {2025}
    assert not found.strays
    listed = (tmp_path / "dev_data/fan/attributes_00.csv").read_text()
    assert "supplemental" not in listed and len(listed.splitlines()) == 1 + len(
        [clip for clip in found.clips if clip.machine == "fan"]
    )


def test_proportions_of_the_domains(tmp_path):
    def trained(year, clips):
        settings = Settings(year, "dev", ("fan",), 1, clips, 0, 10.0, RATE, "default")
        takes = plan(settings)
        return Counter((take.split, take.domain, take.cause is None) for take in takes)

    assert trained(2021, 1003)["train", "source", True] == 1000
    assert trained(2021, 1003)["train", "target", True] == 3
    counts = trained(2022, 1000)
    assert counts["train", "source", True] == 990 and counts["train", "target", True] == 10
    assert counts["test", "source", True] == counts["test", "target", False] == 50
    assert trained(2023, 30)["train", "target", True] == 3


def test_attribute_files_agree_with_the_names(tmp_path):
    small(tmp_path, year=2022, machines=["fan"], clips=12)
    with (tmp_path / "dev_data/fan/attributes_00.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(f"dev_data/{row['file_name']}" for row in rows) == names(tmp_path)
    for row in rows:
        pairs = "_".join(row[f"d{i}{part}"] for i in (1, 2, 3) for part in "pv")
        assert row["file_name"].endswith(f"_{pairs}.wav")
    assert {row["d1p"] for row in rows} == {"spd"}
    source, target = (
        {tuple(row.values())[1:] for row in rows if f"_{domain}_" in row["file_name"]}
        for domain in ("source", "target")
    )
    assert source and target and not source & target


def test_bytes_depend_on_the_seed_alone(tmp_path):
    small(tmp_path / "a", machines=["fan", "valve"], workers=1)
    small(tmp_path / "b", machines=["valve", "fan"], workers=3)
    small(tmp_path / "c", machines=["valve"], clips=6)
    small(tmp_path / "d", machines=["valve"], seed=1)
    a, b, c, d = (contents(tmp_path / name) for name in "abcd")
    assert a == b
    shared = a.keys() & c.keys()
    assert len(shared) == 20 and all(a[name] == c[name] for name in shared)
    assert not any(a[name] == d[name] for name in a.keys() & d.keys())
    assert len(set(a.values())) == len(a)


def test_an_interrupted_synthesis_is_completed(tmp_path):
    small(tmp_path / "whole", machines=["valve"])
    whole = contents(tmp_path / "whole")

    def stop(done, total):
        assert total == 20
        if done == 7:
            raise KeyboardInterrupt

    broken = tmp_path / "broken"
    with pytest.raises(KeyboardInterrupt):
        small(broken, machines=["valve"], workers=1, progress=stop)
    assert not (broken / "anomalies.csv").exists()
    assert 7 <= len(names(broken)) < 20
    first = broken / names(broken)[0]
    first.write_bytes(first.read_bytes()[:100])
    summary = small(broken, machines=["valve"])
    assert 0 < summary.written < 20
    assert contents(broken) == whole
    assert anomalies(broken) == anomalies(tmp_path / "whole")
    assert small(broken, machines=["valve"]).written == 0
    first.unlink()
    assert small(broken, machines=["valve"]).written == 1
    assert contents(broken) == whole


def test_a_set_of_before_there_were_halls_is_completed(tmp_path):
    small(tmp_path, machines=["fan"])
    path = tmp_path / "synthetic.json"
    settings = json.loads(path.read_text())
    del settings["hall"], settings["faults"], settings["far_db"]
    path.write_text(json.dumps(settings))
    before = contents(tmp_path)
    assert small(tmp_path, machines=["fan"]).written == 0
    assert contents(tmp_path) == before
    with pytest.raises(UserError, match="with hall=own, not factory"):
        small(tmp_path, machines=["fan"], hall="factory")


def test_halls_and_faults_change_only_what_they_say(tmp_path):
    small(tmp_path / "own", machines=["valve"], clips=4)
    small(tmp_path / "all", machines=["valve"], clips=4, faults="all")
    small(tmp_path / "factory", machines=["valve"], clips=4, hall="factory", workers=1)
    small(tmp_path / "again", machines=["valve", "fan"], clips=4, hall="factory", workers=3)
    own, every, factory, again = (
        contents(tmp_path / name) for name in ("own", "all", "factory", "again")
    )
    assert own.keys() == every.keys() == factory.keys()
    assert {name for name in own if own[name] != every[name]} < {
        row["path"] for row in anomalies(tmp_path / "all")
    }
    assert not any(own[name] == factory[name] for name in own)
    assert all(factory[name] == again[name] for name in factory)

    rows = anomalies(tmp_path / "all")
    added = [*machine_kinds.FAMILIES["valve"].faults]
    wear = [*machine_wear.CHANGES["valve"]]
    assert [row["cause"] for row in rows] == [*added, *wear, *added[:2]]
    for row in rows:
        assert (row["level_db"] == "") == (row["cause"] in wear)
    assert {row["cause"] for row in anomalies(tmp_path / "factory")} == {*added}


def test_a_folder_of_something_else_is_refused(tmp_path):
    small(tmp_path / "set", machines=["fan"])
    before = (tmp_path / "set/synthetic.json").read_bytes()
    with pytest.raises(UserError, match=r"set holds a synthetic data set with clips=4, not 5"):
        small(tmp_path / "set", machines=["fan"], clips=5)
    assert (tmp_path / "set/synthetic.json").read_bytes() == before
    assert json.loads(before)["machines"] == ["fan"]
    (tmp_path / "other").mkdir()
    (tmp_path / "other/thesis.tex").touch()
    with pytest.raises(UserError, match="other is not empty"):
        small(tmp_path / "other")
    with pytest.raises(UserError, match="thesis.tex"):
        small(tmp_path / "other/thesis.tex")
    (tmp_path / "other/synthetic.json").write_text("[1")
    with pytest.raises(UserError, match="synthetic.json cannot be read"):
        small(tmp_path / "other")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"machines": ["vlave"]}, "no machine 'vlave' in the 2020 dev set: did you mean valve"),
        ({"machines": ["toycar"]}, "did you mean ToyCar"),
        ({"machines": ["gearbox"]}, "it has ToyCar, ToyConveyor, fan, pump, slider, valve"),
        ({"machines": []}, "machines is empty"),
        ({"year": 2019}, "year=2019: give one of 2020"),
        ({"subset": "train"}, "subset=train: give one of dev, eval, both"),
        ({"year": 0, "subset": "eval"}, "subset=eval: give dev"),
        ({"clips": 0}, "clips=0: give a whole number, at least 1"),
        ({"sections": 9}, "sections=9: fan has 4"),
        ({"seed": -1}, "seed=-1"),
        ({"seed": 1.5}, "seed=1.5: give a whole number"),
        ({"clips": "4"}, "clips=4: give a whole number"),
        ({"machines": "f"}, "no machine 'f'"),
        ({"duration": float("nan")}, "duration=nan"),
        ({"duration": 1.0}, "at least 2"),
        ({"difficulty": "hrad"}, "difficulty=hrad: give one of easy, default, hard"),
        ({"hall": "mine"}, "hall=mine: give one of own, factory, loudspeaker"),
        ({"hall": "loudspeaker"}, "year 2020 has one: give year=2026"),
        ({"far_db": -20.0}, "far_db=-20.0 has no effect: only year=2026 has two channels"),
        ({"states": 2}, "states=2: names of year 2020 say no speeds; give year=2022 or later"),
        ({"states": 7, "year": 2022}, "states=7: give 6 at most"),
        ({"states": 0}, "states=0: give a whole number, at least 1"),
        ({"states": 2, "year": 2024, "machines": ["slider"]}, "names of slider say no speeds in"),
        ({"supplemental": 5}, "supplemental=5 has no effect: only year=2025 has such clips"),
        ({"supplemental": -1, "year": 2025, "machines": ["fan"]}, "supplemental=-1: give a whole"),
        ({"year": 2026, "far_db": 3.0, "machines": ["fan"]}, "far_db=3.0: give dB, at most 0"),
        ({"faults": "none"}, "faults=none: give one of added, all"),
        ({"workers": 0}, "workers=0"),
    ],
)
def test_a_wrong_setting_is_one_line_before_any_work(tmp_path, settings, message):
    with pytest.raises(UserError, match=re.escape(message)):
        small(tmp_path / "set", **settings)
    assert not (tmp_path / "set").exists()


def test_a_full_disk_is_one_line(tmp_path, monkeypatch):
    def full(self, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match="no space left on the disk"):
        small(tmp_path, machines=["fan"], workers=1)
    assert names(tmp_path) == []


def test_every_published_machine_has_a_kind():
    for year in (0, *range(2020, 2027)):
        for subset in ("dev", "eval"):
            machines = machines_of(year, subset)
            assert set(machines) <= KINDS.keys()
            assert len(handful(machines)) == (3 if machines else 0)
    assert {kind for kind, _ in KINDS.values()} == machine_kinds.FAMILIES.keys()
    assert handful(machines_of(2020, "dev")) == ("fan", "pump", "valve")


def test_lengths_differ_between_machines(tmp_path):
    small(tmp_path, machines=["ToyCar", "fan"])
    lengths = {name.split("/")[1]: len(read(tmp_path / name)[0]) for name in names(tmp_path)}
    assert lengths == {"ToyCar": 35_200, "fan": 32_000}  # 2.2 s and 2 s


def test_the_level_in_the_listing_is_that_of_the_file(tmp_path):
    small(tmp_path, machines=["pump"])
    row = anomalies(tmp_path)[0]
    assert row["cause"] == "leak" and row["frequency_hz"] == ""
    written = read(tmp_path / row["path"])[0][:, 0] / 32767
    settings = Settings(2020, "dev", ("pump",), 1, 4, 0, 2.0, RATE, "default")
    take = next(take for take in plan(settings) if take.path == row["path"])
    carrier, _ = machine_sounds.render(
        machine_kinds.individual(0, "pump", "pump", "00"),
        take.condition,
        machine_kinds.stream(0, "pump", "00", take.key, "sound"),
        samples=2 * RATE,
        sample_rate=RATE,
    )
    level = 10 * np.log10(np.sum((written - carrier[:, 0]) ** 2) / np.sum(carrier**2.0))
    # 16-bit rounding of a fault some 15 dB below a clip of RMS 0.01 adds less than 0.05 dB.
    assert abs(level - float(row["level_db"])) < 0.05
