"""What the doctor advises."""

from __future__ import annotations

from align_dist.doctor import OPTIONAL

EXTRAS = {"embedded", "lite0", "deepspeed", "tune", "submit"}


def test_every_remedy_is_the_installer_of_the_readme() -> None:
    remedies = [remedy for _, remedy in OPTIONAL.values()]
    assert all(remedy.startswith("bash launch/install.sh") for remedy in remedies)
    assert set(max(remedies, key=len).split()[-1].split(",")) >= EXTRAS
