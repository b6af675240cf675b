"""Completion scripts, run by the shells that are there."""

import shutil
import subprocess

import pytest
from command_line import run_cli

from asd_jax.commands import COMMANDS
from asd_jax.commands.completion import script
from asd_jax.config import keys, load_config, shipped_configs

BASH = r"""
source "$1"
while IFS= read -r line; do
  COMP_LINE=$line COMP_WORDS=() word=""
  # As readline does: words end at blanks, and before and after an equals sign.
  for ((i = 0; i < ${#line}; i++)); do
    case ${line:i:1} in
      " ") [ -n "$word" ] && COMP_WORDS+=("$word"); word="" ;;
      "=") [ -n "$word" ] && COMP_WORDS+=("$word"); COMP_WORDS+=("="); word="" ;;
      *) word+=${line:i:1} ;;
    esac
  done
  case $line in *=) ;; *) COMP_WORDS+=("$word") ;; esac
  COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
  _asd_jax
  printf '%s\t' "${COMPREPLY[@]}"
  printf '\n'
done
"""


@pytest.fixture(scope="module")
def bash(tmp_path_factory):
    """(lines as typed) → the candidates of each, as bash shows them: behind an equals sign."""
    if shutil.which("bash") is None:
        pytest.skip("no bash")
    path = tmp_path_factory.mktemp("completion") / "asd-jax.bash"
    path.write_text(script("bash", COMMANDS), encoding="utf-8")

    def complete(*lines):
        done = subprocess.run(
            ["bash", "--norc", "-c", BASH, "bash", path],
            input="".join(f"{line}\n" for line in lines),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0 and done.stderr == "", done.stderr
        return [[each for each in line.split("\t") if each] for line in done.stdout.splitlines()]

    return complete


def test_commands_and_flags(bash):
    commands, some, flags, of_index = bash(
        "asd-jax ", "asd-jax rep", "asd-jax synth --", "asd-jax index --form"
    )
    assert {*COMMANDS} <= {*commands}
    assert some == ["reproduce", "report"]
    assert {"--out_dir=", "--faults=", "--help"} <= {*flags} and "--config=" not in flags
    assert of_index == ["--format="]


def test_values_of_enumerations_and_names_of_configurations(bash):
    behind, apart, shells, names, one = bash(
        "asd-jax list --format=",
        "asd-jax list --format c",
        "asd-jax completion ",
        "asd-jax run --config=",
        "asd-jax run --dry_run --config=lstm",
    )
    assert behind == ["table", "csv", "json"] and apart == ["csv"]
    assert shells == ["bash", "zsh", "fish"]
    assert names == [*shipped_configs()] and one == ["lstm_ae"]


def test_keys_of_the_configuration_that_is_named(bash):
    lines = [f"asd-jax run --config={name} --config." for name in shipped_configs()]
    for name, found in zip(shipped_configs(), bash(*lines), strict=True):
        assert {each.removeprefix("--config.").removesuffix("=") for each in found} <= {
            *keys(load_config(name))
        }
        assert "--config.train.epochs=" in found
    by_path, by_default, of_ensemble, of_other = bash(
        "asd-jax run --config=configs/ganomaly.py --config.detector.wi",
        "asd-jax run --normal=x --config.detector.le",
        "asd-jax run --config giri2020_system2 --config.members.group_made.detector.comp",
        "asd-jax run --config=mine.py --config.",
    )
    assert by_path == ["--config.detector.width="]
    assert by_default == ["--config.detector.level_db="]
    assert of_ensemble == ["--config.members.group_made.detector.components="]
    assert "--config.front_end.n_mels=" in of_other
    assert not [each for each in of_other if "detector." in each]


def test_values_of_keys_are_those_of_the_configuration(bash):
    found = bash(
        "asd-jax run --config=dense_ae --config.detector.score=",
        "asd-jax run --config=group_made --config.detector.score=",
        "asd-jax run --config=group_made --config.train.driver l",
        "asd-jax run --config=group_made --config.front_end.center=t",
        "asd-jax run --config=group_made --config.train.epochs=",
        "asd-jax run --data_dir=",
        "asd-jax nothing --x",
    )
    assert found == [["mse", "mahalanobis"], ["all", "last"], ["loop"], ["true"], [], [], []]


@pytest.mark.parametrize(
    ("shell", "options"), [("bash", ["-n"]), ("zsh", ["-n"]), ("fish", ["--no-execute"])]
)
def test_every_script_is_of_its_shell_s_language(shell, options, tmp_path, capsys):
    status, out, err = run_cli(capsys, "completion", shell)
    assert (status, err) == (0, "")
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell}")
    (tmp_path / "script").write_text(out, encoding="utf-8")
    subprocess.run([shell, *options, tmp_path / "script"], check=True)


def test_fish_completes(tmp_path):
    if shutil.which("fish") is None:
        pytest.skip("no fish")
    path = tmp_path / "asd-jax.fish"
    path.write_text(script("fish", COMMANDS), encoding="utf-8")
    command = f"source {path}; complete -C 'asd-jax list --format='"
    done = subprocess.run(["fish", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["--format=csv", "--format=json", "--format=table"]


def test_another_shell_is_one_line(capsys):
    for words in (["tcsh"], ["bsh"], ["bash", "zsh"]):
        status, out, err = run_cli(capsys, "completion", *words)
        assert (status, out) == (2, "") and "completion is for bash, zsh, fish" in err
    assert run_cli(capsys, "completion")[0] == 2
