"""The command `asd-jax`, also as `python -m asd_jax`."""

import signal

from asd_jax.runtime.interruption import end_at_once, stopping


def run() -> None:
    """Entry point: can be stopped from its first moment, while the rest is imported."""
    for each in stopping():
        signal.signal(each, end_at_once)
    from asd_jax.cli import main

    main()


if __name__ == "__main__":
    run()
