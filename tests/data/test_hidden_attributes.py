"""Attributes that names hide."""

import pytest

from asd_jax.data.clips import Clip
from asd_jax.data.hidden_attributes import with_hidden_attributes
from asd_jax.errors import UserError

NAMES = [f"section_00_source_train_normal_000{i}_noAttribute.wav" for i in range(3)]
LINES = "source_file_name,target_file_name\r\n" + "".join(
    f"section_00_source_train_normal_{7 + i:04d}_vel_{i}.wav,{name}\r\n"
    for i, name in enumerate(NAMES)
)


def clip(machine, name, attributes=()):
    return Clip(machine, "00", "train", name, f"/{name}", 2024, label=0, attributes=attributes)


def written(folder, year, machine="slider", lines=LINES):
    place = folder / f"dcase{year}t2" / "dev_data" / machine
    place.mkdir(parents=True)
    (place / "attributes_00_train_correspondence.csv").write_text(lines)
    return folder


def test_clips_get_the_attributes_of_their_original_names(tmp_path):
    written(tmp_path, 2024)
    written(tmp_path, 2025, lines=LINES.replace("vel_", "load_"))
    clips = [*(clip("slider", name) for name in NAMES), clip("fan", NAMES[0])]
    clips.append(clip("slider", "section_00_source_train_normal_0009_vel_8.wav", (("vel", "8"),)))
    said = []
    found = with_hidden_attributes(clips, tmp_path, said.append)
    values = [dict(each.attributes).get("vel") for each in found]
    assert values == ["0", "1", "2", None, "8"]
    assert said == [f"{tmp_path} says the attributes that the names of 3 clips of slider hide"]


@pytest.mark.parametrize(
    ("year", "lines", "message"),
    [
        (2025, LINES, "has no attributes of these recordings; it has none"),
        (2024, LINES.replace("source_file_name", "name"), "is damaged: its lines are not"),
        (2024, LINES + "fan.wav,pump.wav\n", "fan.wav,pump.wav are not two names of a clip"),
        (2024, LINES + LINES.splitlines()[1].replace("vel_0", "vel_9") + "\n", "other attributes"),
    ],
)
def test_other_files_are_one_line(tmp_path, year, lines, message):
    with pytest.raises(UserError, match=message):
        with_hidden_attributes(
            [clip("slider", NAMES[0])], written(tmp_path, year, "slider", lines), print
        )


def test_no_files(tmp_path):
    for folder, message in ((tmp_path, "correspondence.csv"), (tmp_path / "no", "no folder")):
        with pytest.raises(UserError, match=message):
            with_hidden_attributes([clip("slider", NAMES[0])], folder, print)
