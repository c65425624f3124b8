"""Values are what the schema says they are, not what YAML's spelling rules make of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from refusals import raises

from align_dist.config import RunConfig, load_config, parse_config, to_yaml
from align_dist.errors import ConfigError

TEXTS = ["15", "007", "no", "1e-3", "0x10", "1_000", "12:30:45", "2024-01-01", "/data/my #1", "a: b", "[x]", "{x}", "~"]

OF_MASKER = "options.masker.optimiser.name"


def described(path: Path, content: str | bytes, *overrides: str) -> RunConfig:
    file = path / "run.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return load_config(file, overrides)


ODD = ["'quoted' in part", "x'", "'a': 'b'", "'", "'a' 'b'", "µ-Gray", "= y", "caf\udce9"]


@pytest.mark.parametrize("text", TEXTS + ODD)
def test_a_text_field_takes_an_override_as_it_was_written(tmp_path: Path, text: str) -> None:
    config = described(tmp_path, "", f"variant={text}", f"benchmark.root={text}")
    assert config.variant == text and config.benchmark.root == Path(text)


@pytest.mark.parametrize("text", ["15", "007", "no", "1e-3", "0x10", "1_000", "12:30:45", "2024-01-01", "null"])
def test_a_text_field_takes_a_plain_value_of_a_file_as_it_was_written(tmp_path: Path, text: str) -> None:
    assert described(tmp_path, f"variant: {text}\nexperiment: {text} # a comment").variant == text


@pytest.mark.parametrize(
    ("written", "key", "value"),
    [
        ("seed: 7", "seed", 7),
        ("classifier: {optimiser: {learning_rate: 1e-3}}", "classifier.optimiser.learning_rate", 0.001),
        ("classifier: {pretrained: no}", "classifier.pretrained", False),
        ("classifier: {pretrained: True}", "classifier.pretrained", True),
        ("training: {until: null}", "training.until", None),
        ("training: {until: ~}", "training.until", None),
        ("training: {until: }", "training.until", None),
        ("protocol: {source: 15}", "protocol.source", "15"),
        ("protocol: {source: null}", "protocol.source", None),
        ("protocol: {source: 'null'}", "protocol.source", "null"),
        ('protocol: {source: "no"}', "protocol.source", "no"),
        ("data: {augmentation: {crop_scale: [0.5, 1]}}", "data.augmentation.crop_scale", (0.5, 1.0)),
        ("classifier: {optimiser: &o {name: sgd}}\nalign: {masker: {optimiser: {<<: *o}}}", OF_MASKER, "sgd"),
    ],
)
def test_a_value_is_read_by_its_fields_type(tmp_path: Path, written: str, key: str, value: Any) -> None:
    node: Any = described(tmp_path, written)
    for part in key.split("."):
        node = getattr(node, part)
    assert node == value and type(node) is type(value)


@pytest.mark.parametrize(
    ("overrides", "key", "value"),
    [
        (["seed=7"], "seed", 7),
        (["classifier.optimiser.learning_rate=1e-3"], "classifier.optimiser.learning_rate", 0.001),
        (["classifier.pretrained=no"], "classifier.pretrained", False),
        (["protocol.source=null"], "protocol.source", None),
        (["protocol.source='null'"], "protocol.source", "null"),
        (["variant=''"], "variant", ""),
        (["variant="], "variant", ""),
        (['variant="a\\tb"'], "variant", "a\tb"),
        (["evaluation.selections=[last]"], "evaluation.selections", ("last",)),
        (["training={warmup: 1 epochs}", "training.length=9 epochs"], "training.length", "9 epochs"),
        (["training.length=9 epochs", "training={warmup: 1 epochs}"], "training.length", "9 epochs"),
    ],
)
def test_an_override_is_read_by_its_fields_type(tmp_path: Path, overrides: list[str], key: str, value: Any) -> None:
    node: Any = described(tmp_path, "", *overrides)
    for part in key.split("."):
        node = getattr(node, part)
    assert node == value


@pytest.mark.parametrize("text", [*TEXTS, "null", "", "'", '"', "${x}", "a\nb", "\udce9", " x "])
def test_a_printed_config_is_read_back_to_an_equal_one(tmp_path: Path, text: str) -> None:
    config = parse_config({"variant": text, "seed": 2**63 - 1})
    config = config.model_copy(update={"protocol": config.protocol.model_copy(update={"source": text})})
    assert described(tmp_path, to_yaml(config)) == config


@pytest.mark.parametrize("later", ["training={warmup: 1 epochs", "training.warmup=1 epochs"])
def test_keys_that_are_no_yaml_are_not_dropped(tmp_path: Path, later: str) -> None:
    with raises(ConfigError, "training", "{length: 9"):
        described(tmp_path, "", "training={length: 9 epochs, ", later)
    with raises(ConfigError, "training", "{warmup"):
        described(tmp_path, "training: {length: 9 epochs}", "training={warmup: 1 epochs")


@pytest.mark.parametrize("key", ["seed", "protocol.seed"])
@pytest.mark.parametrize("seed", [-1, 2**63, 2**64, 10**30])
def test_a_seed_that_no_generator_takes_is_one_line(tmp_path: Path, key: str, seed: int) -> None:
    with raises(ConfigError, f"{key}: ", seed):
        described(tmp_path, "", f"{key}={seed}")


@pytest.mark.parametrize(
    "content",
    [b"variant: \xff", b"seed: 1\nseed: 2", b"- a list", b"text", b"a: [1", b"a: *nothing", b"? [1]\n: x", b"\x00"],
)
def test_what_is_no_description_is_one_line_that_names_the_file(tmp_path: Path, content: bytes) -> None:
    with raises(ConfigError, "run.yaml"):
        described(tmp_path, content)


def test_a_folder_or_a_device_is_no_description(tmp_path: Path) -> None:
    with raises(ConfigError, tmp_path):
        load_config(tmp_path)
