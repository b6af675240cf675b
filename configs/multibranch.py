"""One network for all machines, of a spectrum and three spectrograms; learned sub-centres.

    asd-jax run --config=configs/multibranch.py --data_dir=DATA --out_dir=RUN

Published as `dis_multispec_scac_trainable`: official scores in percent, means of four trials, from
`docs/results.png` of github.com/TakuyaFujimura/dcase-asd-toolkit (at ed27d82, MIT). One
spectrogram, `dis_spec_scac_trainable`, is `--config.detector.n_ffts=1024,`.

| 2020 | 2021 | 2022 | 2023 | 2024 | set | spectrograms |
|---|---|---|---|---|---|---|
| 91.65 | 69.80 | 71.74 | 66.08 | 63.05 | development | three |
| 92.84 | 67.13 | 68.99 | 68.60 | 56.73 | evaluation | three |
| 90.57 | 69.14 | 71.62 | 64.40 | 61.58 | development | one |
| 91.96 | 65.36 | 67.74 | 66.14 | 56.84 | evaluation | one |
"""

from asd_jax.config import Config, TrainConfig
from asd_jax.detectors.multibranch import MultibranchConfig


def get_config() -> Config:
    """The published settings: 16 epochs of batches of 64, the last weights.

    Decided here: a tenth of each machine's clips is held out, for thresholds that hold for clips
    that the network does not know. The published networks learn from all
    (`--config.train.threshold_split=0`).
    """
    return Config(
        detector=MultibranchConfig(),
        train=TrainConfig(
            epochs=16,
            batch_size=64,
            learning_rate=1e-3,
            validation_split=0.0,
            threshold_split=0.1,
            checkpoint_every=1,
        ),
    )
