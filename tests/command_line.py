"""Running the command line inside the tests' own process."""

import pytest

from asd_jax.cli import main


def run_cli(capsys, *arguments):
    """Exit status, standard output, standard error of a command."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return ended.value.code, captured.out, captured.err
