"""Linux's control groups: what a container or a batch system allows its processes."""

from pathlib import Path


def files(name: str, name_of_v1: str, root: Path = Path("/")) -> list[Path]:
    """A setting's files in this process's control groups and those above it, of both versions.

    Args:
        name: of the setting, such as "memory.max".
        name_of_v1: the same in the first version of control groups.
        root: of the file system.
    """
    found = []
    for line in text(root / "proc/self/cgroup").splitlines():
        _, controllers, group = line.split(":", 2)
        kind = name.partition(".")[0]
        if not controllers:
            top, own = root / "sys/fs/cgroup", name
        elif kind in controllers.split(","):
            top, own = root / "sys/fs/cgroup" / controllers, name_of_v1
            if not top.exists():
                top = root / "sys/fs/cgroup" / kind
        else:
            continue
        place = top / group.strip("/")
        # In a container the group's path may be that on the host, which is not seen inside.
        places = [place, *place.parents] if place.exists() else [top]
        found += [each / own for each in places if each == top or top in each.parents]
    return [file for file in found if file.is_file()]


def quota(path: Path) -> float | None:
    """Cores that a control group may use at a time; None without a limit."""
    if path.name == "cpu.max":  # as in "150000 100000"
        share, _, period = text(path).partition(" ")
    else:
        share, period = text(path), text(path.with_name("cpu.cfs_period_us"))
    return int(share) / int(period) if share.isdecimal() and period.isdecimal() else None


def number(path: Path) -> int | None:
    """A file's number; None without one, as for "max", which is no limit."""
    content = text(path)
    return int(content) if content.isdecimal() else None


def text(path: Path) -> str:
    """A file's text; "" where it cannot be read."""
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
