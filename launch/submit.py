#!/usr/bin/env python3
"""Submit a grid of runs as jobs: domains × methods × seeds, or the kinds of a study × seeds. Safe to repeat.

    python launch/submit.py configs/vlcs.yaml --domains all --methods erm,align --seeds 0:3 --nodes 2 --tasks-per-node 8
    python launch/submit.py configs/studies/waterbirds.txt --seeds 3:8 --prepare --share-warmup

Finished cells are skipped, running and waiting cells are left alone, interrupted cells resume from their last
checkpoint, trained cells are measured as the grid asks, and failed cells are submitted again with --retry. The states
come from the runs' folders and the queue.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from align_dist.cli import answer
from align_dist.cluster.grid import Cell, cells_of, cost_lines, parse_seeds, study_cells
from align_dist.cluster.resources import Resources
from align_dist.cluster.study import SUFFIX, kinds_of
from align_dist.config import RunConfig, load_config
from align_dist.errors import ConfigError

FORMATS = ("text", "markdown", "latex", "csv")


def main(arguments: list[str] | None = None) -> int:
    """Run one command line. A user's mistake is one line, with an exit code of `align-dist`."""
    return answer(lambda: _submit(_parser().parse_intermixed_args(arguments)))


def _submit(options: argparse.Namespace) -> int:
    if options.prepare:
        _prepare(options)
    cells = _cells(options)
    resources = resources_of(options, cells)
    if options.collect:
        from align_dist.cluster.collect import collect, collect_study

        (collect_study if _is_study(options) else collect)(cells, options.format)
        return 0
    if options.plan:
        from align_dist.cluster.plan import print_plan

        print_plan(cells, resources, options.cluster, options.retry)
        return 0
    failures = 0 if options.watch_only else _start(cells, resources, options)
    if options.watch_only or (options.watch and options.cluster == "slurm"):
        from align_dist.cluster.watch import watch_grid

        watch_grid(cells, options.every)
        return 0
    return _show(cells) or int(failures > 0)


def _cells(options: argparse.Namespace) -> list[Cell]:
    seeds = parse_seeds(options.seeds)
    if not _is_study(options):
        domains, methods = (options.domains or "all").split(","), (options.methods or "erm,align").split(",")
        return cells_of(options.config, options.overrides, domains, methods, seeds, options.share_warmup)
    if options.domains or options.methods:
        raise ConfigError(f"--domains, --methods: the lines of {options.config} name them; remove the option")
    return study_cells(options.config, options.overrides, seeds, options.share_warmup)


def _prepare(options: argparse.Namespace) -> None:
    """Write the betons that the cells read, as `align-dist data prepare` does."""
    from align_dist.data.prepare import prepare

    configs = (kinds_of if _is_study(options) else _alone)(options.config, options.overrides)
    for benchmark in dict.fromkeys(config.benchmark for config in configs):
        prepare(benchmark)


def _is_study(options: argparse.Namespace) -> bool:
    return bool(options.config.suffix == SUFFIX)


def _alone(path: Path, overrides: list[str]) -> list[RunConfig]:
    return [load_config(path, overrides)]


def _start(cells: list[Cell], resources: Resources, options: argparse.Namespace) -> int:
    """Submit the cells, or run them on this machine. Returns the number of failures, 0 where not known yet."""
    from align_dist.cluster.submission import run_here, run_in_process, submit_to_slurm

    for line in cost_lines(cells):
        _say(f"submit: the grid takes {line}")
    if options.cluster == "slurm":
        count = submit_to_slurm(cells, resources, options.retry, _say)
        _say(f"submit: {count} jobs submitted, {len(cells) - count} cells left as they are")
    elif options.cluster == "debug":
        return run_in_process(cells, options.retry, _say)
    else:
        from align_dist.cluster.watch import live_grid

        with live_grid(cells, options.watch) as refresh:
            run_here(cells, resources, options.retry, _say, refresh)
    return 0


def _show(cells: list[Cell]) -> int:
    """Show the table and the last log lines of failed cells. Returns 1 if a cell failed or has to go on, else 0."""
    from align_dist.cluster.submission import statuses
    from align_dist.cluster.watch import show_grid
    from align_dist.runs.status import State

    states = statuses(cells)
    show_grid(cells, states)
    return int(any(status.state in (State.FAILED, State.INTERRUPTED, State.TRAINED) for status in states))


