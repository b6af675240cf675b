import subprocess
import sys
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import soundfile
from librosa_reference import librosa_log_mel

from asd_jax.audio import FrontEnd, log_mel, mel_spectrogram, spectrogram, stft
from asd_jax.audio.spectra import magnitude_spectrum
from asd_jax.errors import UserError

# What is asked of the front end; librosa rounds to float32 itself, and we measure 3e-5 dB.
TOLERANCE_DB = 1e-3
# Where the exact value is 0, librosa shows the rounding of its own float64 FFT, some 300 dB
# below the strongest band of the frame. Nothing else reproduces that, nor needs to.
FLOAT64_FLOOR_DB = 240


def sounds(sample_rate):
    rng = np.random.default_rng(0)
    t = np.arange(int(1.3 * sample_rate)) / sample_rate
    tone = np.sin(2 * np.pi * 437.123 * t)
    waveforms = {
        "noise": rng.standard_normal(t.size),
        "tone": tone,
        "quiet tone": 1e-3 * tone,
        "16-bit tone": np.round(32767 * tone) / 32768,
        "tone on a bin": np.sin(2 * np.pi * sample_rate / 8 * t),
        "clipping": np.clip(5 * tone, -1, 1),
        "silence": 0 * t,
        "constant": 0 * t + 1,
        "impulse": (np.arange(t.size) == 1000).astype(float),
        "shorter than a frame": rng.standard_normal(300),
    }
    return {name: waveform.astype(np.float32) for name, waveform in waveforms.items()}


def assert_as_librosa(waveform, front_end, name=""):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        found = np.asarray(front_end(waveform))
    expected = librosa_log_mel(waveform, front_end)
    assert found.shape == expected.shape
    assert found.shape == (front_end.frames(len(waveform)), front_end.n_mels)
    determined = expected >= expected.max(axis=1, keepdims=True) - FLOAT64_FLOOR_DB
    error = np.abs(found - expected)
    assert error[determined].max() < TOLERANCE_DB, (name, front_end)
    # What is not determined is at least as inaudible here.
    assert (found <= expected.max(axis=1, keepdims=True) - FLOAT64_FLOOR_DB + 1)[~determined].all()


