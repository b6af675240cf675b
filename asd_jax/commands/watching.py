"""The command `watch`: scores streams of sound as they come, and tells of alarms."""

from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from asd_jax.deploy.watch.streams import Named, Stream
    from asd_jax.deploy.watch.watching import WatchSettings
    from asd_jax.fitting.fitted import Fitted

_RATE = Between(0, 1, above=True, below=True)
_SECONDS = Between(0, 3600, above=True)
_WINDOWS = Between(1, 10**6)


def _define_watch(values: flags.FlagValues) -> None:
    def text(name: str, default: str | None, help_: str) -> None:
        flags.DEFINE_string(name, default, help_, flag_values=values)

    text("run_dir", None, "run directory of a finished run")
    text("streams", None, "CSV file with a line a stream: path, stream, machine, section, …")
    flags.DEFINE_bool(
        "stream_folders", False, "each folder has a subfolder a stream", flag_values=values
    )
    text("machine", None, "machine type of streams whose name does not say it")
    text("section", None, "section or id of streams whose name does not say it")
    text("pcm", None, "format of raw PCM on standard input or of named pipes, as s16le")
    define_whole(values, "rate", None, "sample rate of raw PCM, in Hz", Between(1, 10**7))
    define_whole(values, "channels", None, "channels of raw PCM; 1 by default", Between(1, 1024))
    define_real(
        values,
        "window_seconds",
        None,
        "length of a window; of a training clip by default",
        _SECONDS,
    )
    define_real(
        values,
        "hop_seconds",
        None,
        "from one window to the next; half a window, in whole frames, by default",
        Between(0, 86400, above=True),
    )
    text("out", None, "file to which lines of results are added, in place of standard output")
    text(
        "state_dir", None, "folder of the state, from which a restart goes on; RUN/watch by default"
    )
    flags.DEFINE_bool(
        "once", False, "end when all recordings that are there are scored", flag_values=values
    )
    define_real(
        values,
        "settle_seconds",
        2.0,
        "a recording is read when it has not changed for so long",
        Between(0, 3600),
    )
    define_real(
        values,
        "give_up_seconds",
        60.0,
        "a recording that stays incomplete for so long is left out, with a line",
        Between(0, 10**6),
    )
    _define_alarms(values)
    define_real(
        values, "report_seconds", 60.0, "from one line on the speed to the next", Between(0, 10**6)
    )
    define_cache_dir(values, "compiled programs and fetched weights")
    define_cores(values)


def _define_alarms(values: flags.FlagValues) -> None:
    def whole(name: str, help_: str) -> None:
        define_whole(values, f"alarm_{name}", 1, help_, _WINDOWS)

    define_real(
        values,
        "false_alarms",
        None,
        "rate of false alarms of single windows, as 0.01, for thresholds in place of the run's",
        _RATE,
    )
    define_real(
        values,
        "clear_false_alarms",
        None,
        "larger rate, of the lower threshold at or below which windows end an alarm",
        _RATE,
    )
    define_real(
        values,
        "alarms_a_month",
        None,
        "most false alarms of a machine in 30 days, for thresholds in place of the run's",
        Between(0, 10**6, above=True),
    )
    whole("need", "windows above the threshold, of the last --alarm_among, that make an alarm")
    whole("among", "windows that are looked at together")
    whole("lasting", "windows in succession for which that must hold")
    whole("clear_after", "windows in succession below the threshold that end an alarm")
    whole("stays", "windows that an alarm stays at least")
    flags.DEFINE_string(
        "on_alarm",
        None,
        "command of the shell that gets each alarm as JSON on its standard input",
        flag_values=values,
    )
    flags.DEFINE_string(
        "alarm_url", None, "URL to which each alarm is posted as JSON", flag_values=values
    )
    define_real(
        values,
        "alarm_timeout",
        30.0,
        "seconds that the command, or the answer of the URL, may take",
        _SECONDS,
    )


