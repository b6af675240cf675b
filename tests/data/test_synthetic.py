import csv
import dataclasses
import json
import re
import wave
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import scipy.signal

from asd_jax.data import machine_faults, machine_kinds, machine_sounds, machine_wear, synthetic
from asd_jax.data.layouts import find_clips
from asd_jax.data.synthetic_layouts import KINDS, handful, machines_of
from asd_jax.errors import UserError

RATE = 16_000
CAUSES = [
    (family, cause) for family, kind in machine_kinds.FAMILIES.items() for cause in kind.faults
]


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


def test_proportions_of_the_domains(tmp_path):
    def trained(year, clips):
        settings = synthetic.Settings(year, "dev", ("fan",), 1, clips, 0, 10.0, RATE, "default")
        takes = synthetic.plan(settings)
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
    del settings["hall"], settings["faults"]
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
        ({"subset": "train"}, "subset=train: give dev or eval"),
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
        ({"hall": "mine"}, "hall=mine: give one of own, factory"),
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


def render(family, cause=None, section="00", seconds=6, key="x", condition=None, **options):
    return machine_sounds.render(
        machine_kinds.individual(0, family, family, section),
        condition or machine_kinds.Condition(),
        machine_kinds.stream(0, key),
        samples=seconds * RATE,
        sample_rate=RATE,
        cause=cause,
        fault_rng=machine_kinds.stream(0, key, "fault"),
        **options,
    )


def decibel(ratio):
    return 10 * np.log10(ratio)


@pytest.mark.parametrize(("family", "cause"), CAUSES)
def test_the_stated_level_is_the_level(family, cause):
    carrier, none = render(family)
    recording, fault = render(family, cause)
    assert none is None and fault.cause == cause
    level = decibel(
        np.sum((recording - carrier).astype(float) ** 2) / np.sum(carrier.astype(float) ** 2)
    )
    # float32 samples of size 0.01: rounding is 140 dB below, the sums are float64.
    assert abs(level - fault.level_db) < 0.01
    if cause != "missing stroke":
        typical = machine_kinds.FAMILIES[family].faults[cause]
        assert abs(fault.level_db - typical) <= 4.0
        _, easy = render(family, cause, level_offset_db=6.0)
        assert easy.level_db == pytest.approx(fault.level_db + 6, abs=1e-6)


def test_the_level_in_the_listing_is_that_of_the_file(tmp_path):
    small(tmp_path, machines=["pump"])
    row = anomalies(tmp_path)[0]
    assert row["cause"] == "leak" and row["frequency_hz"] == ""
    written = read(tmp_path / row["path"])[0][:, 0] / 32767
    settings = synthetic.Settings(2020, "dev", ("pump",), 1, 4, 0, 2.0, RATE, "default")
    take = next(take for take in synthetic.plan(settings) if take.path == row["path"])
    carrier, _ = machine_sounds.render(
        machine_kinds.individual(0, "pump", "pump", "00"),
        take.condition,
        machine_kinds.stream(0, "pump", "00", take.key, "sound"),
        samples=2 * RATE,
        sample_rate=RATE,
    )
    level = decibel(np.sum((written - carrier[:, 0]) ** 2) / np.sum(carrier**2.0))
    # 16-bit rounding of a fault some 15 dB below a clip of RMS 0.01 adds less than 0.05 dB.
    assert abs(level - float(row["level_db"])) < 0.05


def difference(family, cause, **options):
    carrier, _ = render(family, **options)
    recording, fault = render(family, cause, **options)
    return (recording - carrier)[:, 0].astype(float), carrier[:, 0].astype(float), fault


def strongest_hz(signal, above=5.0):
    spectrum = np.abs(np.fft.rfft(signal * np.hanning(signal.size))) ** 2
    hz = np.fft.rfftfreq(signal.size, 1 / RATE)
    return hz[np.argmax(np.where(hz > above, spectrum, 0))]


@pytest.mark.parametrize("family", ["fan", "slider", "toy"])
def test_a_whine_is_a_line_at_its_frequency(family):
    added, _, fault = difference(family, "whine")
    assert 900 <= fault.frequency_hz <= 3520
    lines = [fault.frequency_hz, 2 * fault.frequency_hz]  # a resonance may favour the octave
    # The line wanders by up to 0.15 %.
    assert min(abs(strongest_hz(added) / line - 1) for line in lines) < 0.002


