"""The sections of a run's description: every key, its type, range and default."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    SerializeAsAny,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from align_dist.config.identity import identity_of
from align_dist.methods.options import Options
from align_dist.methods.registry import find_options
from align_dist.schema.text import Described
from align_dist.schema.values import Count, Duration, Fraction, OptimiserConfig, Positive, Seed, Weight, option


def _check_mask_values(given: Any) -> Any:
    if given in ("auto", "index", "soft"):
        return given
    values = [str(value) for value in (given if isinstance(given, list | tuple) else [given])]
    if not values or not all(value.isdecimal() and int(value) <= 65535 for value in values):
        raise ValueError("takes auto, index, soft or the object's values such as [8,12]")
    return tuple(map(int, values))


Selection = Literal["validation", "validation_worst_group", "last", "oracle"]
USUAL_AGREEMENT = 0.7


class BenchmarkConfig(Described):
    """Which pictures, where they lie, and how they are stored in the `.beton`.

    metadata: a CSV file of groups and of a split of the benchmark's own, a line a picture, with a line of names on top.
    `image` is the picture's path within `root`; `attribute` the spurious attribute, such as `on water`, by which and
    by the class its group is named (`landbird on water`); `split` one of train, validation and test. Either of the
    last two may be missing.
    mask_values: what in mask files is the object: whatever is not 0, but for VOC's 255 (index), the values as shares
    of it (soft), the values of a list, or what the masks themselves say (auto).
    agreement: of the embedded benchmark, the share of its training domain in which the background is that of the class,
    and of `reversed` in which it is that of the next class.
    pictures: sixteen hexadecimal digits that name the pictures, masks and storage that a run is on, as the beton's
    manifest has them. Left out, they are those of the beton that is there; given, any other beton is refused.
    """

    name: str = "embedded"
    root: Path = Path("betons/embedded")
    masks: Path | None = None
    metadata: Path | None = None
    betons: Path = Path("betons")
    max_side: Count = 256
    storage: Literal["jpg", "raw"] = "jpg"
    quality: Annotated[int, Field(ge=1, le=100)] = 90
    on_unreadable: Literal["fail", "skip"] = "fail"
    mask_values: Annotated[Literal["auto", "index", "soft"] | tuple[int, ...], BeforeValidator(_check_mask_values)] = (
        "auto"
    )
    pictures: Annotated[str, Field(pattern="^[0-9a-f]{16}$")] | None = None
    agreement: Fraction = USUAL_AGREEMENT

    @property
    def beton(self) -> Path:
        """The file that `align-dist data prepare` writes."""
        return self.betons / f"{self.name}-{self.storage}{self.max_side}.beton"


class ProtocolConfig(Described):
    """Who trains on what (design: splits). `seed` cuts the parts; it is not the training seed.

    kind: `fixed` takes the parts that the benchmark brings, of `source`, or of all domains where none is named, and
    neither fractions, nor seed, nor keep_together.
    keep_together: what no cut goes through: near-copies and bursts (near), pictures of equal bytes (copies), or
    nothing (off), as other programs cut.
    """

    kind: Literal["in_domain", "single_source", "leave_one_out", "fixed"] = "single_source"
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


class ClassifierConfig(Described):
    """batchnorm: `frozen` keeps the statistics it came with (DomainBed's choice for pretrained networks);
    `synchronised` takes them over the global batch, whatever the number of ranks; `local` over each rank's share,
    cheaper, and then the number of ranks is part of the result. attribution: what tells where a classifier looks, in
    losses, measures and pictures alike: Grad-CAM, or a gradient with respect to the pixels (`input_attribution.py`),
    which takes one more forward and backward (input_gradient) or eight (integrated_gradients), and in training a
    backward through each: a guided step of resnet8 takes about 3 and 20 times Grad-CAM's on a CPU. cam_places:
    where in the image the cells of Grad-CAM are taken to lie: at the centres of their receptive fields
    (`places.py`), or on an even grid as captum, DRE and most pictures have it.
    """

    backbone: str = "resnet50"
    pretrained: bool = True
    small_images: bool = False
    batchnorm: Literal["frozen", "synchronised", "local"] = "frozen"
    attribution: Literal["grad_cam", "input_gradient", "integrated_gradients"] = "grad_cam"
    cam_places: Literal["receptive_field", "even"] = "receptive_field"
    optimiser: OptimiserConfig = OptimiserConfig()


class TrainingConfig(Described):
    """How long, how often, on what.

    warmup: steps or epochs before guidance.
    until: where to pause, all schedules being those of the whole length; the same run without it goes on.
    validate_every, checkpoint_every, pictures_every: an interval; `0 epochs` for at the end alone.
    precision: `auto` becomes what pays on this machine (arithmetic.py) when a run is read, before its id: wherever
    it goes on, its arithmetic stays. channels_last: of the classifier; a step is 1 to 1.6 times as fast in it on a CPU,
    in both precisions. threads: of torch; 0 for all cores of the rank.
    """

    length: Duration = "60 epochs"
    until: Duration | None = None
    warmup: Duration = option("20 epochs", after_warmup=True)
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
    """selections: which weights are measured: best by accuracy on source validation, or by that of its worst group,
    last, or best on target validation. Without `oracle`, no target picture is looked at before the end.
    theory: whether the lemmas are measured too, on as many images as faithfulness. explain_validation: whether each
    validation after warm-up measures explanations too, as a search for faithful ones asks.
    """

    batch_size: Count = 64
    selections: tuple[Selection, ...] = ("validation", "last", "oracle")
    faithfulness_images: Annotated[int, Field(ge=0)] = 256
    insertion_steps: Count = 28
    fill: Literal["zero", "blur"] = "zero"
    soft: bool = False
    theory: bool = False
    explain_validation: bool = False

    @property
    def settings(self) -> dict[str, Any]:
        """What results depend on, as plain values."""
        return self.model_dump(mode="json", exclude={"batch_size", "explain_validation"})


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
    """A run: the shared sections, and the options of methods by name, of which those of `method` count.

    In YAML a method's options are a section of its own: `align: {lambda1: 4}`. Several may stand in one file.
    """

    experiment: str = "run"
    runs: Path = Path("runs")
    method: str = "align"
    variant: str = ""
    seed: Seed = 0
    benchmark: BenchmarkConfig = BenchmarkConfig()
    protocol: ProtocolConfig = ProtocolConfig()
    data: DataConfig = DataConfig()
    classifier: ClassifierConfig = ClassifierConfig()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    distributed: DistributedConfig = DistributedConfig()
    methods: dict[str, SerializeAsAny[Options]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _possible(self) -> RunConfig:
        length, warmup = self.training.length.split(), self.training.warmup.split()
        if length[1] == warmup[1] and int(warmup[0]) > int(length[0]):
            raise ValueError(
                f"training.warmup: {self.training.warmup} is longer than the run ({self.training.length}); shorten it"
            )
        conflict = self.options.conflict(self.classifier.backbone)
        if conflict:
            raise ValueError(f"{self.method}.{conflict}")
        if self.benchmark.agreement != USUAL_AGREEMENT and self.benchmark.name != "embedded":
            raise ValueError(
                f"benchmark.agreement: {self.benchmark.agreement}, but only the embedded benchmark is made to measure; "
                f"take it out with benchmark.name={self.benchmark.name}"
            )
        if self.evaluation.theory and self.evaluation.faithfulness_images == 0:
            raise ValueError("evaluation.theory: is measured on evaluation.faithfulness_images, which is 0; raise it")
        if self.protocol.validation_fraction + self.protocol.test_fraction >= 1:
            raise ValueError("protocol.validation_fraction + protocol.test_fraction leave nothing to train on")
        if self.data.batch_size % self.data.micro_batches:
            raise ValueError(
                f"data.micro_batches: {self.data.micro_batches} does not divide data.batch_size={self.data.batch_size}"
            )
        return self

    @model_serializer(mode="wrap")
    def _in_sections(self, inner: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """The options of methods as sections beside the others."""
        told: dict[str, Any] = inner(self)
        methods = told.pop("methods")
        return {**told, **{name: options for name, options in methods.items() if options}}

    @property
    def options(self) -> Options:
        """The options of the run's own method."""
        return self.methods.get(self.method) or find_options(self.method)()

    def with_method(self, method: str) -> RunConfig:
        """The same run by another method, whose options are those of its section. Raises ConfigError."""
        options = self.methods.get(method) or find_options(method)()
        return self.model_copy(update={"method": method, "methods": {**self.methods, method: options}})

    def alone(self) -> RunConfig:
        """The same run without the sections of other methods."""
        return self.model_copy(update={"methods": {self.method: self.options}})

    @property
    def identity(self) -> str:
        """Eight hexadecimal digits that name what determines the result."""
        return identity_of(self.alone().model_dump(mode="json"))

    @property
    def folder(self) -> Path:
        """Where the run lives: `<runs>/<experiment>/<benchmark>-<domain>-<method>[-<variant>]-seed<n>-<id>`."""
        domain = self.protocol.target if self.protocol.kind == "leave_one_out" else self.protocol.source
        unnamed = "all" if self.protocol.kind == "fixed" else "none"
        parts = [self.benchmark.name, domain or unnamed, self.method, self.variant.replace(" ", "_")]
        name = "-".join(part for part in [*parts, f"seed{self.seed}", self.identity] if part)
        return self.runs / self.experiment / name
