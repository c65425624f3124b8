"""A run's folder: the only place where its state is read from.

config.yaml · classes.json · environment.json · metrics.jsonl · events/ · checkpoints/ · selected/ · pictures/ ·
trained.json (once it is trained to its end: which step each selection's weights are of) · results.jsonl · details/ ·
done (with which settings those were measured) · ended.json (why the latest start ended before that) ·
stopped.json (why a search stopped it)
"""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from align_dist.config import EvaluationConfig, RunConfig, load_config, to_yaml
from align_dist.errors import CheckpointError, ConfigError, StorageError, UserError, error_of
from align_dist.files import PARTIAL, read_json, take_lock, unwritable, write_text
from align_dist.runs.provenance import environment, read_starts
from align_dist.runs.results import Row, write_rows

HOLD_TRIES = 30
CONFIG, RESULTS = "config.yaml", "results.jsonl"
NEWEST, PREVIOUS = "last.ckpt", "previous.ckpt"
WARMUPS = "warmups"  # of an experiment: the folder of what its runs share


@dataclass(frozen=True)
class Ending:
    """The early end of a run's latest start, as in ended.json."""

    exit_code: int
    reason: str

    @property
    def error(self) -> type[UserError]:
        """The kind of error that the start ended with, which says whether another start helps."""
        return error_of(self.exit_code)


