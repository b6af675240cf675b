"""The command completion: a script with which a shell completes commands, flags, values and keys.

Everything in it is known when it is printed, so that a shell need not start Python at every tab.
"""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags

from asd_jax.commands.base import CONFIG, Command
from asd_jax.errors import UserError, nearest

# What each shell adds to `_asd_jax_candidates`, which prints the candidates for the last of its
# arguments, one a line.
_BASH = r"""# Completion of asd-jax for bash: source <(asd-jax completion bash)
@CANDIDATES@
_asd_jax() {
  local words=() word candidate joined="" index cut=""
  # bash breaks words at the equals sign.
  for ((index = 1; index <= COMP_CWORD; index++)); do
    word=${COMP_WORDS[index]}
    if [ -n "$joined" ] || { [ "$word" = "=" ] && [ ${#words[@]} -gt 0 ]; }; then
      words[${#words[@]}-1]+=$word
    else
      words+=("$word")
    fi
    [ "$word" = "=" ] && joined=yes || joined=""
  done
  word=${words[${#words[@]}-1]}
  case $COMP_WORDBREAKS in *=*) case $word in *=*) cut=${word%%=*}= ;; esac ;; esac
  COMPREPLY=()
  while IFS= read -r candidate; do
    case $candidate in
      "$word"*) COMPREPLY+=("${candidate#"$cut"}") ;;
    esac
  done < <(_asd_jax_candidates "${words[@]}")
  if [ ${#COMPREPLY[@]} -eq 1 ]; then
    case ${COMPREPLY[0]} in *= | *.) compopt -o nospace 2>/dev/null ;; esac
  fi
}
complete -o default -F _asd_jax asd-jax
"""

_ZSH = r"""#compdef asd-jax
# Completion of asd-jax for zsh: source <(asd-jax completion zsh), after compinit
@CANDIDATES@
_asd_jax() {
  local -a found open closed
  local candidate
  found=(${(f)"$(_asd_jax_candidates "${(@)words[2,CURRENT]}")"})
  for candidate in $found; do
    case $candidate in
      *= | *.) open+=("$candidate") ;;
      *) closed+=("$candidate") ;;
    esac
  done
  local before=$compstate[nmatches]
  compadd -S '' -a open
  compadd -a closed
  if [[ $compstate[nmatches] == $before ]]; then
    compset -P '*='
    _files
  fi
}
if [[ $funcstack[1] == _asd_jax ]]; then
  _asd_jax "$@"
else
  compdef _asd_jax asd-jax
fi
"""

_FISH = r"""# Completion of asd-jax for fish: asd-jax completion fish | source
set -g __asd_jax_script @QUOTED@
function __asd_jax_complete
  set -l word (commandline -ct)
  set -l words (commandline -opc) $word
  set -l found (sh -c "$__asd_jax_script; _asd_jax_candidates \"\$@\"" sh $words[2..-1])
  set -l length (string length -- "$word")
  for candidate in $found
    if test (string sub -l $length -- $candidate) = "$word"
      printf '%s\n' $found
      return
    end
  end
  switch $word
    case '--*=*'
      set -l parts (string split -m 1 = -- $word)
      __fish_complete_path $parts[2] | string replace -r '^' -- $parts[1]=
    case '*'
      __fish_complete_path $word
  end
end
complete -c asd-jax -f -a '(__asd_jax_complete)'
"""

_CANDIDATES = r"""_asd_jax_flags() {
  case $1 in
@FLAGS@
  esac
}
_asd_jax_values() {
  case "$1 $2" in
@VALUES@
  esac
}
_asd_jax_keys() {
  case $1 in
@KEYS@
  esac
}
_asd_jax_key_values() {
  case "$1 $2" in
@KEY_VALUES@
  esac
}
_asd_jax_candidates() {
  local command="$1" word config="" before="" each
  if [ $# -le 1 ]; then
    printf '%s\n' @COMMANDS@
    return
  fi
  shift
  while [ $# -gt 1 ]; do
    case $1 in
      --config=*) config=${1#--config=} ;;
      --config) config=$2 ;;
    esac
    before=$1
    shift
  done
  word=$1
  config=${config##*/}
  config=${config%.py}
  if [ -z "$config" ] && [ "$command" = run ]; then config=@DEFAULT@; fi
  case $word in
    --config.*=*)
      each=${word%%=*}
      _asd_jax_key_values "$config" "${each#--config.}" | while IFS= read -r word; do
        printf '%s\n' "$each=$word"
      done
      ;;
    --config.*)
      _asd_jax_keys "$config" | while IFS= read -r each; do
        printf '%s\n' "--config.$each="
      done
      ;;
    --*=*)
      each=${word%%=*}
      _asd_jax_values "$command" "$each" | while IFS= read -r word; do
        printf '%s\n' "$each=$word"
      done
      ;;
    -*) _asd_jax_flags "$command" ;;
    *)
      case $before in
        --config.*) _asd_jax_key_values "$config" "${before#--config.}" ;;
        *=*) _asd_jax_values "$command" "" ;;
        *) _asd_jax_values "$command" "$before" ;;
      esac
      ;;
  esac
}"""

