"""When a camera took a picture, and which pictures are one burst of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from PIL import Image

# Seconds. A camera that takes a picture every half minute all day would be one burst without an end to it.
LONGEST_GAP = 60
LONGEST_BURST = 600
_EXIF_FOLDER, _TIME, _BODY = 0x8769, 0x9003, 0xA431
_MAKE, _MODEL = 0x010F, 0x0110


@dataclass(frozen=True, order=True)
class Taken:
    """By which camera, when: seconds on the camera's own clock."""

    camera: str
    second: int


def taken_of(picture: Image.Image) -> Taken | None:
    """What EXIF says (DateTimeOriginal, maker, model, serial number); None where it says nothing of use.

    Midnight sharp is what programs write that know the day alone, so it is no time.
    """
    # Pillow raises OSError, SyntaxError, struct.error and others for EXIF that is damaged; the picture is fine.
    try:
        exif = picture.getexif()
        details = exif.get_ifd(_EXIF_FOLDER)
        when = datetime.strptime(str(details.get(_TIME, "")).strip(" \0"), "%Y:%m:%d %H:%M:%S")
        camera = " ".join(str(value) for value in (exif.get(_MAKE), exif.get(_MODEL), details.get(_BODY)))
    except Exception:
        return None
    second = (when - datetime(1970, 1, 1)).total_seconds()
    return Taken(camera, int(second)) if second % 86_400 else None


def events_of(sequences: Iterable[str | None], taken: Sequence[Taken | None]) -> list[str | None]:
    """The event of each of N pictures: its sequence, else its burst, else None.

    A burst is what one camera took with no gap above LONGEST_GAP, within LONGEST_BURST of its first picture.
    """
    events = [None if sequence is None else f"sequence {sequence}" for sequence in sequences]
    timed = sorted((when, index) for index, when in enumerate(taken) if when is not None and events[index] is None)
    start = last = Taken("", 0)
    for when, index in timed:
        if (
            when.camera != last.camera
            or when.second - last.second > LONGEST_GAP
            or when.second - start.second > LONGEST_BURST
        ):
            start = when
        last = when
        events[index] = f"burst {start.second} {start.camera}"
    return events
