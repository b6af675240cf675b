"""Network architectures as linen modules, one file each, and weights from other programs."""

from asd_jax.models.dense_autoencoder import DenseAutoencoder
from asd_jax.models.ganomaly import GANomalyDiscriminator, GANomalyGenerator
from asd_jax.models.group_made import GroupMADE
from asd_jax.models.interpolation_autoencoder import InterpolationAutoencoder
from asd_jax.models.lstm_autoencoder import LSTMAutoencoder
from asd_jax.models.mobilenet_v2 import MobileNetV2
from asd_jax.models.multibranch import Multibranch
from asd_jax.models.openl3 import OpenL3, openl3_from_keras
from asd_jax.models.pretrained.imported import from_keras, from_slim, load_imagenet_mobilenet
from asd_jax.models.pretrained.keras_autoencoder import load_keras_autoencoder
from asd_jax.models.pretrained.keras_file import read_keras_layers
from asd_jax.models.resnet50 import ResNet50
from asd_jax.models.tastgram_mfn import MobileFaceNet, TASTgramMFN, Tgram, tagram

__all__ = [
    "DenseAutoencoder",
    "GANomalyDiscriminator",
    "GANomalyGenerator",
    "GroupMADE",
    "InterpolationAutoencoder",
    "LSTMAutoencoder",
    "MobileFaceNet",
    "MobileNetV2",
    "Multibranch",
    "OpenL3",
    "ResNet50",
    "TASTgramMFN",
    "Tgram",
    "from_keras",
    "from_slim",
    "load_imagenet_mobilenet",
    "load_keras_autoencoder",
    "openl3_from_keras",
    "read_keras_layers",
    "tagram",
]