def _watch(values: flags.FlagValues, words: list[str], overrides: dict[str, str]) -> None:
    named = _named(values)
    if words and values.streams:
        raise UserError(f"--streams and {words[0]} both say what the streams are; give one of them")
    if not words and not values.streams and named.pcm is None:
        raise UserError(
            "watch needs folders that fill (RUN FOLDER …), --streams=TABLE.csv, or raw PCM on "
            "standard input (--pcm=s16le --rate=16000)"
        )
    if values.stream_folders and not words:
        raise UserError("--stream_folders has no effect without folders: watch RUN FOLDER …")
    from asd_jax.deploy.watch import watching
    from asd_jax.runs.loading import load
    from asd_jax.runtime.interruption import stop_signals, stopped_line
    from asd_jax.runtime.progress import Reporter
    from asd_jax.runtime.text_tables import terminal_width

    report = Reporter().line  # whoever reads standard error may end before the watch does
    prepare_jax(values.cache_dir, values.cores)
    fitted = load(values.run_dir)
    settings = _settings(values, fitted)
    streams = _streams(values, words, named, fitted)
    state_dir = values.state_dir or default_state_dir(values.run_dir)
    report(
        f"{len(streams)} stream{'s' * (len(streams) > 1)}, windows of {settings.window:g} s every "
        f"{settings.hop_seconds:g} s; state in {state_dir}"
    )
    shared = watching.sharing_hop(fitted, settings.window, settings.hop_seconds)
    if shared < settings.hop_seconds:
        report(
            f"windows share no frames, as they begin between one another's: "
            f"--hop_seconds={shared:.10g} takes less time"
        )
    with (
        stop_signals() as received,
        watching.watching(
            fitted, streams, settings, state_dir, out=values.out, report=report
        ) as watch,
    ):
        watch.run(lambda: bool(received))
        for line in watch.summary(terminal_width()):
            report(line)
    if received:
        number = received[0]
        raise UserError(stopped_line(number).removeprefix("asd-jax: "), exit_status=128 + number)


def _named(values: flags.FlagValues) -> "Named":
    """What the flags say of all streams alike."""
    from asd_jax.deploy.watch.pcm import PcmFormat, format_name
    from asd_jax.deploy.watch.streams import Named

    pcm = None
    if values.pcm is not None:
        if values.rate is None:
            raise UserError(f"--pcm={values.pcm} needs --rate=…, its sample rate in Hz")
        pcm = PcmFormat(format_name(values.pcm), values.rate, values.channels or 1)
    else:
        for flag in ("rate", "channels"):
            if values[flag].value is not None:
                raise UserError(f"--{flag} is of raw PCM; it needs --pcm=…, as s16le")
    return Named(values.machine, values.section, pcm)


def _settings(values: flags.FlagValues, fitted: "Fitted") -> "WatchSettings":
    from asd_jax.deploy.watch.watching import WatchSettings, sharing_hop, usual_seconds
    from asd_jax.scoring.alarms import AlarmRule

    window = values.window_seconds or usual_seconds(values.run_dir, fitted)
    if window is None:
        raise UserError(
            f"nothing in {values.run_dir} says how long its training clips were; give "
            "--window_seconds, about as long as they"
        )
    rule = AlarmRule(
        values.alarm_need,
        values.alarm_among,
        values.alarm_lasting,
        values.alarm_clear_after,
        values.alarm_stays,
    )
    return WatchSettings(
        window,
        values.hop_seconds or sharing_hop(fitted, window, window / 2),
        rule,
        values.false_alarms,
        values.clear_false_alarms,
        values.alarms_a_month,
        values.settle_seconds,
        values.give_up_seconds,
        values.once,
        values.on_alarm or "",
        values.alarm_url or "",
        values.alarm_timeout,
        values.report_seconds,
    )


def _streams(
    values: flags.FlagValues, words: list[str], named: "Named", fitted: "Fitted"
) -> "list[Stream]":
    from asd_jax.deploy.watch.streams import folder_streams, stdin_stream, table_streams

    if values.streams:
        return table_streams(fitted, values.streams, named)
    if words:
        return folder_streams(fitted, words, named, subfolders=values.stream_folders)
    return [stdin_stream(fitted, named)]


def default_state_dir(run_dir: str) -> str:
    """The folder `watch` in the run directory, or beside a model's file."""
    import os

    if os.path.isdir(run_dir):
        return os.path.join(run_dir, "watch")
    return f"{run_dir}.watch"


WATCH = Command(
    "score streams of sound as they come, and tell of alarms",
    _define_watch,
    _watch,
    ("run_dir",),
    "[RUN] [FOLDER …]",
)