@pytest.mark.parametrize(
    ("family", "cause"), [("fan", "bearing"), ("gearbox", "knock"), ("fan", "rub")]
)
def test_impacts_recur_at_the_stated_rate(family, cause):
    added, _, fault = difference(family, cause)
    envelope = np.abs(scipy.signal.hilbert(added))
    envelope -= envelope.mean()
    spectrum = np.abs(np.fft.rfft(envelope * np.hanning(envelope.size))) ** 2
    hz = np.fft.rfftfreq(envelope.size, 1 / RATE)
    # The speed wanders by 0.5 %; the rate's line is 20 dB above the floor around it.
    near = np.abs(hz / fault.frequency_hz - 1) < 0.02
    around = (np.abs(hz / fault.frequency_hz - 1) < 0.2) & ~near
    assert decibel(spectrum[near].max() / np.median(spectrum[around])) > 20


def test_an_imbalance_is_at_the_shafts_orders():
    added, _, fault = difference("fan", "imbalance")
    order = strongest_hz(added) / fault.frequency_hz
    assert abs(order - round(order)) < 0.02 and round(order) in (1, 2, 3)


def test_a_leak_is_high_and_steady():
    added, carrier, _ = difference("valve", "leak")

    def share_above(signal, low):
        hz, power = scipy.signal.welch(signal, RATE, nperseg=1024)
        return power[hz > low].sum() / power.sum()

    assert share_above(added, 1000) > 0.9 > share_above(carrier, 1000)
    frames = decibel(np.mean(added.reshape(-1, 1600) ** 2, axis=1))  # 0.1 s each
    assert frames.std() < 1.0


