"""Data sets: from a folder of recordings to a table of clips and to waveforms.

| module | content |
|---|---|
| `clips` | `ClipTable`, and `Clip`, one row of it |
| `columns` | its columns: codes, and strings in one buffer |
| `layouts` | the challenge layouts of every year and MIMII's own: `find_clips`, `parse_clip` |
| `index` | `index`, `format_summary`: contents and problems of a folder |
| `audio_files` | `inspect`, `read`, `read_batches`: any rate, channels and length |
| `synthetic` | `synthesize`: synthetic machine sounds in any year's layout |
| `download` | the challenge's archives; `python -m asd_jax.data.download --help` |
"""

from asd_jax.data.audio_files import AudioInfo, inspect, read, read_batches
from asd_jax.data.clips import ANOMALY, NORMAL, UNLABELLED, Clip, ClipTable
from asd_jax.data.layouts import Scan, find_clips, parse_clip, scan

__all__ = [
    "ANOMALY",
    "NORMAL",
    "UNLABELLED",
    "AudioInfo",
    "Clip",
    "ClipTable",
    "Scan",
    "find_clips",
    "inspect",
    "parse_clip",
    "read",
    "read_batches",
    "scan",
]
