"""A run's description: merging, checking, identity."""

from __future__ import annotations

from pathlib import Path

import pytest
from refusals import raises

from align_dist.config import known_keys, load_config, parse_config, to_yaml
from align_dist.errors import ConfigError
from align_dist.schema.values import to_steps

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text("{}\n")
    return path


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_shipped_config_is_valid_and_survives_printing(path: Path, tmp_path: Path) -> None:
    config = load_config(path)
    (tmp_path / "printed.yaml").write_text(to_yaml(config))
    assert load_config(tmp_path / "printed.yaml") == config


@pytest.mark.parametrize(
    ("override", "names"),
    [
        ("align.lamda3=1", ["align.lamda3", "align.lambda3"]),
        ("align=3", ["align: ", "{KEY: VALUE}", "'3'"]),
        ("data.augmentation=3", ["data.augmentation: ", "{KEY: VALUE}", "'3'"]),
        ("align.lambda1=-1", ["align.lambda1", "-1"]),
        ("align.lambda1=nan", ["align.lambda1"]),
        ("data.batch_size=many", ["data.batch_size", "'many'"]),
        ("training.warmup=12 years", ["training.warmup", "'12 epochs'", "'200 steps'", "12 years"]),
        ("training.warmup=100 epochs", ["training.warmup", "60 epochs"]),
        ("training.precision=float8", ["training.precision", "'float32'", "'bfloat16'"]),
        ("protocol.validation_fraction=0.9", ["protocol.validation_fraction"]),
        ("align.mask_sampling=yes", ["align.mask_sampling", "'none'", "'relaxed'"]),
        ("align.sampling_temperature=0", ["align.sampling_temperature", "0"]),
        ("align.masker.kind=pretrained", ["align.masker.kind", "classifier.backbone=efficientnet_lite0", "resnet50"]),
        ("training.length=20 stepz", ["training.length", "'200 steps'", "'20 stepz'"]),
        ("training.length=20", ["training.length", "'200 steps'", "'20'"]),
        ("training.until=20", ["training.until: ", "'200 steps'", "'20'"]),
        ("lambda3=1", ["align.lambda3"]),
        ("qwxz=1", ["qwxz: ", "--print-config"]),
        ("seed", ["'seed'", "KEY=VALUE"]),
        ("evaluation.selections=[", ["evaluation: selections: "]),
    ],
)
def test_a_mistake_is_one_line_that_names_it(empty: Path, override: str, names: list[str]) -> None:
    with raises(ConfigError, *names):
        load_config(empty, [override, "protocol.test_fraction=0.2"])


