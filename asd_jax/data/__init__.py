"""Data sets: from a folder of recordings to a table of clips and to waveforms.

| module | content |
|---|---|
| `clips` | `ClipTable`, and `Clip`, one row of it |
| `columns` | its columns: codes, and strings in one buffer |
| `layouts` | the challenge layouts of every year and MIMII's own: `find_clips` |
| `clip_paths` | `parse_clip`: what one path says in them |
| `manifest` | `Manifest`: a CSV file of recordings, with what is known of each |
| `states` | operating states of recordings, from attributes and side files |
| `own_folders` | `OwnFolders`: folders of one's own, of normal recordings and of others |
| `index` | `index`, `format_summary`: contents and problems of a folder |
| `audio_files` | `inspect`, `read`: a recording of any rate, channels and length |
| `canceller` | `cancelled`: a near channel without what a far one explains of it |
| `recordings` | `read_recordings`: many, a few ahead, long ones in blocks |
| `synthetic` | `synthesize`: synthetic machine sounds in any year's layout |
| `download` | the challenge's archives; `asd-jax download --help` |
"""

from asd_jax.data.audio_files import AudioInfo, inspect, read
from asd_jax.data.canceller import cancelled
from asd_jax.data.clip_paths import parse_clip
from asd_jax.data.clips import ANOMALY, NORMAL, UNLABELLED, Clip, ClipTable
from asd_jax.data.layouts import Scan, find_clips, scan
from asd_jax.data.manifest import Manifest
from asd_jax.data.own_folders import OwnFolders
from asd_jax.data.recordings import Waveform, read_recordings

__all__ = [
    "ANOMALY",
    "NORMAL",
    "UNLABELLED",
    "AudioInfo",
    "Clip",
    "ClipTable",
    "Manifest",
    "OwnFolders",
    "Scan",
    "Waveform",
    "cancelled",
    "find_clips",
    "inspect",
    "parse_clip",
    "read",
    "read_recordings",
    "scan",
]