@pytest.mark.parametrize(
    "sample_rate, n_fft, n_mels, power, center",
    [
        (16000, 512, 128, 1.0, True),
        (16000, 1024, 128, 2.0, True),
        (4000, 2048, 256, 2.0, False),
        (16000, 4096, 256, 1.0, False),
    ],
)
def test_librosa_on_all_kinds_of_sound(sample_rate, n_fft, n_mels, power, center):
    front_end = FrontEnd(sample_rate, n_fft, n_fft // 2, n_mels, power, center=center)
    for name, waveform in sounds(sample_rate).items():
        if center or len(waveform) >= n_fft:
            assert_as_librosa(waveform, front_end, name)


@pytest.mark.slow
@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("power", [1.0, 2.0])
@pytest.mark.parametrize("n_mels", [128, 256])
@pytest.mark.parametrize("n_fft", [512, 1024, 2048, 4096])
@pytest.mark.parametrize("sample_rate", [4000, 16000])
def test_librosa_on_every_setting(sample_rate, n_fft, n_mels, power, center):
    test_librosa_on_all_kinds_of_sound(sample_rate, n_fft, n_mels, power, center)


@pytest.mark.parametrize(
    "settings",
    [
        {"scale": "htk", "norm": None},
        {"fmin": 50.0, "fmax": 7000.0},
        {"db": "add"},
        {"db": "add", "power": 1.0},
        {"power": 3.0},
        {"eps": 1e-6},
        {"hop_length": 160},
        {"hop_length": 400, "center": False},
        {"hop_length": 256},
        {"hop_length": 1024},
        {"hop_length": 1500, "center": False},
        {"n_fft": 1023, "hop_length": 341},
    ],
)
def test_librosa_on_other_settings(settings):
    for name in ("noise", "16-bit tone", "silence"):
        assert_as_librosa(sounds(16000)[name], FrontEnd(**settings), name)


@pytest.mark.parametrize("hop_length", [512, 300])
def test_a_float32_transform_keeps_60_db(hop_length):
    """What `precision` promises, for every sound that librosa gives bands of."""
    front_end = FrontEnd(hop_length=hop_length, precision="float32")
    for name, waveform in sounds(16000).items():
        found = np.asarray(front_end(waveform))
        expected = librosa_log_mel(waveform, front_end)
        heard = expected >= expected.max(axis=1, keepdims=True) - 60
        assert np.abs(found - expected)[heard].max() < TOLERANCE_DB, name
    tone = sounds(16000)["tone"]
    assert np.abs(front_end(tone) - FrontEnd(hop_length=hop_length)(tone)).max() > TOLERANCE_DB


def test_librosa_on_real_recordings(shared):
    paths = sorted((shared / "data/mimii_faults/fan/test").glob("*.wav"))
    for path in paths[:2] + paths[-2:]:
        waveform, sample_rate = soundfile.read(path, dtype="float32")
        assert_as_librosa(waveform, FrontEnd(sample_rate), path.name)


def test_ten_seconds_are_313_frames():
    assert FrontEnd().frames(160000) == 313
    assert log_mel(jnp.zeros(160000)).shape == (313, 128)


def test_silence_is_the_floor_to_the_digit():
    # 10 log10(2 ** -52) by hand.
    np.testing.assert_allclose(log_mel(jnp.zeros(4000)), -520 * np.log10(2), rtol=1e-6)


def test_spectrogram_of_a_cosine_is_half_its_length():
    # A periodic Hann window has mean 1/2, so a bin-centred cosine has magnitude N/4.
    cosine = np.cos(2 * np.pi * 32 / 1024 * np.arange(4096)).astype(np.float32)
    magnitudes = np.asarray(spectrogram(cosine, power=1.0, center=False))
    assert magnitudes.shape == (7, 513)
    np.testing.assert_allclose(magnitudes[:, 32], 256, rtol=1e-5)  # the cosine is float32
    np.testing.assert_allclose(magnitudes[:, [31, 33]], 128, rtol=1e-5)


def test_mel_spectrogram_is_before_decibels():
    waveform = sounds(16000)["noise"]
    front_end = FrontEnd()
    mel = mel_spectrogram(waveform, front_end)
    np.testing.assert_allclose(10 * np.log10(mel), front_end(waveform), atol=1e-4)


@pytest.mark.filterwarnings("error")
def test_leading_axes_jit_and_vmap_change_nothing():
    # On a tone, a transform that had lost its float64 on the way would be off by 20 dB.
    sound = sounds(16000)["tone"]
    waveforms = np.stack([[sound[i : i + 5000] for i in (0, 50, 99)] for _ in range(2)])
    front_end = FrontEnd(n_fft=512, hop_length=200, n_mels=64)
    together = front_end(waveforms)
    assert together.shape == (2, 3, 26, 64)
    alone = np.stack([[front_end(x) for x in row] for row in waveforms])

    def value(x):
        return jax.value_and_grad(lambda x: (front_end(x).sum(), front_end(x)), has_aux=True)(x)

    # The programs may differ in the order of sums: float32 roundings of up to 150 dB.
    for other in (
        alone,
        jax.vmap(front_end, in_axes=1, out_axes=1)(waveforms),
        jax.jit(jax.vmap(front_end))(waveforms),
        jax.jit(jax.vmap(jax.vmap(value)))(waveforms)[0][1],
    ):
        np.testing.assert_allclose(together, other, atol=5e-5)


@pytest.mark.parametrize("power, db", [(0.5, "max"), (1.0, "add"), (2.0, "max")])
def test_gradient_is_finite_on_silence(power, db):
    def mean(x):
        return log_mel(x, power=power, db=db).mean()

    silence = np.zeros(3000, np.float32)
    half = np.concatenate([silence[:1500], np.sin(np.arange(1500, dtype=np.float32))])
    of_silence, of_half = np.asarray(jax.jit(jax.vmap(jax.grad(mean)))(np.stack([silence, half])))
    assert (of_silence == 0).all()
    assert np.isfinite(of_half).all() and np.abs(of_half).max() > 0


@pytest.mark.parametrize(("power", "hop_length"), [(1.0, 512), (2.0, 300)])
def test_gradient_by_differences(power, hop_length):
    rng = np.random.default_rng(2)
    waveform, direction = rng.standard_normal((2, 4000)).astype(np.float32)

    def mean(x):
        return log_mel(x, power=power, hop_length=hop_length).mean()

    step = np.float32(1e-2)

    @jax.jit
    def derivatives(x, direction):
        there, back = mean(x + step * direction), mean(x - step * direction)
        return there, back, jax.grad(mean)(x), jax.jvp(mean, (x,), (direction,))[1]

    there, back, gradient, forward = map(np.asarray, derivatives(waveform, direction))
    expected, found = (there - back) / (2 * step), gradient @ direction
    # Float32 means of about 10 dB differ by 1e-6, divided by the step; and step ** 2.
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=1e-3)
    np.testing.assert_allclose(found, forward, rtol=1e-3)