def resources_of(options: argparse.Namespace, cells: list[Cell]) -> Resources:
    """The resources of each job. Raises ConfigError for a batch that does not split equally over the job's tasks."""
    config = cells[0].config
    gpus = options.tasks_per_node if options.gpus_per_node is None else options.gpus_per_node
    resources = Resources(
        nodes=options.nodes,
        tasks_per_node=options.tasks_per_node,
        gpus_per_node=0 if options.gpus_per_node is None and _trains_on_cpu(options.cluster, config) else gpus,
        cpus_per_task=options.cpus_per_task,
        minutes=options.minutes or round(options.hours * 60),
        grace=round(config.distributed.grace),
        max_parallel=options.max_parallel,
        max_timeouts=options.max_timeouts,
        memory_gb=options.memory_gb,
        partition=options.partition,
        account=options.account,
        qos=options.qos,
        constraint=options.constraint,
        dependency=options.dependency,
        setup=tuple(options.setup),
        extra=dict(_pair(text) for text in options.sbatch),
    )
    if config.data.batch_size % (resources.tasks * config.data.micro_batches):
        raise ConfigError(
            f"data.batch_size: {config.data.batch_size} images do not split equally over {resources.tasks} tasks; "
            "change data.batch_size, --nodes or --tasks-per-node"
        )
    return resources


def _trains_on_cpu(cluster: str, config: RunConfig) -> bool:
    """Return whether jobs use no GPU: as the config says, and with `auto` as this machine is where jobs run on it."""
    if config.training.device != "auto" or cluster == "slurm":
        return config.training.device == "cpu"
    from align_dist.assembly import choose_device

    return choose_device("auto").type == "cpu"


def _pair(text: str) -> tuple[str, str | bool]:
    key, separator, value = text.partition("=")
    if not key:
        raise ConfigError(f"--sbatch: takes KEY=VALUE such as reservation=friday, or KEY such as hold, got {text!r}")
    return key, value if separator else True


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError
    return value


_positive.__name__ = "positive number"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "submit.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path, help="a YAML file, or a study such as configs/studies/methods.txt")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="for every cell")
    grid = parser.add_argument_group("the grid")
    grid.add_argument(
        "--domains", help="sources, or held-out targets: names separated by commas; default: all; of a YAML file alone"
    )
    grid.add_argument("--methods", help="names separated by commas; default: erm,align; of a YAML file alone")
    grid.add_argument("--seeds", default="0:3", help="0:3 is 0, 1, 2; or a list: 0,4,7 (default 0:3)")
    grid.add_argument("--share-warmup", action="store_true", help="train a warm-up that several runs share only once")
    grid.add_argument("--prepare", action="store_true", help="first write the betons that are missing")
    actions = parser.add_argument_group("actions (default: submit the cells that have to run, then show the table)")
    only = actions.add_mutually_exclusive_group()
    only.add_argument("--plan", action="store_true", help="show cells, sbatch text, hours and disk; submit nothing")
    only.add_argument(
        "--watch", action="store_true", help="submit, then watch until no cell runs or waits; safe to interrupt"
    )
    only.add_argument("--watch-only", action="store_true", help="watch, and submit nothing")
    only.add_argument("--collect", action="store_true", help="print the tables of finished cells")
    actions.add_argument("--format", choices=FORMATS, default="text", help="of the tables of --collect")
    actions.add_argument("--retry", action="store_true", help="submit failed cells again")
    actions.add_argument(
        "--every", type=float, default=10, metavar="SECONDS", help="between updates of --watch on Slurm (default 10)"
    )
    _add_resources(parser.add_argument_group("each job"))
    return parser


def _add_resources(jobs: argparse._ArgumentGroup) -> None:
    jobs.add_argument("--cluster", choices=["slurm", "local", "debug"], default="slurm")
    jobs.add_argument("--nodes", type=_positive, default=1)
    jobs.add_argument("--tasks-per-node", type=_positive, default=1, help="one for each device")
    jobs.add_argument("--gpus-per-node", type=int, help="default: as many as tasks; none where the CPU trains")
    jobs.add_argument("--cpus-per-task", type=_positive)
    jobs.add_argument("--memory-gb", type=_positive)
    limit = jobs.add_mutually_exclusive_group()
    limit.add_argument("--hours", type=float, default=24, help="time limit (default 24)")
    limit.add_argument("--minutes", type=_positive, help="time limit; more than 10, see slurm/README.md")
    jobs.add_argument("--max-parallel", type=_positive, default=256, help="jobs that run at a time")
    jobs.add_argument(
        "--max-timeouts", type=_positive, default=100, help="times that a job may reach its limit and resume"
    )
    for name in ("partition", "account", "qos", "constraint", "dependency"):
        jobs.add_argument(f"--{name}")
    jobs.add_argument("--setup", action="append", default=[], metavar="LINE", help="shell line before srun; repeatable")
    jobs.add_argument(
        "--sbatch", action="append", default=[], metavar="KEY[=VALUE]", help="any other option of sbatch; repeatable"
    )


if __name__ == "__main__":
    sys.exit(main())
