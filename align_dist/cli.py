"""The `align-dist` command: one function for each verb."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from align_dist import __version__
from align_dist.errors import ConfigError, UserError
from align_dist.files import storage_errors

if TYPE_CHECKING:
    _Verbs = argparse._SubParsersAction[argparse.ArgumentParser]

CHECKED = 32  # pictures that an exported model is compared on
SELECTIONS = ("validation", "validation_worst_group", "last", "oracle")
EXIT_CODES = """exit codes: 0 done · 1 other mistakes · 2 config or command line · 3 data · 4 checkpoint or run folder ·
5 this machine lacks something · 6 a loss or gradient was not finite · 7 disk full or not writable ·
8 another rank died or stalled, run the same command again to resume ·
75 interrupted by a signal, saved, run the same command again to resume ·
130 interrupted before there was anything to save"""


def main(arguments: list[str] | None = None) -> int:
    """Run one verb. A user's mistake is one line on stderr and a documented exit code."""
    return answer(lambda: _run(arguments))


def _run(arguments: list[str] | None) -> int | None:
    options = _options(arguments)
    code: int | None = options.run(options)
    return code


def answer(action: Callable[[], int | None], name: str = "align-dist", interrupted: str = "interrupted") -> int:
    """The exit code of what a command does; a user's mistake is one line on stderr, under the command's name.

    From here on what the streams' encoding has no letters for is printed as `?`: λ under ISO-8859-1, nearly all under
    ASCII, and names of files in bytes that are no text.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        with storage_errors():
            return int(action() or 0)
    except UserError as error:
        if not error.printed_by_another_rank:
            print(f"{name}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(f"{name}: {interrupted}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _options(arguments: list[str] | None) -> argparse.Namespace:
    """The parsed command line. argparse ends a list of overrides at the first flag: those after it are taken here."""
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    unknown = [text for text in rest if text.startswith("-") or "=" not in text or not hasattr(options, "overrides")]
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    if rest:
        options.overrides = [*options.overrides, *rest]
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "align-dist",
        description="Train image classifiers whose predictions and explanations agree (ALIGN).",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"align_dist {__version__}")
    verbs = parser.add_subparsers(title="verbs", required=True, metavar="VERB")

    _add_preparing(verbs)
    _add_running(verbs)
    _add_reading(verbs)
    return parser


def _add_preparing(verbs: _Verbs) -> None:
    """The verbs of a machine and its data."""
    doctor = _verb(verbs, "doctor", "say what this machine has and lacks", _doctor)
    doctor.add_argument("config", nargs="?", type=Path, help="also look at the data folders it names")
    doctor.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="for example benchmark.root=/data/pacs")
    doctor.add_argument("--minutes", type=int, metavar="N", help="also whether a Slurm job of this time limit survives")
    doctor.add_argument("--partition", metavar="NAME", help="the Slurm partition it would run in")
    selftest = _verb(verbs, "selftest", "try every device and engine that is here (two minutes)", _selftest)
    selftest.add_argument("--out", type=Path, default=Path("selftest.json"), metavar="FILE", help="where it is told")
    data = verbs.add_parser("data", help="prepare or verify the .beton of a benchmark, or make its masks")
    steps = data.add_subparsers(title="verbs", required=True, metavar="VERB")
    prepare = _verb(steps, "prepare", "read the benchmark's folders and write its .beton", _prepare)
    _add_config(prepare)
    prepare.add_argument("--force", action="store_true", help="write it again though it is there")
    _add_config(_verb(steps, "verify", "find a missing, truncated or changed .beton", _verify))
    masks = _verb(steps, "masks", "write benchmark.masks by a segmentation model, once for all pictures", _masks)
    _add_config(masks)
    masks.add_argument("--model", type=Path, required=True, metavar="FILE", help="u2net.onnx, or sam_vit_b_01ec64.pth")


def _add_running(verbs: _Verbs) -> None:
    """The verbs that train and measure."""
    train = _verb(verbs, "train", "train a run from where it is, then evaluate it", _train)
    _add_config(train)
    train.add_argument("--print-config", action="store_true", help="show the resolved run and stop")
    train.add_argument("--sources-only", action="store_true", help="read no picture of a target, and evaluate nothing")
    train.add_argument("--share-warmup", action="store_true", help="begin with the warm-up of the experiment's runs")
    train.add_argument("--keep-warmup", type=_steps, default=(), metavar="STEP,...", help="where other runs leave it")

    evaluate = _verb(verbs, "evaluate", "measure a trained run again, or on another benchmark", _evaluate)
    evaluate.add_argument("folder", type=Path, metavar="RUN")
    evaluate.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="such as evaluation.fill=blur")
    evaluate.add_argument("--theory", action="store_true", help="also the paper's lemmas: what backgrounds change")
    evaluate.add_argument("--on", type=Path, metavar="CONFIG", help="the benchmark of this config instead")

    status = _verb(verbs, "status", "how runs stand: of grids, of searches, single ones", _status)
    status.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="run folders, or folders of them")
    shown = status.add_mutually_exclusive_group()
    shown.add_argument("--watch", action="store_true", help="redraw until nothing is running, or Ctrl-C")
    shown.add_argument("--json", action="store_true", help="one JSON line a run")
    bench = _verb(verbs, "bench", "measure costs, as ratios within one run", _bench)
    bench.add_argument("what", choices=["data", "loader", "step", "train", "scale"])
    _add_config(bench, needed=False)
    bench.add_argument("--most", action="store_true", help="data: also 100,000 pictures; CONFIG may be left out")


def _add_reading(verbs: _Verbs) -> None:
    """The verbs that read what runs have left."""
    report = _verb(verbs, "report", "tables and pictures of runs", _report)
    report.add_argument(
        "folders", nargs="+", type=Path, metavar="RUN", help="run folders, folders of them, or files of rows (.jsonl)"
    )
    report.add_argument("--html", type=Path, metavar="FILE", help="also write one self-contained page")
    report.add_argument("--format", choices=["text", "markdown", "latex", "csv"], default="text")
    report.add_argument("--selection", default="validation", choices=SELECTIONS, help="of tables; default: validation")
    instead = report.add_mutually_exclusive_group()
    instead.add_argument("--table", metavar="PAPER", help="a paper's tables instead: paper (ALIGN's own), dre")
    instead.add_argument("--minus", metavar="METHOD", help="differences to this one, such as erm, paired by seed")
    instead.add_argument("--against", metavar="KEY", help="what is gained over ERM as this setting changes, instead")
    instead.add_argument(
        "--gallery",
        type=Path,
        metavar="FILE",
        help="a PNG of all methods on the same images, by each run's first selection",
    )
    report.add_argument("--figure", type=Path, metavar="FILE", help="with --against: also write it as a PNG")
    report.add_argument("--domain", metavar="NAME", help="with --gallery: default: the first target domain")

    explain = _verb(verbs, "explain", "class, attribution and mask of new pictures, by a trained run", _explain)
    explain.add_argument("folder", type=Path, metavar="RUN")
    explain.add_argument("pictures", nargs="+", type=Path, metavar="PICTURE", help="files, or folders of them")
    explain.add_argument("--out", type=Path, default=Path("explanations"), metavar="FOLDER", help="for what is made")
    explain.add_argument("--selection", default="validation", choices=SELECTIONS)
    export = _verb(verbs, "export", "write a trained run's model to a file that needs no align_dist", _export)
    export.add_argument("folder", type=Path, metavar="RUN")
    export.add_argument("file", type=Path, metavar="FILE", help=".pth (torchvision's state dict), .pt2 or .onnx")
    export.add_argument("pictures", nargs="+", type=Path, metavar="PICTURE", help="on which the file is checked")
    export.add_argument("--selection", default="validation", choices=SELECTIONS)

    monitor = _verb(verbs, "monitor", "serve TensorBoard on this machine's loopback", _monitor)
    monitor.add_argument("folders", nargs="+", type=Path, metavar="RUN", help="run folders, or folders of them")
    monitor.add_argument("--port", type=int, default=6006, help="0 for any free one (default 6006)")


def _verb(verbs: _Verbs, name: str, text: str, run: object) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    parser.set_defaults(run=run)
    return parser


def _add_config(parser: argparse.ArgumentParser, needed: bool = True) -> None:
    count = None if needed else "?"
    parser.add_argument("config", type=Path, nargs=count, help="a YAML file, such as configs/quickstart.yaml")
    # With a default it is not among "the following arguments are required".
    parser.add_argument("overrides", nargs="*", default=[], metavar="KEY=VALUE", help="for example align.lambda3=0.5")


def _steps(text: str) -> tuple[int, ...]:
    return tuple(int(step) for step in text.split(","))


def _doctor(options: argparse.Namespace) -> int:
    from align_dist.config import load_config
    from align_dist.doctor import examine

    config = load_config(options.config, options.overrides) if options.config else None
    return examine(config, options.minutes, options.partition)


def _selftest(options: argparse.Namespace) -> int:
    from align_dist.selftest.checks import selftest

    return selftest(options.out)


def _prepare(options: argparse.Namespace) -> None:
    from align_dist.config import load_config
    from align_dist.data.prepare import prepare

    prepare(load_config(options.config, options.overrides).benchmark, force=options.force)


def _verify(options: argparse.Namespace) -> None:
    from align_dist.config import load_config
    from align_dist.data.comparison import checked_manifest

    benchmark = load_config(options.config, options.overrides).benchmark
    manifest = checked_manifest(benchmark, quick=False)
    print(f"{benchmark.beton}: intact, {len(manifest):,} images of {len(manifest.domains)} domains")


def _masks(options: argparse.Namespace) -> None:
    from align_dist.config import load_config
    from align_dist.data.segmentation import write_masks

    write_masks(load_config(options.config, options.overrides).benchmark, options.model)


def _train(options: argparse.Namespace) -> None:
    from align_dist.config import load_config, to_yaml
    from align_dist.config_checks import check_names
    from align_dist.data.manifest import with_fingerprint

    try:
        config = with_fingerprint(load_config(options.config, options.overrides))
        check_names(config)
    except UserError as error:
        error.printed_by_another_rank = _is_other_rank()  # every rank reads the same file
        raise
    if options.print_config:
        print(to_yaml(config), end="")
        return
    from align_dist.parallel.ranks import find_ranks
    from align_dist.run import train_run

    folder = train_run(
        config,
        sources_only=options.sources_only,
        share_warmup=options.share_warmup,
        passing=options.keep_warmup,
    )
    if find_ranks(os.environ).rank == 0:
        print(folder.path)


def _is_other_rank() -> bool:
    from align_dist.parallel.ranks import find_ranks

    try:
        return find_ranks(os.environ).rank > 0
    except UserError:
        return False


def _evaluate(options: argparse.Namespace) -> None:
    from align_dist.config import load_config
    from align_dist.evaluation.reevaluate import reevaluate_run

    other = load_config(options.on).benchmark if options.on else None
    overrides = [*options.overrides, *(["evaluation.theory=true"] if options.theory else [])]
    print(reevaluate_run(options.folder, other, overrides))


def _status(options: argparse.Namespace) -> None:
    from align_dist.status import show_status

    show_status(options.folders, options.watch, options.json)


def _report(options: argparse.Namespace) -> None:
    from align_dist.report.command import run_report

    run_report(options)


def _explain(options: argparse.Namespace) -> None:
    from align_dist.deployment.explain import check_writable, explain_pictures
    from align_dist.deployment.pictures import find_pictures

    check_writable(options.out)
    pictures = find_pictures(options.pictures)
    from align_dist.deployment.model import load

    explain_pictures(load(options.folder, options.selection), pictures, options.out)
    print(options.out / "index.html")


def _export(options: argparse.Namespace) -> None:
    from align_dist.deployment.pictures import find_pictures

    pictures = [path for path, _ in find_pictures(options.pictures)][:CHECKED]
    from align_dist.deployment.export import export_model
    from align_dist.deployment.model import load

    difference = export_model(load(options.folder, options.selection, "cpu"), pictures, options.file)
    print(f"{options.file}: differs by {difference:.2g} at most on {len(pictures)} pictures")


def _monitor(options: argparse.Namespace) -> None:
    from align_dist.tensorboard import show_tensorboard

    show_tensorboard(options.folders, options.port)


def _bench(options: argparse.Namespace) -> None:
    from importlib import import_module

    from align_dist.bench.timing import run_on_quiet_machine
    from align_dist.config import RunConfig, load_config

    if options.what != "data" and options.config is None:
        raise ConfigError(f"bench {options.what}: needs a CONFIG, such as configs/quickstart.yaml")
    config = load_config(options.config, options.overrides) if options.config else RunConfig()
    bench = import_module(f"align_dist.bench.{options.what}").bench
    arguments = (config.benchmark, config.data, options.most) if options.what == "data" else (config,)
    run_on_quiet_machine(lambda: bench(*arguments))


if __name__ == "__main__":
    sys.exit(main())
