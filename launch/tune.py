"""Search the options of a method, the warm-up length, or any other key of a run's config, with one shared warm-up.

python launch/tune.py configs/search/quickstart.yaml [KEY=VALUE ...] [--plan] [--samples N] [--concurrency N]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from align_dist.cli import EXIT_CODES, answer
from align_dist.cluster.ray_cluster import check_package
from align_dist.search.config import SearchConfig, load_search

if TYPE_CHECKING:
    from align_dist.search.results import SearchResults


def main(arguments: list[str]) -> int:
    """Run a search. A user's mistake is one line, with an exit code of `align-dist`."""
    parser = argparse.ArgumentParser(
        "tune.py",
        description="Search the options of a method. Run the same command again to resume.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("search", type=Path, help="a YAML file, such as configs/search/quickstart.yaml")
    parser.add_argument(
        "overrides", nargs="*", default=[], metavar="KEY=VALUE", help="overrides of the base run's config"
    )
    parser.add_argument("--experiment", metavar="NAME", help="the trials' experiment, instead of the file's")
    parser.add_argument("--samples", type=int, metavar="N", help="total number of trials, instead of the file's")
    parser.add_argument("--concurrency", type=int, metavar="N", help="trials at a time, instead of the file's")
    parser.add_argument("--ray-address", metavar="A", help="a running Ray cluster, instead of a new one for the search")
    parser.add_argument("--ray-nodes", type=int, default=0, metavar="N", help="wait until the cluster has N nodes")
    parser.add_argument("--plan", action="store_true", help="show trials, warm-ups and epochs, and train nothing")

    def search() -> None:
        options = parser.parse_intermixed_args(arguments)
        names = ("experiment", "samples", "concurrency")
        changes = {name: getattr(options, name) for name in names}
        settings = {key: value for key, value in changes.items() if value is not None}
        config = load_search(options.search, settings, options.overrides)
        check_package("optuna")  # Ray is not needed before a trial is trained
        from align_dist.search.tuner import run_search

        if options.plan:
            show_plan(config)
        else:
            show_results(run_search(config, options.ray_address, options.ray_nodes))

    return answer(search, "tune.py", "interrupted; run the same command again to resume")


def show_plan(search: SearchConfig) -> None:
    """Print the trials that are known before training, their warm-ups, and their cost in epochs."""
    from align_dist.runs.warmup import cost_of, silent_in_warmup, warmup_of
    from align_dist.schema.distributions import Choice
    from align_dist.search.sampler import TrialSampler
    from align_dist.search.trials import check_lengths
    from align_dist.training_plan import schedule_of

    trials = TrialSampler(search).trials
    check_lengths(search, trials)
    lengths = [schedule_of(trial.config).length for trial in trials]
    for trial, length in zip(trials, lengths, strict=True):
        warmup = warmup_of(trial.config)
        shared = (
            f", from step {warmup.step} of {warmup.trunk.folder.name}" if search.share_warmup and warmup.step else ""
        )
        print(f"{trial}{shared}, {length} steps: {trial.folder}")
    if len(trials) < search.samples:
        print(
            f"{search.samples - len(trials)} more trials depend on earlier scores ({search.algorithm}): not listed yet"
        )
    if search.confirm is not None:
        print(
            f"afterwards, not counted here: the best {search.confirm.finalists} on {search.confirm.seeds} other seeds"
        )
    if trials:
        print(cost_of([trial.config for trial in trials], lengths, search.share_warmup))
    silent = silent_in_warmup(search.base().method)
    sharing = search.share_warmup and any(warmup_of(trial.config).step for trial in trials)
    for key, distribution in sorted(search.space.items()) if sharing else ():
        acts_in_warmup = not any(key == name or key.startswith(f"{name}.") for name in silent)
        if acts_in_warmup and not isinstance(distribution, Choice):
            print(f"note: {key} acts in warm-up and has a range, so that hardly any two trials share a warm-up")


def show_results(results: SearchResults) -> None:
    """Print the trials, the best first, the finalists and the cost."""
    from rich.console import Console
    from rich.table import Table

    folder, keys = results.search.folder(), list(results.search.space)
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("trial", "objective", *(key.rpartition(".")[2] for key in keys), "step", "state", "run"):
        table.add_column(name, justify="left" if name in ("state", "run") else "right")
    for number, entry in sorted(results.entries.items(), key=lambda pair: -(pair[1].objective or 0.0)):
        objective = "–" if entry.objective is None else f"{entry.objective:.4f}"
        values = [str(entry.trial.values.get(key, "")) for key in keys]
        ending = str(entry.steps), str(entry.state), entry.trial.folder.name
        style = "green" if number in (results.best, *results.front) else ""
        table.add_row(str(number), objective, *values, *ending, style=style)
    Console(width=None if sys.stdout.isatty() else 200).print(table)
    for finalist in results.finalists:
        print(f"finalist: trial {finalist.number}: {finalist}, {finalist.selected_on:.4f} on the seed of its selection")
    print(results.cost)
    for number in results.front:
        print(f"on the front: trial {number}: {folder / f'front-{number:04}.yaml'}")
    if results.best is not None:
        print(f"best: trial {results.best}: {folder / 'best.yaml'}")
    print(folder / "search.json")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
