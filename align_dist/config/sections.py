"""The sections of a run's description: every key, its type, range and default."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from align_dist.config.text import Described


def _check_duration(given: Any) -> str:
    count, _, unit = str(given).strip().partition(" ")
    if not count.isdigit() or unit not in ("step", "steps", "epoch", "epochs"):
        raise ValueError("takes a length such as '12 epochs' or '200 steps'")
    return f"{int(count)} {unit.rstrip('s')}s"


def _check_mask_values(given: Any) -> Any:
    if given in ("auto", "index", "soft"):
        return given
    values = [str(value) for value in (given if isinstance(given, list | tuple) else [given])]
    if not values or not all(value.isdecimal() and int(value) <= 65535 for value in values):
        raise ValueError("takes auto, index, soft or the object's values such as [8,12]")
    return tuple(map(int, values))


Duration = Annotated[str, BeforeValidator(_check_duration)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
# torch's generators take 64 bits, of which other networks' seeds want a few above this one.
LARGEST_SEED = 2**63 - 1
Seed = Annotated[int, Field(ge=0, le=LARGEST_SEED)]
LAMBDAS = ("lambda1", "lambda2", "lambda3", "lambda4")


def to_steps(duration: Duration, steps_per_epoch: float) -> int:
    """A length in steps; epochs are rounded to the nearest whole step."""
    count, unit = duration.split()
    return int(count) if unit == "steps" else round(int(count) * steps_per_epoch)


class BenchmarkConfig(Described):
    """Which pictures, where they lie, and how they are stored in the `.beton`.

    mask_values: what in mask files is the object: whatever is not 0, but for VOC's 255 (index), the values as shares
    of it (soft), the values of a list, or what the masks themselves say (auto).
    pictures: sixteen hexadecimal digits that name the pictures, masks and storage that a run is on, as the beton's
    manifest has them. Left out, they are those of the beton that is there; given, any other beton is refused.
    """

    name: str = "embedded"
    root: Path = Path("betons/embedded")
    masks: Path | None = None
    betons: Path = Path("betons")
    max_side: Count = 256
    storage: Literal["jpg", "raw"] = "jpg"
    quality: Annotated[int, Field(ge=1, le=100)] = 90
    on_unreadable: Literal["fail", "skip"] = "fail"
    mask_values: Annotated[
        Literal["auto", "index", "soft"] | tuple[int, ...], BeforeValidator(_check_mask_values)
    ] = "auto"
    pictures: Annotated[str, Field(pattern="^[0-9a-f]{16}$")] | None = None

    @property
    def beton(self) -> Path:
        """The file that `align-dist data prepare` writes."""
        return self.betons / f"{self.name}-{self.storage}{self.max_side}.beton"


class ProtocolConfig(Described):
    """Who trains on what (design: splits). `seed` cuts the parts; it is not the training seed.

    keep_together: what no cut goes through: near-copies and bursts (near), pictures of equal bytes (copies), or
    nothing (off), as other programs cut.
    """

    kind: Literal["in_domain", "single_source", "leave_one_out"] = "single_source"
    source: str | None = None
    target: str | None = None
    validation_fraction: Fraction = 0.2
    test_fraction: Fraction = 0.2
    keep_together: Literal["off", "copies", "near"] = "near"
    seed: Seed = 0


class AugmentationConfig(Described):
    """DomainBed's augmentation (paper.md section 5.3)."""

    crop_scale: tuple[Fraction, Fraction] = (0.7, 1.0)
    crop_ratio: tuple[Positive, Positive] = (0.75, 4 / 3)
    flip: Fraction = 0.5
    jitter: tuple[Fraction, Fraction, Fraction, Annotated[float, Field(ge=0, le=0.5)]] = (0.3, 0.3, 0.3, 0.3)
    greyscale: Fraction = 0.1


