"""Settings of the runs of a report: which keys of the command line reach which run."""

from collections.abc import Mapping, Sequence

from asd_jax.config import Config, MembersConfig, keys, load_config, nearest
from asd_jax.errors import UserError
from asd_jax.papers.tables import NeededRun


def why_not(name: str, error: UserError, named: str = "") -> str:
    """The line about a run that cannot be done; keys that it names are those of that run.

    Args:
        name: of the run.
        error: why it cannot be done.
        named: what the run is called in keys; its name by default.
    """
    prefix = f"--config.{named or name}."
    return f"{name} could not be run: {str(error).replace('--config.', prefix)}"


def settings_of(
    paper: str, needed: Sequence[NeededRun], overrides: Mapping[str, str]
) -> dict[str, dict[str, str]]:
    """The overrides of each run by its name.

    A key behind the name of a run, or of an ensemble's member, is for that one alone and wins.
    Another key is for every run and member that has it, but for what makes a run what it is.
    """
    bases = {run.name: load_config(run.configuration) for run in needed}
    of_all: dict[str, dict[str, str]] = {run.name: {} for run in needed}
    of_one: dict[str, dict[str, str]] = {run.name: {} for run in needed}
    named = dict(bases)
    for base in bases.values():
        named |= base.members if isinstance(base, MembersConfig) else {}
    right = [key for config in named.values() for key in keys(config)]
    right += [f"{name}.{key}" for name, config in named.items() for key in keys(config)]
    for key, text in overrides.items():
        first, _, rest = key.partition(".")
        fits = False
        for run in needed:
            base = bases[run.name]
            if rest and first == run.name:
                if rest in run.overrides:
                    raise UserError(
                        f"--config.{key}: the run is the one with {run.overrides[rest]}; leave "
                        "it as it is"
                    )
                found, into = _places(base, rest), of_one
            elif rest and isinstance(base, MembersConfig) and first in base.members:
                found = [f"members.{key}"] * _has(base.members[first], rest)
                into = of_one
            else:
                found = [] if key in run.overrides else _places(base, key)
                into = of_all
            into[run.name] |= dict.fromkeys(found, text)
            fits |= bool(found)
        if not fits:
            raise UserError(
                f"--config.{key}: no run of {paper} has that key{nearest(key, right)}; there are "
                f"{', '.join(named)}"
            )
    return {run.name: {**of_all[run.name], **of_one[run.name], **run.overrides} for run in needed}


def _places(config: Config | MembersConfig, key: str) -> list[str]:
    """The keys by which a setting reaches a configuration and its members; none if it lacks it."""
    group = key.partition(".")[0]
    if not isinstance(config, MembersConfig):
        return [key] * _has(config, key)
    # The ensemble's own would win over those of a single member.
    own = [key] * (group not in ("train", "embedding") and _has(config, key))
    if group in ("data", "seeds"):  # the ensemble's, for all
        return own
    of_members = [name for name, member in config.members.items() if _has(member, key)]
    return [*own, *(f"members.{name}.{key}" for name in of_members)]


def _has(config: Config | MembersConfig, key: str) -> bool:
    """Whether a configuration has a dotted key or a group of that name, and a use for it."""
    group = key.partition(".")[0]
    if group == "embedding" and config.embedding.kind == "none":
        return False
    if group in ("train", "seeds") and isinstance(config, Config) and not config.detector.trains:
        return False
    return any(own == key or own.startswith(f"{key}.") for own in keys(config))