_SHELLS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}
_DEFAULT = "spectral"  # the configuration of `run` where none is named


def _complete(values: flags.FlagValues, words: list[str], overrides: dict[str, str]) -> None:
    from asd_jax.commands import COMMANDS

    shell, *more = words
    if shell not in _SHELLS or more:
        wrong = more[0] if more else shell
        raise UserError(
            f"completion is for {', '.join(_SHELLS)}, not {wrong!r}{nearest(wrong, [*_SHELLS])}"
        )
    print(script(shell, COMMANDS), end="")


def script(shell: str, commands: Mapping[str, Command]) -> str:
    """The script that makes a shell complete.

    Args:
        shell: "bash", "zsh" or "fish".
        commands: the commands by name.
    """
    candidates = _candidates(commands)
    quoted = candidates.replace("\\", "\\\\").replace("'", "\\'")
    text = _SHELLS[shell].replace("@CANDIDATES@", candidates)
    return text.replace("@QUOTED@", f"'{quoted}'")


def _candidates(commands: Mapping[str, Command]) -> str:
    """The functions that all shells share, in the language of POSIX and `local`."""
    from asd_jax.config import load_config, shipped_configs
    from asd_jax.config.reference import reference

    flags_of: dict[str, list[str]] = {}
    values_of: dict[str, Sequence[str]] = {"* --config": [*shipped_configs()]}
    for name, command in commands.items():
        values = flags.FlagValues()
        command.define(values)
        own = [values[flag] for flag in values if values[flag].help and len(flag) > 1]
        flags_of[name] = sorted(_text(flag) for flag in own) + ["--help"]
        flags_of[name] += [CONFIG] * ("config" in values or "paper" in values)
        for flag in own:
            values_of[f"{name} --{flag.name}"] = getattr(flag.parser, "enum_values", None) or ()
        if "|" in command.positional and command.positional.islower():
            values_of[f"{name} "] = command.positional.split("|")
    keys_of: dict[str, Sequence[str]] = {}
    key_values: dict[str, Sequence[str]] = {}
    for name in shipped_configs():
        found = [*reference(load_config(name))]
        keys_of[name] = [key.key for key in found]
        key_values |= {f"{name} {key.key}": [c for c in key.choices if c] for key in found}
    # Of another configuration: what all systems have.
    common = [key for key in keys_of["dense_ae"] if not key.startswith("detector.")]
    replaced = {
        "@FLAGS@": _cases(flags_of),
        "@VALUES@": _cases(values_of),
        "@KEYS@": f"{_cases(keys_of)}\n    *) printf '%s\\n' {shlex.join(common)} ;;",
        "@KEY_VALUES@": _cases(_shared(key_values)),
        "@COMMANDS@": shlex.join([*commands, "help", "--version"]),
        "@DEFAULT@": _DEFAULT,
    }
    text = _CANDIDATES
    for place, content in replaced.items():
        text = text.replace(place, content)
    return text


def _text(flag: Any) -> str:
    return f"--{flag.name}" if flag.flag_type() == "bool" else f"--{flag.name}="


def _shared(values: Mapping[str, Sequence[str]]) -> dict[str, Sequence[str]]:
    """Values by "CONFIGURATION KEY"; by "* KEY" where they are the same for all."""
    by_key: dict[str, dict[str, Sequence[str]]] = {}
    for name, choices in values.items():
        by_key.setdefault(name.partition(" ")[2], {})[name] = choices
    shared: dict[str, Sequence[str]] = {}
    for key, of_names in by_key.items():
        same = len({tuple(choices) for choices in of_names.values()}) == 1
        shared |= {f"* {key}": next(iter(of_names.values()))} if same else of_names
    return shared


def _cases(words_of: Mapping[str, Sequence[str]]) -> str:
    """Lines of a shell's case that prints words."""
    lines = []
    for name, words in words_of.items():
        if words:
            first, star, rest = name.partition("* ")
            pattern = f'*" {rest}"' if star and not first else f'"{name}"'
            lines.append(f"    {pattern}) printf '%s\\n' {shlex.join(words)} ;;")
    return "\n".join(lines)


COMPLETION = Command(
    "print a script with which a shell completes commands, flags and keys",
    lambda values: None,
    _complete,
    positional="bash|zsh|fish",
)