class DataConfig(Described):
    """batch_size: of the global batch, over all ranks. micro_batches: parts a rank goes through it in, one
    update for all of them; where BatchNorm is not frozen it normalises each part by itself.
    """

    image_size: Annotated[int, Field(ge=16, multiple_of=8)] = 224
    batch_size: Count = 32
    micro_batches: Count = 1
    balance_domains: bool = True
    workers: Annotated[int, Field(ge=0)] = 0
    augmentation: AugmentationConfig = AugmentationConfig()


class OptimiserConfig(Described):
    name: Literal["adam", "adamw", "sgd"] = "adam"
    learning_rate: Positive = 5e-5
    weight_decay: Weight = 0.0
    schedule: Literal["constant", "cosine"] = "constant"


class ClassifierConfig(Described):
    """batchnorm: `frozen` keeps the statistics it came with (DomainBed's choice for pretrained networks);
    `synchronised` takes them over the global batch, whatever the number of ranks; `local` over each rank's share,
    cheaper, and then the number of ranks is part of the result.
    """

    backbone: str = "resnet50"
    pretrained: bool = True
    small_images: bool = False
    batchnorm: Literal["frozen", "synchronised", "local"] = "frozen"
    optimiser: OptimiserConfig = OptimiserConfig()


class MaskerConfig(Described):
    """`area`: the mask's mean before training. The optimiser's clock starts with guidance."""

    kind: Literal["small", "large", "pretrained"] = "small"
    width: Count = 16
    area: Annotated[float, Field(gt=0, lt=1)] = 0.5
    optimiser: OptimiserConfig = OptimiserConfig(learning_rate=1e-3)


class ObjectiveConfig(Described):
    """λ1 sparsity, λ2 smoothness, λ3 guidance, λ4 mixup regulariser, and every choice the paper leaves open.

    fixed_mask: what `method=fixed_mask` guides with, in place of a learned mask.
    alternation: the masker and the classifier take turns every batch, or every epoch.
    mask_sampling: L_dist sees the mask itself (none, the paper's wording), or a nearly binary sample of it
    (relaxed), whose noise is drawn on a grid of `sampling_grid` places a side; see align_dist/sampling.py.
    """

    lambda1: Weight = 1.0
    lambda2: Weight = 0.1
    lambda3: Weight = 1.0
    lambda4: Weight = 1.0
    smoothness: Literal["absolute", "squared"] = "absolute"
    cam_normalisation: Literal["minmax", "relu_max"] = "minmax"
    cam_epsilon: Annotated[float, Field(ge=1e-4, lt=0.5)] = 1e-2
    guidance_resolution: Literal["map", "image"] = "map"
    regulariser_sparsity: Literal["mean", "column_maximum"] = "mean"
    alternation: Literal["batch", "epoch"] = "batch"
    mask_sampling: Literal["none", "relaxed"] = "none"
    sampling_grid: Count = 12
    sampling_temperature: Positive = 0.3
    fixed_mask: Literal["constant", "grey", "given"] = "constant"
    constant: Fraction = 1.0


class TrainingConfig(Described):
    """How long, how often, on what.

    warmup: steps or epochs before guidance. masker_head_start: how long before the end of warm-up the masker
    begins to learn, so that the first masks that guide have something to say (0 is the paper's wording).
    sparsity_ramp: how long λ1 takes to its value once the masker learns, the first half of it at 0, so that the
    masker finds something before it shrinks (0 is the paper's wording).
    until: where to pause, all schedules being those of the whole length; the same run without it goes on.
    precision: `auto` becomes what pays on this machine (arithmetic.py) when a run is read, before its id: wherever
    it goes on, its arithmetic stays. channels_last: of the classifier; a step is 1 to 1.6 times as fast in it on a CPU,
    in both precisions. threads: of torch; 0 for all cores of the rank.
    """

    length: Duration = "60 epochs"
    until: Duration | None = None
    warmup: Duration = "20 epochs"
    masker_head_start: Duration = "0 epochs"
    sparsity_ramp: Duration = "0 epochs"
    validate_every: Duration = "1 epochs"
    checkpoint_every: Duration = "1 epochs"
    log_every: Count = 20
    pictures_every: Duration = "10 epochs"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    channels_last: bool = True
    gradient_clip: Positive | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Annotated[int, Field(ge=0)] = 0


