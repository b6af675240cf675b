"""Limits of control groups, by files as Linux has them."""

from asd_jax.runtime.control_groups import files, number, quota


def group(root, version, **settings):
    """A fake control group of a process, with its files."""
    line = {1: "4:{kind}:/jobs/mine", 2: "0::/jobs/mine"}[version]
    names = {"cpu.max": (2, ""), "memory.max": (2, "")}
    lines = []
    for name, text in settings.items():
        name = name.replace("__", ".")
        kind = name.partition(".")[0]
        place = root / "sys/fs/cgroup" / ("" if name in names else kind) / "jobs/mine"
        place.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text)
        lines.append(line.format(kind=kind))
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text("\n".join(dict.fromkeys(lines)) + "\n")


def limits(root):
    quotas = [quota(path) for path in files("cpu.max", "cpu.cfs_quota_us", root)]
    return quotas, [number(path) for path in files("memory.max", "memory.limit_in_bytes", root)]


def test_control_groups_of_version_2(tmp_path):
    group(tmp_path, 2, cpu__max="150000 100000\n", memory__max="1073741824\n")
    assert limits(tmp_path) == ([1.5], [2**30])


def test_control_groups_of_version_1(tmp_path):
    group(
        tmp_path,
        1,
        cpu__cfs_quota_us="400000\n",
        cpu__cfs_period_us="100000\n",
        memory__limit_in_bytes="2147483648\n",
    )
    assert limits(tmp_path) == ([4.0], [2**31])


def test_a_group_above_limits_as_well(tmp_path):
    group(tmp_path, 2, cpu__max="max 100000\n")
    (tmp_path / "sys/fs/cgroup/jobs/cpu.max").write_text("200000 100000\n")
    assert limits(tmp_path)[0] == [None, 2.0]


def test_without_limits(tmp_path):
    group(tmp_path, 2, cpu__max="max 100000\n", memory__max="max\n")
    assert limits(tmp_path) == ([None], [None])
    assert limits(tmp_path / "nothing") == ([], [])
