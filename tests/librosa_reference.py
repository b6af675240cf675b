"""Log-mels by librosa, with any settings of the front end."""

import warnings

import librosa
import numpy as np


def librosa_log_mel(waveform, front_end):
    """Log-mels (frames, mels) in dB of a waveform (samples,)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # short clips, empty bands
        mel = librosa.feature.melspectrogram(
            y=waveform,
            sr=front_end.sample_rate,
            n_fft=front_end.n_fft,
            hop_length=front_end.hop_length,
            n_mels=front_end.n_mels,
            power=front_end.power,
            center=front_end.center,
            pad_mode=front_end.pad_mode,
            htk=front_end.scale == "htk",
            norm=front_end.norm,
            fmin=front_end.fmin,
            fmax=front_end.fmax,
        ).T
    mel = np.maximum(mel, front_end.eps) if front_end.db == "max" else mel + front_end.eps
    return 20 / front_end.power * np.log10(mel)
