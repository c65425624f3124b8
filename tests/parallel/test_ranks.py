from __future__ import annotations

import pytest
from refusals import raises

from align_dist.errors import MachineError
from align_dist.parallel.ranks import LOWEST_PORT, PORTS, Ranks, find_ranks, tasks_on

Environment = dict[str, str]
TORCHRUN: Environment = {
    "RANK": "3",
    "WORLD_SIZE": "4",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "first",
    "MASTER_PORT": "29500",
}
SRUN: Environment = {
    "SLURM_PROCID": "4",
    "SLURM_STEP_NUM_TASKS": "5",
    "SLURM_LOCALID": "0",
    "SLURM_STEP_NODELIST": "node[1-3]",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2),1",
    "SLURM_NODEID": "2",
    "SLURM_JOB_ID": "70123",
    "MASTER_ADDR": "node1",
}
SUBMITIT: Environment = {
    "SUBMITIT_LOCAL_GLOBALID": "1",
    "SUBMITIT_LOCAL_NTASKS": "2",
    "SUBMITIT_LOCAL_LOCALID": "1",
    "SUBMITIT_LOCAL_JOB_ID": "977",
}
OPTIONAL = ("SLURM_STEP_TASKS_PER_NODE", "SLURM_NODEID", "MASTER_ADDR")


def without(environment: Environment, *names: str) -> Environment:
    return {name: value for name, value in environment.items() if name not in names}


def test_each_launcher_is_read_in_its_own_words() -> None:
    assert find_ranks(TORCHRUN) == Ranks(3, 4, 1, 2, "first", 29500, "torchrun")
    assert find_ranks(SRUN) == Ranks(4, 5, 0, 1, "node1", LOWEST_PORT + 70123 % PORTS, "srun")
    assert find_ranks(SUBMITIT) == Ranks(1, 2, 1, 2, "127.0.0.1", LOWEST_PORT + 977, "submitit")
    assert find_ranks({"HOME": "/root"}) == Ranks(0, 1, 0, 1)


def test_torchrun_is_asked_before_srun_and_srun_before_submitit() -> None:
    assert find_ranks({**SUBMITIT, **SRUN, **TORCHRUN}).launcher == "torchrun"
    assert find_ranks({**SUBMITIT, **SRUN}).launcher == "srun"
    assert find_ranks({**SUBMITIT, "SLURM_NTASKS": "1"}).launcher == "submitit"


def test_one_that_speaks_for_itself_needs_nothing_more() -> None:
    """Slurm sets MASTER_PORT for nobody, one node needs no SLURM_NODEID, and a user's MASTER_PORT wins."""
    one_node = without(SRUN, "SLURM_STEP_TASKS_PER_NODE", "SLURM_NODEID")
    assert find_ranks(one_node) == Ranks(4, 5, 0, 5, "node1", LOWEST_PORT + 70123 % PORTS, "srun")
    for environment in (SRUN, SUBMITIT):
        assert find_ranks({**environment, "MASTER_PORT": "4711"}).port == 4711


@pytest.mark.parametrize("job", ["1", "11999", "12000", "123456789", "12_3", "none"])
def test_a_jobs_ranks_share_one_port_that_no_outgoing_connection_gets(job: str) -> None:
    ports = {find_ranks({**SRUN, "SLURM_JOB_ID": job, "SLURM_PROCID": str(rank)}).port for rank in range(5)}
    assert len(ports) == 1 and 1024 <= LOWEST_PORT <= ports.pop() < 32768


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        *((TORCHRUN, name) for name in TORCHRUN),
        *((SRUN, name) for name in SRUN if name not in (*OPTIONAL, "SLURM_STEP_NUM_TASKS")),
        *((SUBMITIT, name) for name in SUBMITIT),
    ],
)
@pytest.mark.parametrize("empty", [False, True])
def test_a_half_set_environment_is_refused_by_the_name_that_is_missing(
    environment: Environment, name: str, empty: bool
) -> None:
    half = {**environment, name: ""} if empty else without(environment, name)
    with raises(MachineError, f" {name} "):
        find_ranks(half)


@pytest.mark.parametrize("variable", ["RANK", "WORLD_SIZE", "LOCAL_RANK"])
def test_one_variable_of_torchrun_alone_is_refused(variable: str) -> None:
    others = ", ".join(name for name in TORCHRUN if name != variable)
    with raises(MachineError, variable, others):
        find_ranks({variable: "0"})


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        *((TORCHRUN, name) for name in TORCHRUN if name != "MASTER_ADDR"),
        *((SRUN, name) for name in ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "SLURM_NODEID")),
        *((SUBMITIT, name) for name in SUBMITIT if name != "SUBMITIT_LOCAL_JOB_ID"),
    ],
)
def test_what_is_no_number_is_named(environment: Environment, name: str) -> None:
    with raises(MachineError, f"{name}: ", "'two'"):
        find_ranks({**environment, name: "two"})


@pytest.mark.parametrize(
    "wrong",
    [
        {**TORCHRUN, "RANK": "4"},
        {**TORCHRUN, "RANK": "-1"},
        {**TORCHRUN, "LOCAL_RANK": "2"},
        {**TORCHRUN, "WORLD_SIZE": "0"},
        {**SRUN, "SLURM_PROCID": "5"},
        {**SRUN, "SLURM_LOCALID": "1"},
        {**SUBMITIT, "SUBMITIT_LOCAL_GLOBALID": "2"},
    ],
)
def test_a_rank_that_cannot_be_is_refused(wrong: Environment) -> None:
    with raises(MachineError, "rank"):
        find_ranks(wrong)


def test_a_job_of_several_tasks_that_forgot_srun_is_refused() -> None:
    """In a batch script: it would train alone, with the others' cores idle."""
    with raises(MachineError, "4 tasks", "srun align-dist train"):
        find_ranks({"SLURM_JOB_ID": "1", "SLURM_NTASKS": "4"})
    assert find_ranks({"SLURM_JOB_ID": "1", "SLURM_NTASKS": "1"}) == Ranks()
    assert find_ranks({"SLURM_JOB_ID": "1"}) == Ranks()
    assert find_ranks({**TORCHRUN, "SLURM_NTASKS": "4"}).launcher == "torchrun"


def test_a_number_of_tasks_that_is_none_is_named() -> None:
    with raises(MachineError, "SLURM_NTASKS: ", "'two'"):
        find_ranks({"SLURM_JOB_ID": "1", "SLURM_NTASKS": "two"})


def test_without_scontrol_the_remedy_is_to_name_the_first_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with raises(MachineError, "MASTER_ADDR"):
        find_ranks(without(SRUN, "MASTER_ADDR"))


def test_one_task_on_a_named_node_needs_no_scontrol(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    one = {"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1", "SLURM_LOCALID": "0", "SLURM_STEP_TASKS_PER_NODE": "1"}
    ranks = find_ranks({**without(SRUN, "MASTER_ADDR"), **one, "SLURM_NODEID": "0", "SLURM_STEP_NODELIST": "node7"})
    assert (ranks.rank, ranks.world_size, ranks.launcher) == (0, 1, "srun")


def test_tasks_on_each_node_of_slurms_run_length_form() -> None:
    assert [tasks_on("2(x3),1", node) for node in range(4)] == [2, 2, 2, 1]
    assert [tasks_on("1,4(x2),3", node) for node in range(4)] == [1, 4, 4, 3]
    assert tasks_on("8", 0) == 8
