"""Studies: files of kinds of run, each to be trained with every seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from align_dist.config import RunConfig, load_config
from align_dist.errors import ConfigError

SUFFIX = ".txt"


@dataclass(frozen=True)
class Study:
    """config: the YAML file of all runs. kinds: the overrides of each kind of run, those common to all kinds first."""

    config: Path
    kinds: tuple[tuple[str, ...], ...]


def read_study(path: Path) -> Study:
    """Read `config FILE`, optionally `common KEY=VALUE ...`, then one line of overrides for each kind of run.

    Empty lines and lines that start with `#` say nothing. FILE is relative to the working folder. Raises ConfigError.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise ConfigError(f"{path}: not a readable study ({reason}); configs/studies/ has some") from None
    lines = [line.split() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    configs = [Path(" ".join(words[1:])) for words in lines if words[0] == "config"]
    common = [word for words in lines if words[0] == "common" for word in words[1:]]
    kinds = [words for words in lines if words[0] not in ("config", "common")]
    if len(configs) != 1 or not kinds:
        raise ConfigError(f"{path}: takes one line `config FILE` and a line of overrides for each kind of run")
    return Study(configs[0], tuple((*common, *kind) for kind in kinds))


def kinds_of(path: Path, overrides: Sequence[str]) -> list[RunConfig]:
    """The config of each kind of a study's runs. overrides: count more than the study's own. Raises ConfigError."""
    study = read_study(path)
    try:
        return [load_config(study.config, [*kind, *overrides]) for kind in study.kinds]
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
