import numpy as np
import pytest

from asd_jax.deploy.watch.windows import Cutter, window_begins


@pytest.mark.parametrize("window, hop", [(4, 2), (4, 4), (5, 3), (4, 7), (3, 1)])
@pytest.mark.parametrize("n_samples", [1, 3, 4, 5, 11, 23])
def test_blocks_of_any_size_make_the_windows_of_the_whole(window, hop, n_samples):
    signal = np.arange(n_samples, dtype=np.float32)[:, None]
    begins = window_begins(n_samples, window, hop)
    wanted = [(begin, signal[begin : begin + window].ravel().tolist()) for begin in begins]
    for size in (1, 2, 5, 100):
        cutter = Cutter(window, hop)
        blocks = [signal[i : i + size] for i in range(0, n_samples, size)]
        found = [each for block in blocks for each in cutter.add(block)] + [*cutter.finish()]
        assert [(begin, cut.ravel().tolist()) for begin, cut in found] == wanted
        for skip in range(len(begins)):
            cutter = Cutter(window, hop, skip)
            rest = [each for block in blocks for each in cutter.add(block)] + [*cutter.finish()]
            assert [(begin, cut.ravel().tolist()) for begin, cut in rest] == wanted[skip:]


def test_what_is_kept_does_not_grow():
    cutter = Cutter(window=100, hop=50)
    for _ in range(1000):
        for _ in cutter.add(np.zeros((30, 1), np.float32)):
            pass
        assert sum(map(len, cutter._kept)) <= 130
