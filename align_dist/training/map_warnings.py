"""Signs in a validation that a classifier's maps have come loose from the pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from align_dist.runs.metrics import read_scalar

# Sound maps of 36 cells have a fifth to a quarter of their maxima in one cell, collapsed ones nine tenths and more:
# half is far from both. Where objects all stand in one place sound maps do so as well, but follow when the picture is
# moved, and collapsed ones do not. None of 7,277 validations on the embedded benchmark and PACS, of 64 and 16
# pictures, crosses both bounds.
COLLAPSED_SHARE, COLLAPSED_FOLLOWING = 0.5, 0.5
# On the embedded benchmark staying rises by at most .12 where ALIGN helps and by .45 to .66 where ALIGN harms, by at
# most .31 under true masks (configs/results/photographs.md).
STAYING_RISE = 0.35
# Of so many pictures a mean agreement is known to a tenth, and a quarter comes out as above a half once in 130 times.
FEWEST_PICTURES = 16
STAYS = ("validation/stays_mirror", "validation/stays_shift")


def collapse_warning(values: Mapping[str, float], pictures: int) -> str | None:
    """A line of warning when maps mark one place whatever the picture shows, and stay there when it is moved."""
    share, following = values.get("validation/commonest_cell"), values.get("validation/map_following")
    if share is None or following is None or pictures < FEWEST_PICTURES:
        return None
    if share <= COLLAPSED_SHARE or following >= COLLAPSED_FOLLOWING:
        return None
    return (
        f"warning: maps have collapsed: {share:.0%} have their maximum in one cell of "
        f"{values['validation/map_cells']:.0f}, and follow a moved picture by {following:.2f} (1 is all the way); "
        "what such maps mark is not what the classifier uses"
    )


def staying(values: Mapping[str, float]) -> float | None:
    """Agreement in [-1, 1] of maps with those of moved pictures, the mean over a mirror image and a shift; None where
    none was measured.
    """
    known = [values[name] for name in STAYS if name in values]
    return sum(known) / len(known) if len(known) == len(STAYS) else None


def unguided_staying(metrics: Path, warmup: int) -> float | None:
    """`staying` at the last validation of warm-up, by a run's metrics.jsonl; None where there was none."""
    series = [{step: value for step, value in read_scalar(metrics, name).items() if step <= warmup} for name in STAYS]
    return staying({name: values[max(values)] for name, values in zip(STAYS, series, strict=True) if values})


def staying_warning(values: Mapping[str, float], unguided: float | None, pictures: int) -> str | None:
    """A line of warning when maps stay in place under a moved picture much more than before guidance.

    A map that marks an object moves with the picture. One that marks all but the object, such as a background that
    gives the class away, mostly stays.
    """
    guided = staying(values)
    if guided is None or unguided is None or pictures < FEWEST_PICTURES:
        return None
    if not guided - unguided > STAYING_RISE:  # nor where no map has any shape, and the agreement is not a number
        return None
    return (
        f"warning: maps stay in place when pictures are moved (agreement {guided:.2f}, {unguided:.2f} unguided), "
        "as maps of backgrounds do; compare with method=erm on other backgrounds, or take masks from elsewhere "
        "(align.evidence, fixed_mask)"
    )
