"""Losses with a margin on the angle to a sound's own class, of cosines to one centre a class.

    cosines = centre_cosines(embeddings, centres)[..., 0]  # (batch, classes)
    loss = noisy_arcmix(cosines, labels, others, share, margin=0.7, scale=30.0).mean()
    scores = margin_cross_entropies(cosines, margin=0.7, scale=30.0)  # (batch, classes)

Sources: Deng et al. 2019, ArcFace; Choi and Choi 2024, Noisy-ArcMix
(github.com/soonhyeon/Noisy-ArcMix, MIT).
"""

import jax
import jax.numpy as jnp


def arcface_logits(
    cosines: jax.Array, labels: jax.Array, *, margin: jax.Array | float, scale: float
) -> jax.Array:
    """Scaled cosines, with an additive margin on the angle of the clip's own class.

    Source: Deng et al. 2019, equation 3. Where angle plus margin exceeds π, the cosine would rise
    again; there the cosine minus margin · sin(margin) continues it downwards, as in the authors'
    program.

    Args:
        cosines: (batch, classes).
        labels: integers (batch,), the classes that get the margin.
        margin: () in radians; 0 for none.
        scale: factor of the cosines.

    Returns:
        (batch, classes).

    Examples:
        The own class at 60°, with a margin of 30°, is scored as if at 90°.

        >>> import jax, numpy as np
        >>> cosine, own = np.array([[0.5, 0.2]]), np.array([0])
        >>> values = jax.jit(arcface_logits)(cosine, own, margin=np.pi / 6, scale=10.0)
        >>> [round(float(value), 3) + 0.0 for value in np.asarray(values)[0]]
        [0.0, 2.0]
    """
    turned = _turned(cosines, margin)
    chosen = jnp.arange(cosines.shape[-1]) == labels[:, None]
    return scale * jnp.where(chosen, turned, cosines)


def noisy_arcmix(
    cosines: jax.Array,
    labels: jax.Array,
    others: jax.Array,
    share: jax.Array | float,
    *,
    margin: jax.Array | float,
    scale: float,
) -> jax.Array:
    """Cross-entropy of mixed sounds, with ArcFace's margin on the first of the two classes only.

    Source: Choi and Choi 2024. With a share of 1 it is ArcFace's loss.

    Args:
        cosines: (batch, classes) of the mixtures.
        labels: integers (batch,), classes of the sounds whose share is `share`.
        others: integers (batch,), classes of the sounds that have the rest.
        share: () or (batch,), from 0 to 1.
        margin: () in radians.
        scale: factor of the cosines.

    Returns:
        (batch,).

    Examples:
        Three classes as near as one another, without a margin: ln 3 for any share.

        >>> import jax, numpy as np
        >>> cosines, labels, others = np.zeros((1, 3)), np.array([0]), np.array([2])
        >>> loss = jax.jit(noisy_arcmix)(cosines, labels, others, 0.3, margin=0.0, scale=30.0)
        >>> round(float(loss[0]), 4)
        1.0986
    """
    logits = arcface_logits(cosines, labels, margin=margin, scale=scale)
    log_p = jax.nn.log_softmax(logits)

    def entropy(classes: jax.Array) -> jax.Array:
        return -jnp.take_along_axis(log_p, classes[:, None], axis=1)[:, 0]

    return share * entropy(labels) + (1 - share) * entropy(others)


def margin_cross_entropies(
    cosines: jax.Array, *, margin: jax.Array | float, scale: float
) -> jax.Array:
    """ArcFace's loss for each class that a sound may be of; near 0, too, with all digits.

    Args:
        cosines: (batch, classes), two classes or more.
        margin: () in radians; 0 for the cross-entropy of the scaled cosines.
        scale: factor of the cosines.

    Returns:
        (batch, classes), each with the margin on the angle to this class alone.

    Examples:
        >>> import jax, numpy as np
        >>> program = jax.jit(margin_cross_entropies)
        >>> found = program(np.array([[0.5, 0.5, 0.5]]), margin=0.0, scale=30.0)
        >>> [round(float(value), 4) for value in found[0]]
        [1.0986, 1.0986, 1.0986]
    """
    logits, own = scale * cosines, scale * _turned(cosines, margin)
    classes = cosines.shape[-1]
    # (batch, classes, classes) logits of the others, for each class.
    others = jnp.where(jnp.eye(classes, dtype=bool), -jnp.inf, logits[:, None])
    # −log p = log(1 + Σ exp(other − own)): 1 − p would lose all digits where p is almost 1.
    return jax.nn.softplus(jax.nn.logsumexp(others, axis=-1) - own)


def _turned(cosines: jax.Array, margin: jax.Array | float) -> jax.Array:
    """Cosines of angles that are larger by the margin."""
    # The slope of the sine √(1 − cos²) is infinite at ±1, where rounding could put a cosine.
    limited = jnp.clip(cosines, -1 + 1e-6, 1 - 1e-6)
    sines = jnp.sqrt(1 - limited**2)
    turned = limited * jnp.cos(margin) - sines * jnp.sin(margin)  # cos(angle + margin)
    return jnp.where(limited > -jnp.cos(margin), turned, limited - margin * jnp.sin(margin))
