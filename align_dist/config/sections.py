"""The sections of a config: every key with its type, range and default."""

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
from align_dist.options import Options
from align_dist.options.registry import find_options
from align_dist.schema.text import Section
from align_dist.schema.values import Count, Duration, Fraction, OptimiserConfig, Positive, Seed, Weight, option


def _check_mask_values(value: Any) -> Any:
    if value in ("auto", "index", "soft"):
        return value
    values = [str(item) for item in (value if isinstance(value, list | tuple) else [value])]
    if not values or not all(item.isdecimal() and int(item) <= 65535 for item in values):
        raise ValueError("takes auto, index, soft or a list of the object's values such as [8,12]")
    return tuple(map(int, values))


Selection = Literal["validation", "validation_worst_group", "last", "oracle"]
USUAL_AGREEMENT = 0.7


class BenchmarkConfig(Section):
    """The images and masks of a benchmark, and their storage in the `.beton`.

    metadata: a CSV file with groups and a fixed split: a header, then one line per image. `image` is the path within
    `root`; `attribute` is the spurious attribute, such as `on water`, which with the class names the group (`landbird
    on water`); `split` is train, validation or test. One of the last two columns may be missing.
    mask_values: which values of a mask file are the object: all but 0 and VOC's 255 (index), values as shares of the
    object (soft), a list of values, or inferred from the masks (auto).
    agreement: for the embedded benchmark, the share of images of the training domain whose background matches the
    class, and of `reversed` whose background is that of the next class.
    fingerprint: sixteen hexadecimal digits that identify images, masks and storage, from the beton's manifest.
    Without a value, the existing beton is used; with a value, any other beton is refused.
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
    fingerprint: Annotated[str, Field(pattern="^[0-9a-f]{16}$")] | None = None
    agreement: Fraction = USUAL_AGREEMENT

    @property
    def beton(self) -> Path:
        """The file that `align-dist data prepare` writes."""
        return self.betons / f"{self.name}-{self.storage}{self.max_side}.beton"


class ProtocolConfig(Section):
    """The training, validation and test split. `seed` draws the split and is independent of the training seed.

    kind: `fixed` takes the benchmark's own split of `source`, or of all domains without a source, and ignores
    fractions, seed and keep_together.
    keep_together: images that stay in one part: near-duplicates and bursts (near), files of equal bytes (copies), or
    none (off), as in other programs.
    """

    kind: Literal["in_domain", "single_source", "leave_one_out", "fixed"] = "single_source"
    source: str | None = None
    target: str | None = None
    validation_fraction: Fraction = 0.2
    test_fraction: Fraction = 0.2
    keep_together: Literal["off", "copies", "near"] = "near"
    seed: Seed = 0


class AugmentationConfig(Section):
    """The augmentation of `domainbed/datasets.py` in https://github.com/facebookresearch/DomainBed."""

    crop_scale: tuple[Fraction, Fraction] = (0.7, 1.0)
    crop_ratio: tuple[Positive, Positive] = (0.75, 4 / 3)
    flip: Fraction = 0.5
    jitter: tuple[Fraction, Fraction, Fraction, Annotated[float, Field(ge=0, le=0.5)]] = (0.3, 0.3, 0.3, 0.3)
    greyscale: Fraction = 0.1


class DataConfig(Section):
    """batch_size: size of the global batch over all ranks. micro_batches: number of parts into which a rank splits its
    share, with one update for all parts; a BatchNorm that is not frozen normalises each part on its own. balance: what
    every batch is divided equally among: `domains` of the source as in DomainBed, or `groups` (class and spurious
    attribute), as GroupDRO's authors train it; `none`: one shuffled pass over all images after another.
    """

    image_size: Annotated[int, Field(ge=16, multiple_of=8)] = 224
    batch_size: Count = 32
    micro_batches: Count = 1
    balance: Literal["none", "domains", "groups"] = "domains"
    workers: Annotated[int, Field(ge=0)] = 0
    augmentation: AugmentationConfig = AugmentationConfig()


class ClassifierConfig(Section):
    """batchnorm: `frozen` keeps the pretrained statistics (DomainBed's choice); `synchronised` computes statistics over
    the global batch, for any world size; `local` over each rank's share, which is cheaper but makes the result depend
    on the world size. attribution: the attribution map in losses, metrics and figures: Grad-CAM, or a gradient with
    respect to the pixels (`input_attribution.py`). input_gradient adds one forward and backward pass and
    integrated_gradients eight, and training a backward pass through each: a guided step of resnet8 on a CPU takes
    about 3 and 20 times as long as with Grad-CAM. cam_places: positions of Grad-CAM's cells in the image: the centres
    of their receptive fields (`places.py`), or an even grid as in captum, DRE and most figures.
    """

    backbone: str = "resnet50"
    pretrained: bool = True
    small_images: bool = False
    batchnorm: Literal["frozen", "synchronised", "local"] = "frozen"
    attribution: Literal["grad_cam", "input_gradient", "integrated_gradients"] = "grad_cam"
    cam_places: Literal["receptive_field", "even"] = "receptive_field"
    optimiser: OptimiserConfig = OptimiserConfig()


