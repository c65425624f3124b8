"""Which trials a search has, what they share, and what that will cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from align_dist.config import RunConfig
from align_dist.errors import ConfigError
from align_dist.search.draw import draw
from align_dist.search.folders import Trial, read_suggested, trial_status
from align_dist.search.space import SearchConfig, branch_variants, with_values
from align_dist.search.trunk import Branch, branch_step, schedule_of, trunk_of

ATTEMPTS = 100


# The next trial, or None when there is no more.
Next = Callable[[], Trial | None]
# Of a trial that has ended for now, however it did.
Ended = Callable[[Trial], None]


@dataclass(frozen=True)
class Cost:
    """Epochs of training. sharing: trunks once, and each trial from its branch on. alone: every trial from scratch."""

    sharing: float
    alone: float

    @property
    def ratio(self) -> float:
        return self.sharing / self.alone if self.alone else 1.0


def random_trials(search: SearchConfig, count: int) -> list[Trial]:
    """The first `count` random trials, all different: a pure function of the search's seed and space.

    Raises ConfigError where the space does not hold so many.
    """
    base, trials = search.base(), list[Trial]()
    taken: set[Path] = set()
    for number in range(count):
        for attempt in range(ATTEMPTS):
            values = draw(search.space, search.seed, number, attempt)
            try:
                config = with_values(base, values)
            except ConfigError:
                continue  # such as a warm-up and a length that do not go together
            if config.folder not in taken:
                taken.add(config.folder)
                trials.append(Trial(number, values, config))
                break
        else:
            raise ConfigError(f"samples: {count} are more different trials than the space holds; it gave {number}")
    return trials


def begun_trials(search: SearchConfig) -> list[Trial]:
    """The trials that an adaptive search has chosen so far, from their folders."""
    base = search.base()
    told = read_suggested(base.runs / search.experiment)
    return [Trial(number, values, with_values(base, values)) for number, values in told]


def known_trials(search: SearchConfig) -> list[Trial]:
    """Every trial that is known without training: all of a random search, those begun of another."""
    if search.algorithm == "random":
        return random_trials(search, search.samples)
    return begun_trials(search)


def check_trials(search: SearchConfig, trials: Sequence[Trial]) -> None:
    """Raises ConfigError for what would come out only once a warm-up is paid for: a run whose lengths do not go
    together, and a first rung after every trial's end.
    """
    for trial in trials:
        schedule_of(trial.config)
    guided = longest_guidance(search, trials)
    if search.scheduler.kind == "asha" and search.scheduler.grace >= guided:
        raise ConfigError(
            f"scheduler.grace: {search.scheduler.grace:g} guided epochs are no less than any trial has ({guided:.1f}), "
            "nothing would be stopped; lower it"
        )


def longest_guidance(search: SearchConfig, trials: Sequence[Trial]) -> float:
    """Guided epochs of the trial that has most of them; where they are chosen later, of any that may be."""
    later = branch_variants(search, search.base()) if len(trials) < search.samples else ()
    return max(map(guidance_of, [*(trial.config for trial in trials), *later]))


def guidance_of(config: RunConfig) -> float:
    """Guided epochs of a whole run."""
    schedule = schedule_of(config)
    return (schedule.length - schedule.warmup) / schedule.epoch


def branch_of(search: SearchConfig, trial: Trial) -> Branch:
    """Where a trial leaves its trunk; at step 0 where warm-up is not shared."""
    trunk = trunk_of(trial.config, search.trunks)
    return Branch(trunk.folder, branch_step(trial.config) if search.share_warmup else 0)


def passing_steps(search: SearchConfig, trial: Trial) -> list[int]:
    """Steps at which trials of the search may branch off this one's trunk."""
    return sorted({branch_step(other) for other in branch_variants(search, trial.config)})


def taking_turns(search: SearchConfig, trials: Sequence[Trial]) -> list[Trial]:
    """The trials, one of each trunk first, so that those that run at once rarely wait for the same warm-up."""
    rounds: list[tuple[int, int, Trial]] = []
    seen: dict[Path, int] = {}
    for trial in trials:
        trunk = branch_of(search, trial).trunk
        seen[trunk] = seen.get(trunk, 0) + 1
        rounds.append((seen[trunk], trial.number, trial))
    return [trial for _, _, trial in sorted(rounds, key=lambda entry: entry[:2])]


def one_after_another(trials: Sequence[Trial]) -> Next:
    """Trials that are known."""
    remaining = iter(trials)
    return lambda: next(remaining, None)


def predicted_cost(search: SearchConfig, trials: Sequence[Trial]) -> Cost:
    """Of training every trial to its end."""
    trunks: dict[Path, float] = {}
    alone = sharing = 0.0
    for trial in trials:
        branch, schedule = branch_of(search, trial), schedule_of(trial.config)
        alone += schedule.length / schedule.epoch
        sharing += (schedule.length - branch.step) / schedule.epoch
        trunks[branch.trunk] = max(trunks.get(branch.trunk, 0.0), branch.step / schedule.epoch)
    return Cost(sharing + sum(trunks.values()), alone)


def measured_cost(search: SearchConfig, trials: Sequence[Trial]) -> Cost:
    """Of what has been trained, from the run folders; steps done twice after an interruption count once."""
    trunks: dict[Path, float] = {}
    alone = sharing = 0.0
    for trial in trials:
        steps, epoch = trial_status(trial.folder).steps, schedule_of(trial.config).epoch
        branch = branch_of(search, trial)
        alone += steps / epoch
        sharing += max(0, steps - branch.step) / epoch
        trunks[branch.trunk] = max(trunks.get(branch.trunk, 0.0), trunk_steps(branch.trunk) / epoch)
    return Cost(sharing + sum(trunks.values()), alone)


def count_trunks(search: SearchConfig, trials: Sequence[Trial]) -> int:
    """How many warm-ups the trials need: one each where none is shared."""
    if not search.share_warmup:
        return len(trials)
    return len({branch_of(search, trial).trunk for trial in trials})


def trunk_steps(trunk: Path) -> int:
    """The furthest step that a trunk keeps; 0 before the first."""
    return max((int(path.stem) for path in (trunk / "branches").glob("*.ckpt")), default=0)


def cost_at(trials: int, trunks: int, warmup: float, length: float) -> Cost:
    """Of `trials` runs of `length` epochs with one warm-up length, on so many trunks."""
    return Cost(trunks * warmup + trials * (length - warmup), trials * length)
