"""Direct-ACT: spectrum and one spectrogram, subspaces as classes, exchanged parts of embeddings.

    asd-jax run --config=configs/direct_act.py --data_dir=DATA --out_dir=RUN

Source: Wilkinghoff et al., arXiv 2509.10951 (facts of the paper and of published tables alone).
The spectrogram is without padding, from 0 Hz on, and without its mean over time. AdaProj's fixed
subspaces of 32 dimensions for mixed clips, and learned ones for mixed clips with exchanged parts,
each with a dynamic scale; Adam at 1e-3 with a decay of 1e-5, batches of 64. A machine's score is by
all training clips, each distance over the local density.

Published: the mean over all years' sets is 67.79, 69.25 with VarMin; by ten networks together, 94.2
and 93.3 on 2020's development and evaluation set, 71.3 and 72.4 on 2023's, 64.9 and 60.0 on 2025's.

Decided here: 10 epochs, as there for 2020; 5 for 2023 and 15 for 2024 and 2025 are theirs
(`--config.train.epochs`). Three networks; `--config.seeds=0,1,2,3,4,5,6,7,8,9` are ten. A tenth of
each machine's clips is held out, for thresholds; theirs learn from all. The spectrum's convolutions
without padding, as in `multibranch`; its last frequency, half the sample rate, is kept. A mixed
clip's partner is random; theirs is the batch's in reverse order.
"""

from asd_jax.config import Config, TrainConfig
from asd_jax.detectors.multibranch import MultibranchConfig


def get_config() -> Config:
    """The published settings, as options of `multibranch`."""
    return Config(
        detector=MultibranchConfig(
            n_ffts=(1024,),
            fmin=0.0,
            center=False,
            subtract_mean=True,
            values=256,
            double=True,
            classes=("machine", "section", "attributes"),
            loss="subspaces",
            sub_centres=32,
            learned_centres=False,
            scale="dynamic",
            exchange=0.5,
            optimizer="adam",
            weight_decay=1e-5,
            normalisation="ldn",
            oversampling="none",
        ),
        train=TrainConfig(
            epochs=10,
            batch_size=64,
            learning_rate=1e-3,
            validation_split=0.0,
            threshold_split=0.1,
            checkpoint_every=1,
        ),
    )
