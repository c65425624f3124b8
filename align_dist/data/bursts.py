"""Capture times from EXIF, and bursts of images from one camera."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from PIL import Image

# Seconds. Without a longest burst, a camera with an image every half minute would give one burst a day.
LONGEST_GAP = 60
LONGEST_BURST = 600
_EXIF_FOLDER, _TIME, _BODY = 0x8769, 0x9003, 0xA431
_MAKE, _MODEL = 0x010F, 0x0110


@dataclass(frozen=True, order=True)
class Capture:
    """Camera and capture time, in seconds on the camera's own clock."""

    camera: str
    second: int


def capture_of(picture: Image.Image) -> Capture | None:
    """Camera and time from EXIF (DateTimeOriginal, maker, model, serial number); None without usable EXIF.

    Midnight sharp does not count as a time, because programs that know only the day write midnight.
    """
    # Pillow raises OSError, SyntaxError, struct.error and others for damaged EXIF in an intact image.
    try:
        exif = picture.getexif()
        details = exif.get_ifd(_EXIF_FOLDER)
        when = datetime.strptime(str(details.get(_TIME, "")).strip(" \0"), "%Y:%m:%d %H:%M:%S")
        camera = " ".join(str(value) for value in (exif.get(_MAKE), exif.get(_MODEL), details.get(_BODY)))
    except Exception:
        return None
    second = (when - datetime(1970, 1, 1)).total_seconds()
    return Capture(camera, int(second)) if second % 86_400 else None


def events_of(sequences: Iterable[str | None], shots: Sequence[Capture | None]) -> list[str | None]:
    """The event of each of N images: its sequence, else its burst, else None.

    A burst holds images of one camera with no gap above LONGEST_GAP, within LONGEST_BURST of its first image.
    """
    events = [None if sequence is None else f"sequence {sequence}" for sequence in sequences]
    dated_shots = sorted(
        (when, index) for index, when in enumerate(shots) if when is not None and events[index] is None
    )
    start = last = Capture("", 0)
    for when, index in dated_shots:
        if (
            when.camera != last.camera
            or when.second - last.second > LONGEST_GAP
            or when.second - start.second > LONGEST_BURST
        ):
            start = when
        last = when
        events[index] = f"burst {start.second} {start.camera}"
    return events
