"""Losses that train an embedding to tell classes apart, as pure functions of arrays."""

from asd_jax.losses.angular import (
    adacos_scale,
    centre_cosines,
    dynamic_scale,
    init_centres,
    init_subspaces,
    projection_cosines,
    soft_cross_entropy,
    sub_centre_log_probabilities,
)
from asd_jax.losses.exchange import exchange_parts
from asd_jax.losses.margin import arcface_logits, margin_cross_entropies, noisy_arcmix

__all__ = [
    "adacos_scale",
    "arcface_logits",
    "centre_cosines",
    "dynamic_scale",
    "exchange_parts",
    "init_centres",
    "init_subspaces",
    "margin_cross_entropies",
    "noisy_arcmix",
    "projection_cosines",
    "soft_cross_entropy",
    "sub_centre_log_probabilities",
]
