"""Systems that are fitted by the name of a configuration."""

import numpy as np
import pytest

import asd_jax
from asd_jax.errors import UserError


def test_a_name_is_that_of_a_shipped_configuration():
    with pytest.raises(UserError, match="no clips"):
        asd_jax.fit("dense_ae", [])
    with pytest.raises(UserError, match="--config=dense_ea: .* did you mean dense_ae"):
        asd_jax.fit("dense_ea", [np.zeros((9, 128))])


@pytest.mark.parametrize("name", ["giri2020_system2", "kazakova2022_system3"])
def test_an_ensemble_is_fitted_member_by_member(name):
    with pytest.raises(UserError, match=f"{name} is an ensemble, .* fit its members one by one"):
        asd_jax.fit(name, [np.zeros((9, 128))])
