"""The description that belongs to a submission to the challenge: `<label>.meta.yaml`.

| key | content |
|---|---|
| `submission` | label, name, abbreviation, authors |
| `system` | description, complexity, datasets, source code |
| `results` | AUC and pAUC of the development set |

Values that only the authors know begin with `FILL IN`, and `check_form` finds them.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from asd_jax.errors import UserError

FILL_IN = "FILL IN"
# Of a folder that was made without a label.
UNNAMED = "LASTNAME_INSTITUTE_task2_1"
LONGEST_ABBREVIATION = 10
_LABEL = re.compile(
    r"(?P<lastname>[^\W_]+(?:-[^\W_]+)*)_(?P<institute>[^\W_]+(?:-[^\W_]+)*)_task2_[1-4]"
)
_LABEL_FORM = "<last name>_<abbreviation of the institute>_task2_<1 to 4>, as Smith_ABC_task2_1"

_AUTHOR = (
    *("lastname", "firstname", "email", "affiliation.abbreviation", "affiliation.institute"),
    "affiliation.location",
)
_NEEDED = (
    *(f"submission.{key}" for key in ("label", "name", "abbreviation", "authors")),
    *(
        f"system.description.{key}"
        for key in (
            *("input_sampling_rate", "acoustic_features", "data_augmentation", "embeddings"),
            *("machine_learning_method", "ensemble_method_subsystem_count", "decision_making"),
        )
    ),
    *(f"system.complexity.{key}" for key in ("total_parameters", "MACS")),
    *(f"system.{key}" for key in ("external_datasets", "train_datasets", "source_code")),
    "results.development_dataset",
)
# They say something: null is for what a system does not have.
_NOT_EMPTY = tuple(key for key in _NEEDED if key.startswith(("submission.", "results.")))


def fill_in(what: str) -> str:
    """A value that is still to be given.

    Examples:
        >>> fill_in("last name")
        'FILL IN (last name)'
    """
    return f"{FILL_IN} ({what})"


def parse_label(label: str) -> tuple[str, str]:
    """Last name and institute of a label.

    Raises:
        UserError: it is not of the form.

    Examples:
        >>> parse_label("Smith_ABC_task2_1")
        ('Smith', 'ABC')
    """
    match = _LABEL.fullmatch(label)
    if match is None:
        raise UserError(f"the label {label!r} is not of the form {_LABEL_FORM}")
    return match[1], match[2]


def author(label: str) -> dict[str, Any]:
    """The first author, of whom a label says the last name and the institute."""
    lastname, institute = fill_in("last name"), fill_in("abbreviation of the institute")
    if label != UNNAMED:
        lastname, institute = parse_label(label)
    return {
        "lastname": lastname,
        "firstname": fill_in("first name"),
        "email": fill_in("e-mail address"),
        "corresponding": True,
        "affiliation": {
            "abbreviation": institute,
            "institute": fill_in("institute"),
            "department": fill_in("department, or null"),
            "location": fill_in("city, country"),
        },
    }


def check_form(content: bytes, label: str) -> list[str]:
    """What keeps a description from being accepted.

    Args:
        content: of `<label>.meta.yaml`.
        label: name of the submission's folder.

    Returns:
        Lines; none if nothing does.

    Examples:
        >>> check_form(b"[1, 2]", "Smith_ABC_task2_1")
        ['is a list, not keys with values: submission, system, results']
        >>> check_form(b"submission: {label: ", "Smith_ABC_task2_1")
        ["is no YAML: line 1: expected the node content, but found '<stream end>'"]
    """
    import yaml

    try:
        form = yaml.safe_load(content)
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        return [f"is no YAML: {line}{error.problem}"]
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # as of bytes, or of dates
        return [f"is no YAML: {' '.join(str(error).split())}"]
    if not isinstance(form, Mapping):
        kind = {list: "a list", type(None): "empty"}.get(type(form), "a single value")
        return [f"is {kind}, not keys with values: submission, system, results"]
    faults = []
    open_fields = [*_fields_to_fill(form)]
    if open_fields:
        faults.append(f"is still to be filled in: {', '.join(open_fields)}")
    missing = [key for key in _NEEDED if _lacks(form, key, key in _NOT_EMPTY)]
    authors = _at(form, "submission.authors")
    if not isinstance(authors, list) or not authors:
        missing += [] if "submission.authors" in missing else ["submission.authors, a list"]
    else:
        missing += [
            f"submission.authors.{i}.{key}"
            for i, each in enumerate(authors, 1)
            for key in _AUTHOR
            if _lacks(each, key, True)
        ]
        if not any(_at(each, "corresponding") is True for each in authors):
            faults.append("has no author with corresponding: true")
    if missing:
        faults.append(f"lacks {', '.join(missing)}")
    return faults + _check_values(form, label)


def _check_values(form: Mapping, label: str) -> list[str]:
    """Faults of single values that are there and filled in."""
    faults = []
    named = _at(form, "submission.label")
    if named is not None and named != label:
        faults.append(f"has the label {named}, and its folder is {label}")
    abbreviation = _at(form, "submission.abbreviation")
    if abbreviation is not None and not _is_open(abbreviation):
        length = len(str(abbreviation))
        if length > LONGEST_ABBREVIATION:
            faults.append(
                f"has the abbreviation {abbreviation}, of {length} characters; "
                f"{LONGEST_ABBREVIATION} are the most"
            )
    parameters = _at(form, "system.complexity.total_parameters")
    whole = isinstance(parameters, int) and not isinstance(parameters, bool) and parameters >= 0
    if parameters is not None and not _is_open(parameters) and not whole:
        faults.append(f"has total_parameters {parameters}, which is no whole number")
    return faults


def check_label(label: str) -> list[str]:
    """Faults of the name of a submission's folder."""
    if label == UNNAMED:
        return [
            f"{label}: the label is still to be chosen; rename the folder, its .meta.yaml and"
            f" the label in it to {_LABEL_FORM}"
        ]
    try:
        parse_label(label)
    except UserError as error:
        return [str(error)]
    return []


def _at(form: Any, key: str) -> Any:
    """The value of a dotted key; None where there is none."""
    for part in key.split("."):
        if not isinstance(form, Mapping):
            return None
        form = form.get(part)
    return form


def _lacks(form: Any, key: str, not_empty: bool) -> bool:
    """Whether a form lacks a dotted key, or its value."""
    *path, last = key.split(".")
    parent = _at(form, ".".join(path)) if path else form
    if not isinstance(parent, Mapping) or last not in parent:
        return True
    return not_empty and parent[last] in (None, "", [], {})


def _is_open(value: Any) -> bool:
    return isinstance(value, str) and FILL_IN in value


def _fields_to_fill(value: Any, key: str = "", seen: tuple[int, ...] = ()) -> Iterator[str]:
    """Dotted keys of values that are still to be given; places in lists count from 1."""
    if _is_open(value):
        yield key
    if id(value) in seen:  # YAML may refer to what it is in
        return
    inside: list[tuple[Any, Any]] = []
    if isinstance(value, Mapping):
        inside = [*value.items()]
    elif isinstance(value, list):
        inside = [*enumerate(value, 1)]
    for name, each in inside:
        yield from _fields_to_fill(each, f"{key}.{name}" if key else str(name), (*seen, id(value)))
