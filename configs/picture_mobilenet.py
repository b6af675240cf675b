"""The picture network of Kazakova et al. 2022, one model a machine type.

    asd-jax run --config=configs/picture_mobilenet.py --data_dir=DATA --out_dir=RUN \\
        --config.detector.weights=MOBILENET_V2.npz

From random weights, for comparison: --config.detector.from_scratch=true

Published for the development set of DCASE 2022 (Table 3; AUC / pAUC in percent): ToyCar 52.2/50.6,
ToyTrain 51.7/51.3, bearing 50.7/50.6, fan 55.2/50.6, gearbox 64.8/51.6, slider 57.0/53.2,
valve 54.3/52.9.
"""

from asd_jax.audio import FrontEnd
from asd_jax.config import Config, TrainConfig
from asd_jax.detectors.picture_mobilenet import PictureMobileNetConfig


def get_config() -> Config:
    """The report's settings, and ours where it names none."""
    return Config(
        detector=PictureMobileNetConfig(),
        front_end=FrontEnd(
            n_fft=4096,
            hop_length=2048,
            n_mels=320,
            scale="linear",
            norm=None,
            pad_mode="reflect",
        ),
        train=TrainConfig(epochs=10, batch_size=32, learning_rate=1e-4, validation_split=0.0),
        seeds=(0, 1, 2),
        threshold="zero",
    )
