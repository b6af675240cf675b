"""The command serve: an HTTP service that scores posted recordings."""

from pathlib import Path

from absl import flags

from asd_jax.commands.base import (
    Command,
    define_cache_dir,
    define_cores,
    define_real,
    define_whole,
    prepare_jax,
)
from asd_jax.errors import UserError
from asd_jax.runtime.bounds import Between


def _define_serve(values: flags.FlagValues) -> None:
    flags.DEFINE_string("run_dir", None, "run directory of a finished run", flag_values=values)
    flags.DEFINE_string(
        "host", "127.0.0.1", "address to listen at; 0.0.0.0 for all", flag_values=values
    )
    define_whole(values, "port", 8000, "port to listen at; 0 for any", Between(0, 65535))
    flags.DEFINE_string(
        "token_file",
        None,
        "file with a token that requests must have; the variable ASD_JAX_TOKEN does the same",
        flag_values=values,
    )
    flags.DEFINE_bool(
        "no_token",
        False,
        "let other machines post without a token, where a proxy looks after that",
        flag_values=values,
    )
    define_real(values, "max_mib", 32, "MiB that a request may have", Between(0.001, 2**20))
    define_real(values, "max_seconds", 600, "seconds of a recording", Between(0.1, 10**6))
    define_real(
        values,
        "timeout_s",
        60,
        "seconds that a request may take to arrive, and again to be scored",
        Between(0.1, 10**6),
    )
    define_whole(
        values,
        "max_queue",
        64,
        "recordings that are received, wait or are scored at a time",
        Between(1, 10**5),
    )
    define_whole(values, "max_batch", 32, "recordings that are scored together", Between(1, 10**4))
    flags.DEFINE_bool("access_log", True, "a line for each request", flag_values=values)
    define_cache_dir(values, "compiled programs and fetched weights")
    define_cores(values)


def _serve(values: flags.FlagValues, words: list[str], overrides: dict[str, str]) -> None:
    from asd_jax.runtime.extras import check_installed

    if words:
        raise UserError(f"serve takes one run directory, not also {words[0]!r}")
    for package in ("starlette", "uvicorn", "prometheus_client", "python_multipart"):
        check_installed(package, "serve")
    from asd_jax import pipeline
    from asd_jax.deploy.serve import server
    from asd_jax.deploy.serve.limits import Limits
    from asd_jax.runtime.streams import end

    token = server.read_token(values.token_file)
    if token is not None and values.no_token:
        raise UserError("--no_token and a token contradict each other; leave one of them out")
    if token is None and not values.no_token and not server.is_loopback(values.host):
        raise UserError(
            f"--host={values.host}: other machines may reach it; give --token_file=FILE or "
            f"{server.TOKEN_VARIABLE}, or say --no_token"
        )
    prepare_jax(values.cache_dir, values.cores)
    fitted = pipeline.load(values.run_dir)
    with server.listen(values.host, values.port) as own:
        ended = server.serve(
            fitted,
            Path(values.run_dir).resolve().name,
            own,
            Limits(
                max_bytes=int(values.max_mib * 2**20),
                max_seconds=values.max_seconds,
                timeout_s=values.timeout_s,
                max_queue=values.max_queue,
                max_batch=values.max_batch,
            ),
            token=token,
            access_log=values.access_log,
        )
    if not ended:  # a program is still compiled, for which Python's end would wait
        end("", 0)


SERVE = Command(
    "score recordings that are posted over HTTP, with a fitted run",
    _define_serve,
    _serve,
    ("run_dir",),
    "[RUN]",
)
