"""Where a population is, read from its run folders, and what is to be trained next."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from align_dist.errors import CheckpointError
from align_dist.files import write_text
from align_dist.search.folders import Trial, mark_stopped, standing_of
from align_dist.search.objective import value_of
from align_dist.search.outcome import read_reports
from align_dist.search.plan import LATER, Ended, Later, Next, random_trials, taking_turns
from align_dist.search.population import Generation, generation_ends, next_generation, segment_of
from align_dist.search.space import SearchConfig
from align_dist.training.checkpoint import has_checkpoint, load_checkpoint, save_checkpoint
from align_dist.training.run_folder import RunFolder

COPIED = ("metrics.jsonl", "reports.jsonl")


def read_generations(search: SearchConfig) -> list[Generation]:
    """Every generation that has begun, in order. Reads only."""
    ends = generation_ends(search, search.base())
    generations = [Generation(0, ends[0], tuple(random_trials(search, search.samples)))]
    saved: dict[Path, int] = {}  # steps of checkpoints, each read once
    while len(generations) < len(ends) and _is_over(generations[-1], saved):
        generations.append(_after(search, generations, ends))
    return generations


def members_of(generations: Sequence[Generation]) -> list[Trial]:
    """Every trial of the generations once, by number."""
    found = {trial.number: trial for generation in generations for trial in generation.members}
    return [found[number] for number in sorted(found)]


def in_generations(search: SearchConfig, trials: list[Trial]) -> tuple[Next, Ended]:
    """Trains the population generation by generation, from where its folders say it is.

    A trial is handed out once a generation, to be trained to its end; copies are added to `trials`.
    """
    generations = read_generations(search)
    ends = generation_ends(search, search.base())
    for earlier, later in pairwise(generations):
        settle(search, earlier, later, trials)
    queue, running = _to_train(search, generations[-1], ends[-1], {}), set[int]()

    def following() -> Trial | Later | None:
        saved: dict[Path, int] = {}  # nothing runs while it is in use
        if not queue and not running and len(generations) < len(ends) and _is_over(generations[-1], saved):
            generations.append(_after(search, generations, ends))
            known = {trial.number for trial in trials}
            trials.extend(trial for trial in generations[-1].members if trial.number not in known)
            settle(search, generations[-2], generations[-1], trials)
            queue.extend(_to_train(search, generations[-1], ends[-1], saved))
        if queue:
            running.add(queue[0].number)
            return queue.pop(0)
        return LATER if running else None

    return following, lambda trial: running.discard(trial.number)


def settle(search: SearchConfig, earlier: Generation, later: Generation, trials: Sequence[Trial]) -> None:
    """Puts it on record who was replaced, and gives copies that have not begun their beginning."""
    folders = {trial.number: trial.folder for trial in trials}
    for before, now in zip(earlier.members, later.members, strict=True):
        if before.number == now.number:
            continue
        assert now.parent is not None, "a place goes to a copy"
        begin_as_copy(now, folders[now.parent])
        standing, score = standing_of(before.folder), _score(search, before, earlier.end)
        if not standing.over:
            how = f"failed ({standing.reason})" if score is None else f"{score:.4f} at step {earlier.end}"
            heir = f"its place went to trial {now.number}, a copy of trial {now.parent}"
            mark_stopped(before.folder, f"PBT: {how}, {heir}")


def begin_as_copy(copy: Trial, giver: Path) -> None:
    """Gives a copy the giver's records and its checkpoint, last, so that half is nothing; selections are in it.

    Where the giver has gone on since, which only a lost folder can bring about, the copy is left to train from scratch.
    """
    folder = RunFolder(copy.folder)
    if has_checkpoint(folder.checkpoints):
        return
    state = load_checkpoint(RunFolder(giver).checkpoints, lambda _: None)
    if state is None or state["position"]["step"] != copy.since:
        return
    folder.path.mkdir(parents=True, exist_ok=True)
    for name in COPIED:
        if (giver / name).exists():
            write_text(folder.path / name, (giver / name).read_text("utf-8", errors="replace"))
    save_checkpoint(folder.checkpoints, state | {"identity": copy.config.identity})


def _after(search: SearchConfig, generations: Sequence[Generation], ends: Sequence[int]) -> Generation:
    latest = generations[-1]
    scores = [_score(search, trial, latest.end) for trial in latest.members]
    return next_generation(search, latest, ends[len(generations)], scores, members_of(generations))


def _score(search: SearchConfig, trial: Trial, step: int) -> float | None:
    """The objective of the weights at a generation's end; None of a trial that never came there."""
    found = [report for report in read_reports(trial.folder) if report.step == step]
    return value_of(search.objective, found[0].metrics) if found else None


def _is_over(generation: Generation, saved: dict[Path, int]) -> bool:
    """Whether every member has come to a generation's end, or has failed before it, and not all of them have.

    A failure that another start might get over counts as well: the member's place goes to a copy.
    """
    came = [_has_come(trial, generation.end, saved) for trial in generation.members]
    late = [trial for trial, good in zip(generation.members, came, strict=True) if not good]
    return any(came) and all(standing_of(trial.folder).state == "failed" for trial in late)


def _has_come(trial: Trial, end: int, saved: dict[Path, int]) -> bool:
    """Whether a member is as far as a generation that is not the last; `stopped` is written after its end alone."""
    if standing_of(trial.folder).state in ("finished", "stopped"):
        return True
    if trial.folder not in saved:
        saved[trial.folder] = _steps_saved(trial.folder)
    return saved[trial.folder] >= end


def _steps_saved(folder: Path) -> int:
    try:
        state = load_checkpoint(RunFolder(folder).checkpoints, lambda _: None)
    except CheckpointError:
        return 0
    return 0 if state is None else int(state["position"]["step"])


def _to_train(search: SearchConfig, generation: Generation, length: int, saved: dict[Path, int]) -> list[Trial]:
    """The members that are not there yet; those at the run's end are left to write down how they came there."""
    left = [
        trial
        for trial in generation.members
        if not standing_of(trial.folder).over
        and not (generation.end < length and _has_come(trial, generation.end, saved))
    ]
    return [segment_of(trial, generation, length) for trial in taking_turns(search, left)]