def test_x64_is_as_the_caller_left_it():
    assert log_mel(jnp.zeros(2000)).dtype == jnp.float32
    assert not jax.config.jax_enable_x64
    assert log_mel(jnp.zeros(2000, jnp.bfloat16)).dtype == jnp.float32
    with jax.enable_x64(True):
        assert log_mel(np.zeros(2000)).dtype == np.float64
        assert log_mel(np.zeros(2000, np.float32)).dtype == np.float32


@pytest.mark.parametrize(
    "settings, named",
    [
        ({"n_fft": 0}, "n_fft is 0; it must be "),
        ({"hop_length": -1}, "hop_length is -1; it must be "),
        ({"n_mels": 12.5}, "n_mels is 12.5; it must be "),
        ({"sample_rate": "fast"}, "sample_rate is 'fast'; it must be "),
        ({"power": 0}, "power is 0; it must be "),
        ({"power": float("nan")}, "power is nan; it must be "),
        ({"eps": 0.0}, "eps is 0.0; it must be "),
        ({"scale": "bark"}, "scale 'bark'"),
        ({"norm": "peak"}, "norm 'peak'"),
        ({"db": "top"}, "db 'top'"),
        ({"precision": "float16"}, "precision 'float16'"),
        ({"fmax": 9000.0}, "fmax 9000.0"),
        ({"fmin": 8000.0}, "fmin 8000.0"),
        ({"fmin": -1.0}, "fmin is -1.0; it must be "),
    ],
)
def test_a_senseless_setting_is_named(settings, named):
    with pytest.raises(UserError, match=named):
        FrontEnd(**settings)
    with pytest.raises(UserError, match=named):
        log_mel(jnp.zeros(2000), **settings)


def test_waveforms_that_cannot_be_transformed_are_named():
    with pytest.raises(UserError, match="1023 samples has no frame: at least 1024"):
        log_mel(jnp.zeros(1023), center=False)
    assert log_mel(jnp.zeros(1024), center=False).shape == (1, 128)
    with pytest.raises(UserError, match="0 samples"):
        log_mel(jnp.zeros((3, 0)))
    with pytest.raises(UserError, match="int16"):
        log_mel(np.zeros(2000, np.int16))
    with pytest.raises(UserError, match=r"shape \(\)"):
        log_mel(jnp.float32(0))


@pytest.mark.parametrize("version", stft._HANGING)
def test_a_jaxlib_that_hangs_is_refused_and_not_installed(version, monkeypatch):
    sounds = jnp.zeros(1024 + len(version))  # of a length that no program is compiled for
    monkeypatch.setattr("jaxlib.__version__", version)
    for hear in (FrontEnd(), magnitude_spectrum):
        with pytest.raises(UserError, match=f"jaxlib {version} hangs .* pip install --upgrade jax"):
            hear(sounds)
    requirements = (Path(__file__).parents[2] / "setup.cfg").read_text("utf-8")
    assert f",!={version}" in next(line for line in requirements.split() if "jax>" in line)


def test_import_needs_no_audio_library():
    program = (
        "import sys; "
        "sys.modules.update(dict.fromkeys(['audiomentations', 'librosa', 'soxr', 'soundfile'])); "
        "import numpy as np; from asd_jax import audio; from asd_jax.audio import perturbation; "
        "print(audio.spectrogram(np.zeros(2000, np.float32)).shape)"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert out.stdout.strip() == "(4, 513)", out.stderr


def test_empty_bands_are_said_by_whoever_asks_for_them():
    """Of 128 bands, 13 lie between two of the 129 frequencies; librosa warns, too."""
    with pytest.warns(UserWarning, match="13 of the 128 mel bands are empty, .* of 256 samples"):
        decibels = np.asarray(log_mel(np.ones(4000, np.float32), n_fft=256))
    assert np.sum(np.all(decibels == decibels[0, 0], axis=0)) >= 13
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        log_mel(np.ones(4000, np.float32), n_fft=256, n_mels=32)
