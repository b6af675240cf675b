"""Writes what ASDKit's networks and losses compute, for the tests to compare with.

    python scripts/parity_multibranch.py ASDKIT tests/models/multibranch_parity.npz

ASDKIT is a clone of github.com/TakuyaFujimura/dcase-asd-toolkit (MIT; at ed27d82). It needs PyTorch
and NumPy, in an environment of its own. Weights and waveforms are drawn by `tests/parity_draws.py`,
from which the tests draw the same; the file has embeddings, losses, and of each gradient its norm
and its product with a drawn direction.
"""

import pathlib
import sys
from unittest import mock

import numpy as np
import torch

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tests"))
import parity_draws as draws
from parity_axes import from_ours, to_ours

N_FFTS, CLASSES, SUB_CENTRES = (256, 1024, 4096), 5, 16
BLOCKS = [(stage, block) for stage in range(4) for block in range(2)]


def main(asdkit: str, path: str) -> None:
    """Writes the numbers of the classes in a clone of ASDKit to a file."""
    sys.path.insert(0, asdkit)
    for name in ("hydra", "hydra.utils", "peft", "torchaudio", "torchaudio.transforms"):
        sys.modules[name] = mock.MagicMock()  # imported there, and not used by these classes
    from asdkit.losses.adaproj import AdaProj
    from asdkit.losses.scadacos import SCAdaCos
    from asdkit.models.multiresnet.fft_encoder_networks import Conv1dEncoderLayer
    from asdkit.models.multiresnet.stft_encoder_networks import Conv2dEncoderLayer

    torch.set_default_dtype(torch.float64)
    waveforms = torch.tensor(draws.waveforms()).double()
    magnitudes = torch.fft.rfft(waveforms).abs()[:, None]
    spectrograms = [spectrogram(waveforms, n_fft) for n_fft in N_FFTS]
    options = {"use_bias": False, "emb_base_size": 128}
    branches = {"spectrum": Conv1dEncoderLayer(magnitudes.shape[-1], **options)}
    inputs = {"spectrum": magnitudes}
    for number, each in enumerate(spectrograms):
        branches[f"spectrogram_{number}"] = Conv2dEncoderLayer(tuple(each.shape[1:]), **options)
        inputs[f"spectrogram_{number}"] = each
    parameters = {}
    for name, branch in branches.items():
        of_branch = spectrum_names() if name == "spectrum" else spectrogram_names()
        own = dict(branch.named_parameters())
        assert len(own) == len(of_branch), (name, sorted(own))
        for ours, theirs in of_branch.items():
            parameters[f"{name}/{ours}"] = own[theirs]
    for name, parameter in parameters.items():
        parameter.data = from_ours(name, tuple(parameter.shape))
    loss = SCAdaCos(512, CLASSES, SUB_CENTRES, trainable=True, dynamic=False)
    loss.W.data = torch.tensor(draws.array("centres", tuple(loss.W.shape))).double()
    parameters["centres"] = loss.W
    projections = AdaProj(512, CLASSES, 32, dynamic=True)
    projections.W.data = torch.tensor(draws.array("subspaces", tuple(projections.W.shape))).double()

    for branch in branches.values():
        branch.eval()  # by the initial statistics
    evaluated = torch.cat([branch(inputs[name]) for name, branch in branches.items()], dim=1)
    for branch in branches.values():
        branch.train()
    labels = torch.tensor(draws.labels(len(waveforms), CLASSES)).double()
    embeddings = torch.cat([branch(inputs[name]) for name, branch in branches.items()], dim=1)
    value = loss(embeddings, labels)
    value.backward()
    found = {
        "evaluated": evaluated.detach().numpy(),
        "embeddings": embeddings.detach().numpy(),
        "loss": value.item(),
        "projection_loss": projections(embeddings.detach(), labels).item(),
        "projection_scale": projections.s.item(),
    }
    of_gradients = []
    for name, parameter in parameters.items():
        # The centres are in our axes already.
        own = parameter.grad if name == "centres" else to_ours(parameter.grad)
        gradient = own.numpy()
        along = float((gradient * draws.array(f"along {name}", gradient.shape)).sum())
        of_gradients.append([np.linalg.norm(gradient), along])
    found |= {"parameters": np.array([*parameters]), "gradients": np.array(of_gradients)}
    np.savez_compressed(path, **found)


def spectrogram(waveforms: torch.Tensor, n_fft: int) -> torch.Tensor:
    """Magnitudes (batch, bins, frames) from 200 Hz on, as torchaudio's with `normalized=True`."""
    window = torch.hann_window(n_fft)
    spectrum = torch.stft(
        *(waveforms, n_fft, n_fft // 2),
        window=window,
        center=True,
        pad_mode="constant",
        return_complex=True,
    )
    first = int(np.ceil(200 * n_fft / 16_000))
    return spectrum.abs()[:, first:] / window.square().sum().sqrt()


def spectrum_names() -> dict[str, str]:
    """Our names of the parameters of the spectrum's branch, and theirs."""
    names = {}
    for number, place in enumerate((0, 3, 6)):
        names[f"convolution_{number}/kernel"] = f"conv1d_layer.{place}.weight"
        for part in (0, 1):
            se = f"conv1d_layer.{place + 2}.layer{part + 1}.0.weight"
            names[f"excitation_{number}_{part}/kernel"] = se
    names["linear_0/kernel"] = "aggregate_layer.1.weight"
    for number in range(4):
        names[f"linear_{number + 1}/kernel"] = f"last_layer.{3 * number}.weight"
    names["embedding/kernel"] = "last_layer.12.weight"
    return names


def spectrogram_names() -> dict[str, str]:
    """Our names of the parameters of a spectrogram's branch, and theirs."""
    names = {"first/kernel": "layers.0.layer.0.weight"}
    for stage, block in BLOCKS:
        ours, theirs = f"stage_{stage}_block_{block}", f"layers.{stage + 1}.{block}"
        names[f"{ours}_convolution_0/kernel"] = f"{theirs}.layer.1.weight"
        names[f"{ours}_convolution_1/kernel"] = f"{theirs}.layer.4.weight"
        for part in (0, 1):
            se = f"{theirs}.additional_layer.layer{part + 1}.0.weight"
            names[f"{ours}_excitation_{part}/kernel"] = se
        if stage and not block:
            names[f"{ours}_shortcut/kernel"] = f"{theirs}.skip_connect.1.weight"
    names["embedding/kernel"] = "aggregate_layer.2.weight"
    return names


if __name__ == "__main__":
    main(*sys.argv[1:])
