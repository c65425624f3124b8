"""A local cluster's verbs, on a cluster of their own beside the session's."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from local_slurm import CHECKOUT, cluster, local_cluster, output_of


@pytest.fixture(scope="module")
def other(slurm: Path) -> Iterator[Path]:
    """A second cluster, of one node; the session's runs beside it."""
    with cluster(nodes=1) as folder:
        yield folder


def test_a_second_start_leaves_what_runs(other: Path) -> None:
    before = local_cluster("status", "--dir", other)
    assert before.returncode == 0 and "node1 slurmd" in before.stdout
    port = (other / "slurm.conf").read_text()
    assert local_cluster("start", "--dir", other, "--nodes", "1").returncode == 0
    assert (other / "slurm.conf").read_text() == port
    refused = local_cluster("start", "--dir", other, "--nodes", "3")
    assert refused.returncode == 1 and refused.stderr.count("\n") == 1
    assert local_cluster("status", "--dir", other).returncode == 0


def test_a_command_runs_as_on_a_login_node(other: Path) -> None:
    ran = local_cluster("exec", "--dir", other, "srun", "--nodes=1", "printf", "%s|", "a b", """c"'$d""")
    assert ran.stdout == """a b|c"'$d|""", ran.stderr


def test_a_node_without_power_is_not_all_and_comes_back(other: Path) -> None:
    assert local_cluster("node-kill", "node1", "--dir", other).returncode == 0
    assert local_cluster("status", "--dir", other).returncode == 1
    assert local_cluster("node-start", "node1", "--dir", other).returncode == 0
    assert local_cluster("status", "--dir", other).returncode == 0
    unknown = local_cluster("node-kill", "node9", "--dir", other)
    assert unknown.returncode == 1 and unknown.stderr.strip() == "local_cluster: name one of: node1"


def test_a_stop_ends_its_own_daemons_only(other: Path, slurm: Path) -> None:
    mine = subprocess.Popen(["sleep", "600"])
    daemons = local_cluster("status", "--dir", slurm).stdout
    for _ in range(2):
        assert local_cluster("stop", "--dir", other).returncode == 0
        assert local_cluster("status", "--dir", other).returncode == 3
    assert local_cluster("status", "--dir", slurm).stdout == daemons
    assert output_of("sinfo", "--noheader", "--partition=main", "--format=%D") == "2"
    assert mine.poll() is None
    mine.kill()
    mine.wait()
    assert not [each for each in _command_lines() if str(other) in each]


def _command_lines() -> list[str]:
    return subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout.splitlines()[1:]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["start", "--nodes", "0"], "--nodes: takes 1 to 64"),
        (["start", "--dir", "/tmp/" + "a" * 60], "at most 64 characters"),
        (["exec", "--dir", "/tmp/no-cluster-here", "true"], "no cluster runs"),
    ],
    ids=["nodes", "long", "none"],
)
def test_a_wrong_call_is_one_line(arguments: list[str], expected: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to come so far")
    process = local_cluster(*arguments)
    assert process.returncode == 1
    (line,) = process.stderr.splitlines()
    assert expected in line


def test_without_root_it_says_so() -> None:
    command = ["bash", str(CHECKOUT / "slurm" / "local_cluster.sh"), "start"]
    if os.geteuid() == 0:
        command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *command]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 1 and process.stderr.strip().endswith("run it with sudo"), process.stderr