class RunFolder:
    """Paths and small files of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.description = path / CONFIG
        self.checkpoints = path / "checkpoints"
        self.selected = path / "selected"
        self.pictures = path / "pictures"
        self.events = path / "events"
        self.classes = path / "classes.json"
        self.environment = path / "environment.json"
        self.metrics = path / "metrics.jsonl"
        self.results = path / RESULTS
        self.details = path / "details"
        self.done = path / "done"
        self.trained = path / "trained.json"
        self.ended = path / "ended.json"
        self.stopped = path / "stopped.json"
        self.lock = path / ".lock"
        self.records_ending = False

    def begin(
        self,
        config: RunConfig,
        ranks: int = 1,
        fingerprint: str = "",
        arithmetic: Mapping[str, str | int] | None = None,
        classes: Sequence[str] = (),
    ) -> None:
        """Make the folder, or check that it holds the same run; from here on the start's end is on record.

        fingerprint: of what the run trains on, `Manifest.fingerprint`. arithmetic: what it computes with, see
        `arithmetic_of`. classes: their names, by which a trained run needs no beton to be used.
        """
        self.check_same_run(config)
        self.check_fingerprint(fingerprint)
        self.ended.unlink(missing_ok=True)
        self.records_ending = True
        start = environment(ranks) | dict(arithmetic or {}) | ({"fingerprint": fingerprint} if fingerprint else {})
        # Where this start is to pause and other methods' options are no part of the run.
        training = config.training.model_copy(update={"until": None})
        whole = config.with_own_options_only().model_copy(update={"training": training})
        self.describe(whole)
        if classes:
            write_text(self.classes, json.dumps({"classes": list(classes)}) + "\n")
        write_text(self.environment, json.dumps([*read_starts(self.environment), start], indent=1))

    def check_same_run(self, config: RunConfig) -> None:
        """Raise ConfigError where the folder describes a run with another identity."""
        if self.description.exists() and load_config(self.description).identity != config.identity:
            raise ConfigError(f"{self.path}: holds another run; choose another experiment name or delete it")

    def record_first_step(self, step: int) -> None:
        """Record the step that the latest start goes on from: 0, or that of the checkpoint that it has loaded."""
        starts = read_starts(self.environment)
        if starts:
            write_text(self.environment, json.dumps([*starts[:-1], {**starts[-1], "step": step}], indent=1))

    @property
    def first_steps(self) -> list[int]:
        """The step that each start has gone on from, oldest first; starts that ended before are left out."""
        return [start["step"] for start in read_starts(self.environment) if "step" in start]

    def describe(self, config: RunConfig) -> None:
        """Write the run's description."""
        write_text(self.description, to_yaml(config))

    def check_fingerprint(self, fingerprint: str) -> None:
        """Raise ConfigError where an earlier start of the run is known to have trained on other images."""
        known = {start["fingerprint"] for start in read_starts(self.environment) if "fingerprint" in start}
        if fingerprint and known - {fingerprint}:
            raise ConfigError(f"{self.path}: holds a run on other images; choose another experiment=NAME, or delete it")

    def config(self, overrides: Sequence[str] = ()) -> RunConfig:
        """The run's own description, with other settings of its evaluation where asked for.

        Raises CheckpointError when this is no run folder, ConfigError for an override of anything else.
        """
        if not self.description.is_file():
            raise CheckpointError(f"{self.path}: not a run folder (no config.yaml); give one that training made")
        for override in overrides:
            if not override.startswith("evaluation."):
                raise ConfigError(f"{override}: of a trained run only evaluation.* can be changed; train another run")
        return load_config(self.description, list(overrides))

    def record_ending(self, exit_code: int, reason: str) -> None:
        """Record the reason why the run's latest start ended early; the next start forgets the reason."""
        with suppress(StorageError):  # which may be the reason itself
            write_text(self.ended, json.dumps({"exit_code": exit_code, "reason": reason}) + "\n")

    def ending(self) -> Ending | None:
        """The early end of the latest start; None without one, or where its record is torn."""
        try:
            record = read_json(self.ended)
            return Ending(int(record["exit_code"]), str(record["reason"]))
        except (ValueError, KeyError, TypeError):
            return None

    def write_trained(self, step: int, selected: Mapping[str, int]) -> None:
        """Record that the run is trained to its end. selected: the step of each selection's weights."""
        write_text(self.trained, json.dumps({"step": step, "selected": dict(selected)}) + "\n")

    def trained_steps(self) -> dict[str, int] | None:
        """The step of each selection's weights; None for a run that is not trained to its end."""
        selected = read_json(self.trained).get("selected")
        return selected if isinstance(selected, dict) else None

    def stop(self, reason: str) -> None:
        """Record that a search's scheduler has stopped the run for good."""
        write_text(self.stopped, json.dumps({"reason": reason}) + "\n")

    def stop_reason(self) -> str | None:
        """The reason for which a scheduler has stopped the run; None where none has."""
        record = read_json(self.stopped)
        return str(record.get("reason", "")) if record else None

    @property
    def has_checkpoint(self) -> bool:
        """Return whether the run has saved; a file that a crash left half-way is none."""
        return any((self.checkpoints / name).exists() for name in (NEWEST, PREVIOUS))

    @property
    def has_begun(self) -> bool:
        """Return whether the run has saved or ended: one that is trained may have lost its checkpoints."""
        return self.has_checkpoint or self.trained.exists() or self.is_finished

    @contextmanager
    def locked(self) -> Iterator[None]:
        """While inside, no other process trains this run. Raises CheckpointError where one does.

        Checkpoints that a killed process left half-written are removed. The hold ends with the process, however it
        ends. File systems without locks give none. Raises StorageError for a folder that cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            opened = self.lock.open("a")
        except OSError as error:
            raise unwritable(self.path, error) from None
        with opened as file:
            # One that looks whether the run is held has it for a moment, and one that ends for a little longer.
            for _ in range(HOLD_TRIES):
                if take_lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB):
                    break
                time.sleep(0.1)
            else:
                raise CheckpointError(
                    f"{self.path}: another process trains this run; wait for it, or end it and start again"
                )
            for half_written in self.checkpoints.glob(PARTIAL):
                half_written.unlink(missing_ok=True)
            yield

    def is_locked(self) -> bool:
        """Return whether some process of this machine, or of the file system's others, trains this run now."""
        if not self.lock.exists():
            return False
        with self.lock.open() as file:
            return not take_lock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)

    def write_results(self, rows: Sequence[Row]) -> None:
        """All results at once, then the `done` mark with the description's settings, which they were measured with."""
        write_rows(self.results, rows)
        write_text(self.done, json.dumps(self.config().evaluation.settings) + "\n")

    @property
    def is_finished(self) -> bool:
        """Return whether the run was measured, and its results are there."""
        return self.done.exists() and self.results.exists()

    def measured_otherwise(self, evaluation: EvaluationConfig) -> list[str]:
        """The ways in which a finished run was measured otherwise than asked for; none where its results are those."""
        settings, expected = read_json(self.done), evaluation.settings
        # Results that have the lemmas are also those without; a mark from before there were any does not tell.
        asked = expected.pop("theory")
        lacking = [f"evaluation.theory {self.theory}, asked for {asked}"] if asked and self.theory != asked else []
        missing = [name for name in expected.pop("selections") if name not in settings.get("selections", ())]
        differing = [key for key, value in expected.items() if key not in settings or settings[key] != value]
        return [
            *(f"evaluation.{key} {settings.get(key)}, asked for {expected[key]}" for key in differing),
            *(f"evaluation.selections without {name}" for name in missing),
            *lacking,
        ]

    @property
    def theory(self) -> bool | str:
        """The setting `evaluation.theory` by which a finished run was measured; False where it does not tell."""
        theory = read_json(self.done).get("theory")
        return theory if isinstance(theory, bool | str) else False


def find_run_folders(places: Sequence[Path]) -> list[Path]:
    """The run folders among and below the given places, each once, in order of their paths.

    A run folder holds a description or results; a shared warm-up is none.

    Raises CheckpointError for a place that does not exist or holds no run.
    """
    folders: set[Path] = set()
    for place in places:
        if not place.is_dir():
            expected = "a run folder, a folder of runs or, for a report, a file of rows (.jsonl)"
            raise CheckpointError(f"{place}: expected {expected}; check the path")
        below = {file.parent.resolve() for name in (RESULTS, CONFIG) for file in place.rglob(name)}
        below = {folder for folder in below if folder.parent.name != WARMUPS}
        if not below:
            raise CheckpointError(f"{place}: holds no {RESULTS}; train a run into it or name another folder")
        folders |= below
    return sorted(folders)
