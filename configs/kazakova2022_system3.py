"""System 3 of Kazakova et al. 2022, section 2: of its two systems one for each machine type.

    asd-jax run --config=configs/kazakova2022_system3.py --data_dir=DATA --out_dir=RUN \\
        --config.members.picture_mobilenet.detector.weights=MOBILENET_V2.npz

Which one serves which machine type is the report's list, made by its results on the development
set. Machine types that it does not name have the autoencoder.
"""

from asd_jax.config import ChoiceConfig, load_config


def get_config() -> ChoiceConfig:
    """The report's list."""
    return ChoiceConfig(
        members={
            "outlier_exposure_ae": load_config("outlier_exposure_ae"),
            "picture_mobilenet": load_config("picture_mobilenet"),
        },
        choices=(
            "fan:outlier_exposure_ae",
            "slider:picture_mobilenet",
            "ToyCar:outlier_exposure_ae",
            "ToyTrain:outlier_exposure_ae",
            "gearbox:picture_mobilenet",
            "valve:picture_mobilenet",
            "bearing:outlier_exposure_ae",
        ),
        default="outlier_exposure_ae",
    )
