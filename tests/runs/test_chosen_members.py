"""Ensembles that choose a member for each machine, and the configurations of the reports."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
from command_line import run_cli
from fits import trained_before
from shared_runs import rows_of
from trained_ensembles import SEEDS, by_clip, files_of, members, run

import asd_jax
from asd_jax import config as configs
from asd_jax import pipeline
from asd_jax.config import ChoiceConfig, load_config
from asd_jax.data import layouts
from asd_jax.data.clips import Clip, ClipTable
from asd_jax.errors import UserError
from asd_jax.fitting import recordings

SUBSETS = (
    "\nthe data has a development and an evaluation set; the first is used, "
    "--config.data.subset=eval takes the other, and =both takes both"
)


def choose_config(**changes):
    settings = {"members": members(), "seeds": SEEDS, "name": "chosen"} | changes
    return ChoiceConfig(**settings, choices=("fan:between",), default="dense")


def test_each_machine_has_the_rows_of_its_member(place, data, capsys):
    """And scores and thresholds of recordings; runs of the members on all machines are used."""
    said = run(choose_config(), data, place, "chosen")
    assert "epoch" not in said
    assert not list((place / "shared").glob("*-*"))
    chosen = by_clip(place / "chosen/scores.csv")
    of_members = {name: by_clip(place / f"shared/{name}/scores.csv") for name in members()}
    for seed in SEEDS:
        assert chosen[seed].keys() == of_members["dense"][seed].keys()
        for key, row in chosen[seed].items():
            assert row == of_members["between" if key[0] == "fan" else "dense"][seed][key]
    fitted = asd_jax.load(place / "chosen")
    assert fitted.machines == ("fan", "valve")
    for machine, name in (("fan", "between"), ("valve", "dense")):
        member = asd_jax.load(place / "shared" / name)
        files = files_of(data, machine)[:2]
        assert recordings.score_files(fitted, files) == recordings.score_files(member, files)
        for seed in (None, *SEEDS):
            where = {"machine": machine, "section": "00", "seed": seed}
            assert fitted.threshold(**where) == member.threshold(**where)
    # The dense autoencoder serves all ids alike, the other is fitted to each.
    assert fitted.resolve("valve", None) == ("valve", "")
    with pytest.raises(UserError, match="fan: section 04 was not fitted"):
        fitted.resolve("fan", "04")
    with pytest.raises(UserError, match="'pump' was not fitted"):
        fitted.resolve("pump", "00")


def test_an_unknown_section_is_skipped_where_a_member_is_chosen(place, data, tmp_path, capsys):
    if not (place / "chosen").exists():
        run(choose_config(), data, place, "chosen")
    good = files_of(data, "fan")[0]
    bad = tmp_path / "fan/test" / good.name.replace("_id_00_", "_id_04_")
    bad.parent.mkdir(parents=True)
    shutil.copy(good, bad)
    status, out, err = run_cli(
        capsys, "score", f"--run_dir={place / 'chosen'}", bad, good, "--on_bad_clip=skip"
    )
    assert (status, err.count("\n"), out.count("\n")) == (0, 1, 1)
    assert f"left out: {bad}: fan: section 04 was not fitted" in err


def test_members_are_trained_for_the_machines_they_serve(place, data):
    """In a folder without runs on all machines; a member that serves none is not trained.

    The weights are those of the run on all machines, of the same models.
    """
    config = choose_config(data=configs.DataConfig(machines=("fan",)))
    config = dataclasses.replace(config, seeds=(0,))
    member = asd_jax.load(place / "shared/between")
    own = np.array([model.machine == "fan" and model.seed == 0 for model in member.models])
    with trained_before(jax.tree.map(lambda leaf: leaf[own], member.weights)):
        run(config, data, place, "alone", members_dir=None)
    made = place / "alone/members"
    assert [path.name for path in made.iterdir()] == ["between-fan"]
    stored = json.loads((made / "between-fan/config.json").read_text())
    assert stored["data"]["machines"] == ["fan"]
    assert rows_of(place / "alone/scores.csv") == rows_of(made / "between-fan/scores.csv")
    assert asd_jax.load(place / "alone").machines == ("fan",)
    said = run(config, data, place, "alone", members_dir=None)
    assert f"{place / 'alone'} is finished; nothing to do" in said


def test_members_that_are_chosen_are_of_the_subset(data, tmp_path, monkeypatch):
    """In a data set whose evaluation set has other machine types than its development set."""
    clips = [
        Clip(machine, "00", "train", f"{i}.wav", f"/{machine}/{i}.wav", year=2023, subset=subset)
        for machine, subset in (("fan", "dev"), ("valve", "dev"), ("Vacuum", "eval"))
        for i in range(2)
    ]
    scanned = layouts.Scan(ClipTable.of(clips), (), (), ())
    monkeypatch.setattr(layouts, "scan", lambda *_: scanned)
    monkeypatch.setattr(pipeline, "check_lengths", lambda *_: [])  # there are no such files
    planned = []
    monkeypatch.setattr(
        pipeline, "plan_run", lambda detector, *_: planned.append(detector.config) or "-"
    )
    for subset, plan, machines in (
        ("auto", "member dense\n-\n\nmember between\n-", {"dense": "valve", "between": "fan"}),
        ("eval", "member dense\n-", {"dense": "Vacuum"}),
    ):
        config = choose_config(data=configs.DataConfig(subset=subset))
        assert pipeline.dry_run(config, data).replace(SUBSETS, "") == plan
        assert {member.name: member.data.machines for member in planned} == {
            name: (machine,) for name, machine in machines.items()
        }
        planned.clear()


# The configurations of the reports, as far as no training shows it.


def test_a_dry_run_prints_each_members_plan(data, capsys, monkeypatch):
    """The plan itself is another test's; here, of which configurations it is."""
    planned = []
    monkeypatch.setattr(
        pipeline, "plan_run", lambda detector, *_: planned.append(detector.config) or "-"
    )
    status, out, err = run_cli(
        capsys, "run", "--config=giri2020_system2", "--dry_run", "--config.train.epochs=3"
    )
    assert (status, err) == (0, "")
    assert out == "member mobilenet_v2_id_mix\n-\n\nmember group_made\n-\n"
    config = load_config("giri2020_system2", {"train.epochs": "3"})
    assert planned == [*config.member_configs().values()]
    assert [member.train.epochs for member in planned] == [3, 3]


