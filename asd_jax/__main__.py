"""`python -m asd_jax`."""

from asd_jax.cli import main

main()
