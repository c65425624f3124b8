"""Searches options of a method, the warm-up length, or anything else of a run's config, with one shared warm-up.

python launch/tune.py configs/search/quickstart.yaml [KEY=VALUE ...] [--plan] [--samples N] [--concurrency N]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from align_dist.cli import EXIT_CODES, answer
from align_dist.search.config import load_search


def main(arguments: list[str]) -> int:
    """Runs a search; a user's mistake is one line and an exit code of `align-dist`."""
    parser = argparse.ArgumentParser(
        "tune.py",
        description="Search the options of a method. The same command goes on where a search stopped.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("search", type=Path, help="a YAML file, such as configs/search/quickstart.yaml")
    parser.add_argument("overrides", nargs="*", default=[], metavar="KEY=VALUE", help="of the base run")
    parser.add_argument("--samples", type=int, metavar="N", help="trials in all, in place of the file's")
    parser.add_argument("--concurrency", type=int, metavar="N", help="trials at once, in place of the file's")
    parser.add_argument("--ray-address", metavar="A", help="a Ray cluster that runs, in place of one for the search")
    parser.add_argument("--ray-nodes", type=int, default=0, metavar="N", help="wait until that cluster has N nodes")
    parser.add_argument("--plan", action="store_true", help="show trials, warm-ups and epochs, and train nothing")

    def search() -> None:
        options = parser.parse_intermixed_args(arguments)
        changes = {"samples": options.samples, "concurrency": options.concurrency}
        given = {key: value for key, value in changes.items() if value is not None}
        config = load_search(options.search, given, options.overrides)
        from align_dist.search.results import show_results
        from align_dist.search.tuner import run_search, show_plan

        if options.plan:
            show_plan(config)
        else:
            show_results(run_search(config, options.ray_address, options.ray_nodes))

    return answer(search, "tune.py", "interrupted; the same command goes on")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
