"""Log-mels by librosa, as its users write them."""

import librosa
import numpy as np

from asd_jax.audio import FrontEnd


def log_mel(waveform: np.ndarray, front_end: FrontEnd) -> np.ndarray:
    """Log-mels (frames, mels) in dB of a waveform (samples,)."""
    mel = librosa.feature.melspectrogram(
        y=waveform,
        sr=front_end.sample_rate,
        n_fft=front_end.n_fft,
        hop_length=front_end.hop_length,
        n_mels=front_end.n_mels,
        power=front_end.power,
        pad_mode=front_end.pad_mode,
    )
    return librosa.power_to_db(mel, amin=front_end.eps, top_db=None).T
