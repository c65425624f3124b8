"""Names that a run's description may hold."""

from __future__ import annotations

import pytest
from refusals import raises

from align_dist.config import parse_config
from align_dist.config_checks import COMMON_BACKBONES, check_names
from align_dist.errors import ConfigError, nearest_name
from align_dist.networks.backbones import BACKBONES


def test_every_name_taken_on_trust_exists() -> None:
    assert set(COMMON_BACKBONES) <= set(BACKBONES)


@pytest.mark.parametrize("name", [*BACKBONES, "convnext_tiny"])
def test_backbones_of_ours_and_of_torchvision_are_known(name: str) -> None:
    check_names(parse_config({"classifier": {"backbone": name}}))


@pytest.mark.parametrize("key", ["runs", "experiment", "variant"])
def test_a_folder_in_bytes_that_are_no_text_is_refused(key: str) -> None:
    check_names(parse_config({key: "µ λ"}))
    with raises(ConfigError, key, "LC_ALL") as caught:
        check_names(parse_config({key: "caf\udce9"}))
    assert str(caught.value).isascii()


def test_only_close_names_are_suggested() -> None:
    assert nearest_name("resnet5", COMMON_BACKBONES).startswith(" (did you mean 'resnet5")
    assert nearest_name("nonet", ["resnet50"]) == ""
    with raises(ConfigError, "method: ", "'algin'", "'align'", "erm, align"):
        check_names(parse_config({"method": "algin"}))
