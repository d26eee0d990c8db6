"""cgroups.py: what a container leaves of the machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from sharpreel.system import cgroups
from sharpreel.system.resources import free_bytes, usable_cpus

MIB = 1 << 20


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty tree of control groups; tests write what the kernel would."""
    monkeypatch.setattr(cgroups, "ROOT", tmp_path / "cgroup")
    monkeypatch.setattr(cgroups, "MEMBERSHIP", tmp_path / "membership")
    return tmp_path / "cgroup"


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


def member_of(groups: Path, text: str) -> None:
    groups.with_name("membership").write_text(text)


def test_version_2_limits_apply_from_the_own_group_and_those_above(groups: Path) -> None:
    member_of(groups, "0::/outer/inner\n")
    stat = f"anon 5\ninactive_file {30 * MIB}\n"
    write(
        groups / "outer",
        cpu__max="150000 100000\n",
        memory__max=f"{500 * MIB}\n",
        memory__current=f"{400 * MIB}\n",
        memory__stat=stat,
    )
    write(
        groups / "outer/inner",
        cpu__max="max 100000\n",
        memory__max="max\n",
        memory__current=f"{10 * MIB}\n",
        memory__stat=stat,
    )
    assert cgroups.cpu_quota() == 1.5
    assert cgroups.free_bytes() == 130 * MIB
    free = free_bytes()
    assert free is None or free <= 130 * MIB
    assert usable_cpus() == 1


def test_version_1_has_a_tree_per_controller(groups: Path) -> None:
    member_of(groups, "4:memory:/box\n3:cpuset:/\n2:cpu,cpuacct:/box\n0::/\n")
    write(groups / "cpu/box", cpu__cfs_quota_us="50000\n", cpu__cfs_period_us="100000\n")
    write(
        groups / "memory/box",
        memory__limit_in_bytes=f"{100 * MIB}\n",
        memory__usage_in_bytes=f"{90 * MIB}\n",
        memory__stat=f"total_inactive_file {MIB}\n",
    )
    assert cgroups.cpu_quota() == 0.5
    assert cgroups.free_bytes() == 11 * MIB
    assert usable_cpus() == 1


def test_without_a_limit_there_is_none(groups: Path) -> None:
    member_of(groups, "4:memory:/\n2:cpu,cpuacct:/\n0::/gone/away\n")
    write(groups / "cpu", cpu__cfs_quota_us="-1\n", cpu__cfs_period_us="100000\n")
    no_limit = "9223372036854771712\n"
    write(groups / "memory", memory__limit_in_bytes=no_limit, memory__usage_in_bytes="5\n")
    assert cgroups.cpu_quota() is None
    assert cgroups.free_bytes() is None


def test_a_container_sees_its_own_group_as_the_root(groups: Path) -> None:
    member_of(groups, "0::/docker/0123\n")
    write(groups, cpu__max="400000 100000\n", memory__max=f"{MIB}\n", memory__current="0\n")
    assert cgroups.cpu_quota() == 4
    assert cgroups.free_bytes() == MIB


def test_a_system_without_control_groups(groups: Path) -> None:
    assert cgroups.cpu_quota() is None
    assert cgroups.free_bytes() is None