def test_the_reports_systems_share_their_members():
    """A member of one name has one configuration, or a shared folder would be refused."""
    systems = {n: load_config(f"giri2020_system{n}") for n in (1, 2, 3, 4)}
    of_name = {}
    for system in systems.values():
        assert system.combine == "mean"
        for name, member in system.member_configs().items():
            assert of_name.setdefault(name, member) == member
    assert [tuple(system.members) for system in systems.values()] == [
        ("mobilenet_v2_id_mix", "resnet50_id_mix", "group_made"),
        ("mobilenet_v2_id_mix", "group_made"),
        ("mobilenet_v2_id_mix", "mobilenet_v2_arcface", "group_made"),
        ("group_made",),
    ]
    assert of_name["group_made"] == load_config("group_made")  # an ordinary run is shared as well


def test_kazakovas_table_is_the_reports():
    """Kazakova et al. 2022, section 2, third system."""
    config = load_config("kazakova2022_system3")
    images = {m for m in config.choices if m.endswith(":picture_mobilenet")}
    assert images == {f"{m}:picture_mobilenet" for m in ("slider", "gearbox", "valve")}
    for machine in ("fan", "ToyCar", "ToyTrain", "bearing", "a machine it never saw"):
        assert config.member_for(machine) == "outlier_exposure_ae"
