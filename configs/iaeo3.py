"""IAEO3 of Grollmisch et al. 2020, the same for all machines.

    asd-jax run --config=configs/iaeo3.py --data_dir=DATA --out_dir=RUN \\
        --config.embedding.weights=openl3_audio_mel256_env.h5

The report does not name OpenL3's input; 256 mel bands were its library's default. For 128:
`--config.embedding=openl3_mel128`, with the weights of that network.

Without OpenL3's weights: `--config.embedding=none` for the autoencoder's errors alone, or
`--config.embedding=log_mel` for statistics of the spectrogram in place of OpenL3.

Published for the development set of DCASE 2020 (Table 2; AUC / pAUC in percent): ToyCar 94.3/84.8,
ToyConveyor 78.0/62.3, fan 77.4/63.2, pump 84.0/70.8, slider 90.9/70.8, valve 98.1/93.1.
"""

from asd_jax.audio.frontend import FrontEnd
from asd_jax.config import Config, EmbeddingConfig, TrainConfig
from asd_jax.detectors.iaeo3 import IAEO3Config


def get_config() -> Config:
    """The report's settings."""
    return Config(
        detector=IAEO3Config(),
        front_end=FrontEnd(pad_mode="reflect"),
        embedding=EmbeddingConfig(kind="openl3_mel256"),
        train=TrainConfig(epochs=30, batch_size=512, learning_rate=1e-3, validation_split=0.0),
        seeds=(0, 1, 2),
    )