class EvaluationConfig(Described):
    """selections: which weights are measured. Without `oracle`, no target picture is looked at before the end."""

    batch_size: Count = 64
    selections: tuple[Literal["validation", "last", "oracle"], ...] = ("validation", "last", "oracle")
    faithfulness_images: Annotated[int, Field(ge=0)] = 256
    insertion_steps: Count = 28
    fill: Literal["zero", "blur"] = "zero"
    soft: bool = False

    @property
    def settings(self) -> dict[str, Any]:
        """What results depend on, as plain values."""
        return self.model_dump(mode="json", exclude={"batch_size"})


class DistributedConfig(Described):
    """How many ranks work on a run; nothing here changes its result by more than rounding.

    engine: `auto` is plain on one rank and DDP on several. deepspeed: the JSON of that engine. timeout: seconds
    after which a rank that waits for another one gives up. grace: seconds before a Slurm job's end at which the
    run saves and leaves.
    """

    engine: Literal["auto", "plain", "ddp", "deepspeed"] = "auto"
    deepspeed: Path = Path("configs/deepspeed/zero1.json")
    backend: Literal["auto", "gloo", "nccl"] = "auto"
    timeout: Positive = 600.0
    grace: Weight = 120.0


class RunConfig(Described):
    """A run. Everything but `runs`, `experiment` and how fast it goes determines its result, and so its id."""

    experiment: str = "run"
    runs: Path = Path("runs")
    method: str = "align"
    variant: str = ""
    seed: Seed = 0
    benchmark: BenchmarkConfig = BenchmarkConfig()
    protocol: ProtocolConfig = ProtocolConfig()
    data: DataConfig = DataConfig()
    classifier: ClassifierConfig = ClassifierConfig()
    masker: MaskerConfig = MaskerConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    distributed: DistributedConfig = DistributedConfig()

    @model_validator(mode="after")
    def _possible(self) -> RunConfig:
        length, warmup = self.training.length.split(), self.training.warmup.split()
        if length[1] == warmup[1] and int(warmup[0]) > int(length[0]):
            raise ValueError(
                f"training.warmup: {self.training.warmup} is longer than the run ({self.training.length}); shorten it"
            )
        if self.masker.kind == "pretrained" and self.classifier.backbone != "efficientnet_lite0":
            raise ValueError(
                "masker.kind: pretrained is EfficientNet-Lite0's features and takes its pictures as that network does;"
                f" it goes with classifier.backbone=efficientnet_lite0, not with {self.classifier.backbone}"
            )
        if self.protocol.validation_fraction + self.protocol.test_fraction >= 1:
            raise ValueError("protocol.validation_fraction + protocol.test_fraction leave nothing to train on")
        if self.data.batch_size % self.data.micro_batches:
            raise ValueError(
                f"data.micro_batches: {self.data.micro_batches} does not divide data.batch_size={self.data.batch_size}"
            )
        return self

    @property
    def identity(self) -> str:
        """Eight hexadecimal digits that name what determines the result."""
        told = self.model_dump(mode="json", exclude={"experiment", "runs", "evaluation", "variant", "distributed"})
        told["data"].pop("workers")
        for key in ("log_every", "pictures_every", "checkpoint_every", "device", "threads", "until"):
            told["training"].pop(key)
        for key in ("root", "masks", "betons", *(() if self.benchmark.pictures else ("pictures",))):
            told["benchmark"].pop(key)
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:8]

    @property
    def folder(self) -> Path:
        """Where the run lives: `<runs>/<experiment>/<benchmark>-<domain>-<method>[-<variant>]-seed<n>-<id>`."""
        domain = self.protocol.target if self.protocol.kind == "leave_one_out" else self.protocol.source
        parts = [self.benchmark.name, domain or "none", self.method, self.variant.replace(" ", "_")]
        name = "-".join(part for part in [*parts, f"seed{self.seed}", self.identity] if part)
        return self.runs / self.experiment / name