class TrainingConfig(Section):
    """Length, intervals, precision and device of the training.

    warmup: steps or epochs before guidance.
    until: where to pause, with all schedules as for the full length; the same command without `until` resumes.
    validate_every, checkpoint_every, pictures_every: an interval; `0 epochs` for at the end alone.
    precision: `auto` becomes the faster precision on this machine (arithmetic.py) when the config is read, before the
    id is computed: a run resumed on another machine keeps its precision. channels_last: memory format of the
    classifier; on a CPU a step is 1 to 1.6 times as fast, in both precisions. threads: torch threads; 0 for all cores
    of the rank.
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


class EvaluationConfig(Section):
    """selections: which weights are evaluated: those with the best accuracy on source validation, with the best
    worst-group accuracy on source validation, the last, or those with the best accuracy on target validation. Without
    `oracle`, no target image is used before the end.
    theory: whether to measure the lemmas too, on as many images as faithfulness: by true masks and where the benchmark
    has none by learned ones, or by `learned` ones in any case. explain_validation: whether each validation after
    warm-up measures explanations too, for a search that maximises faithfulness.
    """

    batch_size: Count = 64
    selections: Annotated[tuple[Selection, ...], Field(min_length=1)] = ("validation", "last", "oracle")
    faithfulness_images: Annotated[int, Field(ge=0)] = 256
    insertion_steps: Count = 28
    fill: Literal["zero", "blur"] = "zero"
    soft: bool = False
    theory: bool | Literal["learned"] = False
    explain_validation: bool = False

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that results depend on, as plain values."""
        return self.model_dump(mode="json", exclude={"batch_size", "explain_validation"})


class DistributedConfig(Section):
    """Engine and communication of the ranks; no key here changes a result by more than rounding.

    engine: `auto` is plain on one rank and DDP on several. deepspeed: DeepSpeed's JSON file. timeout: seconds after
    which a rank stops waiting for another rank. grace: seconds before the end of a Slurm job at which the run saves
    and exits.
    """

    engine: Literal["auto", "plain", "ddp", "deepspeed"] = "auto"
    deepspeed: Path = Path("configs/deepspeed/zero1.json")
    backend: Literal["auto", "gloo", "nccl"] = "auto"
    timeout: Positive = 600.0
    grace: Weight = 120.0


class RunConfig(Section):
    """The config of a run: the shared sections, and the options of methods by name. Only those of `method` count.

    In YAML each method's options are a section: `align: {lambda1: 4}`. One file may hold sections of several methods.
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
                f"benchmark.agreement: {self.benchmark.agreement}, but only the embedded benchmark takes an agreement; "
                f"remove it with benchmark.name={self.benchmark.name}"
            )
        if self.evaluation.theory and self.evaluation.faithfulness_images == 0:
            raise ValueError("evaluation.theory: needs images, and evaluation.faithfulness_images is 0; raise it")
        if self.protocol.validation_fraction + self.protocol.test_fraction >= 1:
            raise ValueError("protocol.validation_fraction + protocol.test_fraction leave nothing to train on")
        if self.data.batch_size % self.data.micro_batches:
            raise ValueError(
                f"data.micro_batches: {self.data.micro_batches} does not divide data.batch_size={self.data.batch_size}"
            )
        return self

    @model_serializer(mode="wrap")
    def _in_sections(self, inner: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Write the options of methods as sections beside the shared ones."""
        sections: dict[str, Any] = inner(self)
        methods = sections.pop("methods")
        return {**sections, **{name: options for name, options in methods.items() if options}}

    @property
    def options(self) -> Options:
        """The options of the run's own method."""
        return self.methods.get(self.method) or find_options(self.method)()

    def with_method(self, method: str) -> RunConfig:
        """The same run with another method and the options of that method's section. Raises ConfigError."""
        options = self.methods.get(method) or find_options(method)()
        return self.model_copy(update={"method": method, "methods": {**self.methods, method: options}})

    def with_own_options_only(self) -> RunConfig:
        """The same config without the sections of other methods."""
        return self.model_copy(update={"methods": {self.method: self.options}})

    @property
    def identity(self) -> str:
        """The run's id: eight hexadecimal digits from everything that determines the result."""
        return identity_of(self.with_own_options_only().model_dump(mode="json"))

    @property
    def folder(self) -> Path:
        """The run's folder: `<runs>/<experiment>/<benchmark>-<domain>-<method>[-<variant>]-seed<n>-<id>`."""
        domain = self.protocol.target if self.protocol.kind == "leave_one_out" else self.protocol.source
        unnamed = "all" if self.protocol.kind == "fixed" else "none"
        parts = [self.benchmark.name, domain or unnamed, self.method, self.variant.replace(" ", "_")]
        name = "-".join(part for part in [*parts, f"seed{self.seed}", self.identity] if part)
        return self.runs / self.experiment / name
