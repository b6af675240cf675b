"""Clips of several machines in a mapping: the same detector as from lists."""

import numpy as np
import pytest

import asd_jax
from asd_jax.errors import UserError

CONFIG = asd_jax.load_config("mel_mahalanobis", {"front_end.n_mels": "16"})
RATE = 16_000


@pytest.fixture(scope="module")
def sounds():
    return np.random.default_rng(0).normal(0, 0.1, (12, 8_000)).astype(np.float32)


def test_a_mapping_gives_the_same_bits_as_lists(sounds):
    by_machine = asd_jax.fit(
        CONFIG,
        {"fan": sounds[:4], "pump": [*sounds[4:]]},
        sample_rate=RATE,
        sections={"pump": [1, 1, 1, 1, 2, 2, 2, 2]},
        domains={"fan": "source"},
        groups={"fan": ["a", "a", "b", "c"], "pump": [*range(8)]},
    )
    listed = asd_jax.fit(
        CONFIG,
        waveforms=sounds,
        sample_rate=RATE,
        machines=["fan"] * 4 + ["pump"] * 8,
        sections=["00"] * 4 + ["1"] * 4 + ["2"] * 4,
        domains=["source"] * 4 + [""] * 8,
        groups=["a", "a", "b", "c", *map(str, range(8))],
    )
    assert by_machine.sections == {"fan": ("00",), "pump": ("1", "2")}
    assert by_machine.group_thresholds == listed.group_thresholds
    for name, leaf in by_machine.reference.items():
        np.testing.assert_array_equal(leaf, listed.reference[name])


def test_features_by_machine_and_one_value_for_all(sounds):
    features = np.stack([np.asarray(CONFIG.front_end(sound)) for sound in sounds])
    fitted = asd_jax.fit(CONFIG, {"fan": features[:6], "pump": features[6:]}, sections="07")
    assert fitted.sections == {"fan": ("07",), "pump": ("07",)}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sections": {"pomp": "00"}}, "sections names 'pomp', of which there are no clips"),
        ({"sections": {"fan": ["00"]}}, "fan: 6 clips, but 1 sections"),
        ({"sections": ["00"] * 12}, "sections is a list, and clips are given by machine"),
        ({"groups": {"fan": [*range(6)]}}, "groups lacks 'pump'; name the groups of every"),
        ({"machine": "fan"}, "leave machine= and machines= out"),
        ({"domains": {"fan": "sauce"}}, "'sauce' is neither"),
    ],
)
def test_what_does_not_fit_is_one_line(sounds, settings, message):
    clips = {"fan": sounds[:6], "pump": sounds[6:]}
    with pytest.raises(UserError) as found:
        asd_jax.fit(CONFIG, clips, sample_rate=RATE, **settings)
    assert message in str(found.value)


@pytest.mark.parametrize("clips", [{}, {"fan": []}, {"fan": 5}, {"fan": "a.wav"}])
def test_machines_without_clips_are_one_line(clips):
    with pytest.raises(UserError, match="no clips"):
        asd_jax.fit(CONFIG, clips, sample_rate=RATE)
