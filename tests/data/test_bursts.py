from __future__ import annotations

import io

import pytest
from PIL import Image

from align_dist.data.bursts import LONGEST_BURST, Capture, capture_of, events_of


def photograph(camera: str = "Reconyx", when: str | None = "2012:05:04 11:22:33", kind: str = "JPEG") -> Image.Image:
    exif = Image.Exif()
    exif[0x010F] = camera
    if when is not None:
        exif.get_ifd(0x8769)[0x9003] = when
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, kind, exif=exif)
    return Image.open(stream)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_the_camera_and_its_clock_are_read(kind: str) -> None:
    first, second = (capture_of(photograph(when=f"2012:05:04 23:59:{second}", kind=kind)) for second in (50, 59))
    assert first is not None and second is not None
    assert second.second - first.second == 9 and first.camera == second.camera and "Reconyx" in first.camera
    later = capture_of(photograph(when="2012:05:05 00:00:01", kind=kind))
    assert later is not None and later.second - second.second == 2


@pytest.mark.parametrize("when", [None, "", "0000:00:00 00:00:00", "2012:05:04 00:00:00", "today", "2012:13:45 1:2:3"])
def test_no_time_or_one_that_is_none_says_nothing(when: str | None) -> None:
    assert capture_of(photograph(when=when)) is None


def test_damaged_exif_says_nothing() -> None:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff" + b"\x99" * 40)
    assert capture_of(Image.open(stream)) is None


def test_a_burst_ends_with_a_gap_with_another_camera_and_after_ten_minutes() -> None:
    captures = [Capture("a", 1000), Capture("a", 1060), Capture("a", 1121), Capture("b", 1061), None]
    events = events_of([None] * 5, captures)
    assert events[0] == events[1] and events[4] is None
    assert len({events[0], events[2], events[3]}) == 3
    long = events_of([None] * 100, [Capture("a", 1000 + 30 * index) for index in range(100)])
    sizes = [long.count(event) for event in dict.fromkeys(long)]
    assert sizes == [LONGEST_BURST // 30 + 1] * 4 + [100 - 4 * (LONGEST_BURST // 30 + 1)]


def test_order_does_not_matter_and_sequences_come_before_times() -> None:
    captures = [Capture("a", 1120), Capture("a", 1000), Capture("a", 1060)]
    events = events_of([None] * 3, captures)
    assert events[0] == events[1] == events[2] is not None
    assert events_of(["s", None, "s"], captures)[0] == events_of(["s", None, "s"], captures)[2]
    # The picture between them has a sequence, and theirs is a gap of two minutes.
    apart = events_of([None, None, "s"], captures)
    assert len(set(apart)) == 3