def events(signal):
    sections = scipy.signal.butter(4, 1000, "highpass", fs=RATE, output="sos")
    envelope = np.abs(scipy.signal.sosfilt(sections, signal))
    envelope = scipy.signal.sosfiltfilt(scipy.signal.butter(2, 25, fs=RATE, output="sos"), envelope)
    threshold = 0.35 * np.percentile(envelope, 99.5)
    return len(scipy.signal.find_peaks(envelope, threshold, distance=RATE // 20)[0])


def test_a_missing_stroke_lowers_the_event_count(monkeypatch):
    # Without the stalled drive's buzz, only the strokes differ.
    quiet = machine_kinds.individual(0, "valve", "valve", "00").family.faults
    monkeypatch.setitem(quiet, "missing stroke", -60)
    carrier, _ = render("valve", seconds=10)
    recording, fault = render("valve", "missing stroke", seconds=10)
    assert fault.strokes >= 1
    # Each stroke of a valve is two impacts, opening and closing.
    lost = events(carrier[:, 0]) - events(recording[:, 0])
    assert abs(lost - 2 * fault.strokes) <= 1


def test_a_missing_stroke_buzzes_at_twice_the_mains():
    added, _, fault = difference("valve", "missing stroke", seconds=10)
    spectrum = np.abs(np.fft.rfft(added)) ** 2
    hz = np.fft.rfftfreq(added.size, 1 / RATE)
    lines = np.abs((hz + 50) % 100 - 50) < 3
    below = (hz > 150) & (hz < 1550)
    assert spectrum[lines & below].sum() > 0.3 * spectrum[below].sum() and fault.strokes


def test_ids_are_specimens_of_one_design():
    for family in machine_kinds.FAMILIES:
        first, second = (machine_kinds.individual(0, family, family, s) for s in ("00", "02"))
        assert first.mesh == second.mesh
        assert first.shaft_hz != second.shaft_hz
        # Tolerances of 8 and 7 percent either way.
        assert 0.92 / 1.08 <= first.shaft_hz / second.shaft_hz <= 1.08 / 0.92
        ratio = first.resonances_hz / second.resonances_hz
        assert np.all((ratio >= 0.93 / 1.07) & (ratio <= 1.07 / 0.93)) and np.all(ratio != 1)


def test_the_speed_attribute_is_the_speed():
    def blade_pass(condition):
        machine = machine_kinds.individual(0, "pump", "pump", "00")
        sound = render("pump", condition=condition)[0][:, 0].astype(float)
        expected = machine.shaft_hz * machine.mesh * condition.speed / 100
        spectrum = np.abs(np.fft.rfft(sound * np.hanning(sound.size))) ** 2
        hz = np.fft.rfftfreq(sound.size, 1 / RATE)
        near = np.abs(hz / expected - 1) < 0.05
        return hz[near][np.argmax(spectrum[near])] / expected

    # A clip's speed is within 1.5 % of the stated one and wanders by 0.5 %.
    for speed in (84, 100, 118):
        assert abs(blade_pass(machine_kinds.Condition(speed)) - 1) < 0.025


def test_load_and_microphone_change_the_sound():
    def level(condition):
        return decibel(np.mean(render("fan", condition=condition)[0].astype(float) ** 2))

    plain = level(machine_kinds.Condition())
    assert level(machine_kinds.Condition(load=2)) > plain + 1
    assert level(machine_kinds.Condition(microphone=2)) < plain - 1


@pytest.mark.parametrize("family", machine_kinds.FAMILIES)
def test_nothing_clips(family):
    for i in range(4):
        for cause in [None, *machine_kinds.FAMILIES[family].faults]:
            audio, _ = render(family, cause, key=f"{i}", level_offset_db=6.0)
            assert 0.01 < np.abs(audio).max() < 0.98  # 0.99 is where a clip is scaled down
            assert abs(audio.mean()) < 1e-3


def test_channels_hear_one_machine():
    stereo, _ = render("pump", microphones_db=(0.0, -6.0))
    assert stereo.shape == (6 * RATE, 2)
    level = decibel(np.mean(stereo**2, axis=0))
    assert level[0] > level[1]
    coherence = scipy.signal.coherence(stereo[:, 0], stereo[:, 1], RATE, nperseg=1024)[1]
    assert coherence.max() > 0.9 and coherence.min() < 0.5


def hall(places, key, seconds=6):
    """What is heard of a factory, re the machines' nominal RMS."""
    rng = machine_kinds.stream(0, key)
    machine = machine_kinds.individual(0, "fan", "fan", "00")
    motion = machine_sounds.Motion(machine, machine_kinds.Condition(), rng, seconds * RATE, RATE)
    noise = machine_sounds._factory(places, rng, motion, (2, seconds * RATE))
    return noise / machine_sounds._MACHINE_RMS


def test_a_factory_has_places_that_differ():
    places = machine_kinds.factory(0)
    assert places == machine_kinds.factory(0) != machine_kinds.factory(1)
    assert len({place.corner_hz for place in places}) == len(places) >= 4
    neighbours = [one for place in places for one in place.neighbours]
    assert len({one.shaft_hz for one in neighbours}) == len(neighbours)


def test_the_noise_of_a_factory_is_as_loud_as_stated():
    place, *_ = machine_kinds.factory(0)
    alone = dataclasses.replace(place, neighbours=())
    levels = [decibel(np.median(hall([alone], f"{i}") ** 2) / 0.455) for i in range(40)]
    # The median of squares, 0.455 for Gaussian noise, leaves out clatter; the noise swells by
    # 2 dB and has lines 10 dB below it and less.
    assert -7.5 < min(levels) < -3 and 3 < max(levels) < 7.5


def test_neighbours_start_and_stop(monkeypatch):
    monkeypatch.setattr(machine_sounds, "_FACTORY_SNR_DB", (0.0, 0.0))
    monkeypatch.setattr(machine_sounds, "_NEIGHBOUR_DB", (3.0, 3.0))
    place, *_ = machine_kinds.factory(0)
    one = dataclasses.replace(place, neighbours=place.neighbours[:1])
    running = 0
    starts, stops = 0, 0
    for i in range(40):
        # Half a second's median leaves out clatter; the noise, 2 dB loud at most, swells slowly.
        parts = decibel(np.median(hall([one], f"{i}")[0].reshape(12, -1) ** 2, axis=1) / 0.455)
        running += np.sum(parts > 2.5)  # 1 + 2 times the noise's power is 4.8 dB
        starts += parts[-1] > parts[0] + 3
        stops += parts[0] > parts[-1] + 3
    assert 0.25 < running / (40 * 12) < 0.75
    # Each in a quarter of the clips.
    assert 3 <= starts <= 20 and 3 <= stops <= 20


def test_an_unknown_fault_is_an_error():
    with pytest.raises(ValueError, match="no fault 'rust'"):
        machine_faults.source("rust", None, None, None, None, 0.0, None)
