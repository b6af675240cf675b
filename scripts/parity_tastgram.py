"""Writes what Noisy-ArcMix's network and losses compute, for the tests to compare with.

    python scripts/parity_tastgram.py NOISY_ARCMIX tests/models/tastgram_parity.npz

NOISY_ARCMIX is a clone of github.com/soonhyeon/Noisy-ArcMix (MIT; at 674c759). It needs PyTorch and
NumPy, in an environment of its own. Weights and inputs are drawn by `tests/parity_draws.py`, from
which the tests draw the same; the file has embeddings, scores, the loss, and of each gradient its
norm and its product with a drawn direction.
"""

import pathlib
import sys
from unittest import mock

import numpy as np
import torch

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tests"))
import parity_draws as draws
from parity_axes import from_ours, to_ours

CLASSES, SHARE, PARTNERS = 5, 0.3, (2, 0, 3, 1)


def main(noisy_arcmix: str, path: str) -> None:
    """Writes the numbers of the classes in a clone of Noisy-ArcMix to a file."""
    sys.path.insert(0, noisy_arcmix)
    from losses import ASDLoss
    from model.net import TASTgramMFN
    from utils import mixup_data, noisy_arcmix_criterion

    torch.set_default_dtype(torch.float64)
    network = TASTgramMFN(CLASSES, "noisy_arcmix", m=0.7)
    own = {k: v for k, v in network.named_parameters() if "fc_out" not in k}  # not used
    names = {"centres": "arcface.weight", **tgram_names(), **mobilefacenet_names()}
    assert sorted(names.values()) == sorted(own), sorted({*own} ^ {*names.values()})
    parameters = {ours: own[theirs] for ours, theirs in names.items()}
    for name, parameter in parameters.items():
        parameter.data = from_ours(name, tuple(parameter.shape))
    waveforms = torch.tensor(draws.long_waveforms()).double()[:, None]
    log_mels = torch.tensor(draws.log_mels().swapaxes(1, 2)[:, None].copy()).double()
    labels = torch.arange(len(waveforms))

    network.eval()  # by the initial statistics
    logits, evaluated = network(waveforms, log_mels, labels, train=False)
    scores = ASDLoss(reduction=False)(logits, labels)
    network.train()
    with (
        mock.patch("numpy.random.beta", lambda a, b: SHARE),
        mock.patch("torch.randperm", lambda n: torch.tensor(PARTNERS)),
    ):
        *mixed, first, second, share = mixup_data(waveforms, log_mels, labels, "cpu")
    logits, embeddings = network(*mixed, labels)
    value = noisy_arcmix_criterion(ASDLoss(), logits, first, second, share)
    value.backward()
    found = {
        "evaluated": evaluated.detach().numpy(),
        "scores": scores.detach().numpy(),
        "embeddings": embeddings.detach().numpy(),
        "loss": value.item(),
    }
    of_gradients = []
    for name, parameter in parameters.items():
        gradient = to_ours(parameter.grad).numpy()
        along = float((gradient * draws.array(f"along {name}", gradient.shape)).sum())
        of_gradients.append([np.linalg.norm(gradient), along])
    found |= {"parameters": np.array([*parameters]), "gradients": np.array(of_gradients)}
    np.savez_compressed(path, **found)


def tgram_names() -> dict[str, str]:
    """Our names of the parameters of the Tgram, and theirs."""
    names = {"tgram/filters/kernel": "tgramnet.conv_extrctor.weight"}
    for number in range(3):
        theirs = f"tgramnet.conv_encoder.{number}"
        names[f"tgram/norm_{number}/scale"] = f"{theirs}.0.weight"
        names[f"tgram/norm_{number}/bias"] = f"{theirs}.0.bias"
        names[f"tgram/convolution_{number}/kernel"] = f"{theirs}.2.weight"
    return names


def mobilefacenet_names() -> dict[str, str]:
    """Our names of MobileFaceNet's parameters, and theirs."""
    names = {}

    def add(ours: str, places: tuple[str, ...]) -> None:
        """A convolution, its normalisation, and its activation where it has one."""
        own = [f"{ours}/kernel", f"{ours}_norm/scale", f"{ours}_norm/bias"]
        own += [f"{ours}_activation/factor"] * (len(places) == 3)
        norm = [f"{places[1]}.weight", f"{places[1]}.bias"]
        theirs = [f"{places[0]}.weight", *norm, *[f"{place}.weight" for place in places[2:]]]
        for mine, other in zip(own, theirs, strict=True):
            names[f"network/{mine}"] = f"mobilefacenet.{other}"

    blocks = {"first": "conv1", "first_depthwise": "dw_conv1", "last": "conv2"}
    for ours, theirs in blocks.items():
        add(ours, (f"{theirs}.conv", f"{theirs}.bn", f"{theirs}.prelu"))
    for ours, theirs in {"sum": "linear7", "embedding": "linear1"}.items():
        add(ours, (f"{theirs}.conv", f"{theirs}.bn"))
    names["network/sum"] = names.pop("network/sum/kernel")
    for number in range(6):
        ours, theirs = f"stage_{number // 2}_block_{number % 2}", f"blocks.{number}.conv"
        for first, part in zip((0, 3, 6), ("expand", "depthwise", "project"), strict=True):
            places = range(first, first + (3 if first < 6 else 2))
            add(f"{ours}_{part}", tuple(f"{theirs}.{place}" for place in places))
    return names


if __name__ == "__main__":
    main(*sys.argv[1:])