def test_a_missing_file_and_a_file_that_is_no_yaml(tmp_path: Path) -> None:
    with raises(ConfigError, tmp_path / "none.yaml"):
        load_config(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("a: [1,\nb: }{")
    with raises(ConfigError, tmp_path / "bad.yaml"):
        load_config(tmp_path / "bad.yaml")


def test_a_run_is_measured_by_one_selection_at_least(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("seed: 1\n")
    with raises(ConfigError, "evaluation.selections: "):
        load_config(tmp_path / "run.yaml", ["evaluation.selections=[]"])


def test_yaml_cannot_run_code(tmp_path: Path) -> None:
    (tmp_path / "evil.yaml").write_text(f"seed: !!python/object/apply:os.mkdir ['{tmp_path}/made']\n")
    with pytest.raises(ConfigError):
        load_config(tmp_path / "evil.yaml")
    assert not (tmp_path / "made").exists()


def test_identity_is_what_determines_the_result() -> None:
    base = parse_config({})
    same = [{"experiment": "other"}, {"runs": "elsewhere"}, {"data": {"workers": 7}}, {"training": {"log_every": 3}}]
    different = [{"seed": 1}, {"method": "erm"}, {"align": {"lambda2": 0.3}}, {"training": {"length": "61 epochs"}}]
    different += [{"benchmark": {"fingerprint": digit * 16}} for digit in "0a"]
    different += [{"classifier": {"attribution": kind}} for kind in ("input_gradient", "integrated_gradients")]
    assert {parse_config(values).identity for values in same} == {base.identity}
    assert len({parse_config(values).identity for values in different} | {base.identity}) == len(different) + 1


def test_auto_is_settled_before_the_id_and_stays_what_it_was(empty: Path, tmp_path: Path) -> None:
    """On another machine the printed run is the same run."""
    config = load_config(empty)
    assert config.training.precision in ("float32", "bfloat16")
    for precision in ("float32", "bfloat16"):
        variant = load_config(empty, [f"training.precision={precision}"])
        (tmp_path / "printed.yaml").write_text(to_yaml(variant))
        copy = load_config(tmp_path / "printed.yaml")
        assert copy == variant and copy.identity == variant.identity
        assert (variant.identity == config.identity) == (precision == config.training.precision)
    assert load_config(empty, ["training.precision=auto"]) == config


def test_a_gpu_gets_bfloat16_whatever_this_processor_has(empty: Path) -> None:
    for backbone in ("resnet50", "efficientnet_lite0"):
        config = load_config(empty, ["training.device=cuda", f"classifier.backbone={backbone}"])
        assert config.training.precision == "bfloat16"


def test_lengths_in_steps() -> None:
    assert to_steps("12 epochs", 22.5) == 270
    assert to_steps("200 steps", 22.5) == 200


def test_a_length_needs_no_blank(empty: Path) -> None:
    """Where a shell splits words, as launch/study.sh does."""
    assert load_config(empty, ["training.length=90epochs"]).training.length == "90 epochs"


def test_known_keys_are_dotted_leaves() -> None:
    keys = known_keys()
    assert "align.lambda1" in keys and "data.augmentation.flip" in keys and not {"align", "methods"} & set(keys)


def test_what_belongs_together_and_what_masks_hold_are_part_of_the_id(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("protocol: {keep_together: off}\nbenchmark: {mask_values: [8, 12]}\n")
    written = load_config(tmp_path / "run.yaml")
    assert (written.protocol.keep_together, written.benchmark.mask_values) == ("off", (8, 12))
    assert load_config(tmp_path / "run.yaml", ["protocol.keep_together=near"]).protocol.keep_together == "near"
    (tmp_path / "again.yaml").write_text(to_yaml(written))
    assert load_config(tmp_path / "again.yaml") == written
    others = [["protocol.keep_together=copies"], ["protocol.keep_together=near"], ["benchmark.mask_values=[8]"], []]
    assert len({load_config(tmp_path / "run.yaml", other).identity for other in others}) == 4


@pytest.mark.parametrize("values", ["indices", "[8,x]", "[]", "[-1]", "[70000]", "1.5"])
def test_mask_values_that_are_none_are_one_line(tmp_path: Path, values: str) -> None:
    (tmp_path / "run.yaml").write_text("seed: 1\n")
    with raises(ConfigError, "benchmark.mask_values", "[8,12]"):
        load_config(tmp_path / "run.yaml", [f"benchmark.mask_values={values}"])


def test_a_run_is_named_by_its_own_methods_options(empty: Path) -> None:
    """One ERM run serves every λ1; a section of another method is checked all the same."""
    values = {"align": {"lambda1": 4.0}, "fixed_mask": {"mask": "grey"}}
    runs = [parse_config({"method": "erm", **values, "align": {"lambda1": value}}) for value in (1.0, 4.0, 9.0)]
    assert len({run.identity for run in runs}) == 1
    assert len({parse_config({**values, "align": {"lambda1": value}}).identity for value in (1.0, 4.0, 9.0)}) == 3
    with raises(ConfigError, "align.lambda1", -1):
        parse_config({"method": "erm", "align": {"lambda1": -1}})
    several = parse_config(values)
    assert several.with_method("fixed_mask") == parse_config({"method": "fixed_mask", **values})
    assert "mask: grey" in to_yaml(several) and "mask: grey" not in to_yaml(several.with_own_options_only())
    assert several.with_own_options_only().identity == several.identity
