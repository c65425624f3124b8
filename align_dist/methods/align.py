"""ALIGN (arXiv 2511.06944): a masker and a classifier, in alternation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from align_dist import objectives
from align_dist.data.batch import Batch
from align_dist.data.share import GlobalBatch, Share
from align_dist.methods.base import Forward, Loss, Losses, Network
from align_dist.methods.guided import Guided
from align_dist.methods.masks.learned import LearnedMask, features_of
from align_dist.methods.ramp import ramp_weight
from align_dist.methods.versions import Outputs, forward_versions, other_image_values
from align_dist.networks.backbones import build_pretrained
from align_dist.networks.masker import build_masker
from align_dist.options import AlignOptions
from align_dist.options.clock import Clock
from align_dist.parallel.engine import frozen
from align_dist.sampling import logistic_noise, relaxed_sample

AREA_RANGE = (0.02, 0.8)


class ALIGN(Guided[AlignOptions]):
    """L_cls + λ4 L_reg in warm-up; then alternate between M and f, each with the other one fixed.

    M: L_dist + λ1 ‖M(x)‖₁ + λ2 L_smooth. f: L_cls + λ3 L_egl + λ4 L_reg + `exchange` L_cls(exchanged).
    """

    options_type = AlignOptions

    def masker_loss(self, masker: Forward, batch: Batch, step: int) -> Losses:
        """L_mask = L_dist + λ1 ‖M(x)‖₁ + λ2 L_smooth. Gradients flow through the frozen network to the mask."""
        mask = masker(batch.images, features_of(batch))
        with self.evidence_network(batch) as (network, classes), self.classifier.autocast():
            kept_logits, removed_logits = network(torch.cat([*self.split_images(mask, batch).values()])).chunk(2)
            return {
                "distinction": (1.0, objectives.distinction(kept_logits, removed_logits, classes)),
                "sparsity": (self.lambda1(step), objectives.sparsity(mask)),
                "smoothness": (self.options.lambda2, objectives.smoothness(mask, self.options.smoothness)),
                **self.joint_masker_terms(mask, batch, step),
            }

    def classifier_loss(self, classifier: Forward, batch: Batch, step: int) -> Losses:
        """L_clf = L_cls + λ3 L_egl + λ4 L_reg with M fixed, and optionally `exchange`; in warm-up L_cls + λ4 L_reg."""
        if not self.is_guided(step):
            return self.guided_loss(self.outputs(classifier, batch, None), batch, None)
        mask = batch.values["mask"] if self.is_joint(step) else self.mask(batch)
        guiding_mask = self.guiding_mask(mask)
        outputs = self.outputs(classifier, batch, guiding_mask, self.joint_versions(mask, batch, step))
        return {
            **self.guided_loss(outputs, batch, guiding_mask),
            **self.joint_classifier_terms(outputs, batch),
        }

    def losses(self, step: int) -> dict[str, Loss]:
        turn, losses = self._turn(step), dict[str, Loss]()
        if turn != "classifier" and self.masker_start <= step < self.masker_end:
            losses["masker"] = self.masker_loss
        if turn != "masker":
            losses["classifier"] = self.classifier_loss
        return losses

    @classmethod
    def own_networks(cls, options: AlignOptions, clock: Clock) -> dict[str, Network]:
        masker = options.masker
        return {
            "masker": Network(
                lambda: build_masker(masker.kind, masker.width, masker.area),
                masker.optimiser,
                options.masker_start(clock),
                options.masker_end(clock),
            )
        }

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.mask = LearnedMask(self.networks["masker"])
        self.reference = self._reference()
        self.masker_start, self.masker_end = (
            step_of(self.context.clock) for step_of in (self.options.masker_start, self.options.masker_end)
        )

    def prepare(self, batch: Batch, step: int) -> Batch:
        if step < self.masker_start:
            return batch
        prepared = self.mask.with_features(batch)
        if not self.is_joint(step):
            return prepared
        # Both gradients are taken at the start of the step: the classifier gets the mask before the masker's update.
        return replace(prepared, values={**prepared.values, "mask": self.mask(prepared)})

    def is_joint(self, step: int) -> bool:
        """Return whether both networks follow the gradient of the sum of both losses at this step."""
        return self.options.alternation == "joint" and self.is_guided(step) and step < self.masker_end

    def joint_masker_terms(self, mask: Tensor, batch: Batch, step: int) -> Losses:
        """Terms of the classifier's loss for a mask that is not fixed."""
        if not self.is_joint(step):
            return {}
        guiding_mask = self.guiding_mask(mask)
        exchanges = self.exchanges(batch, guiding_mask)
        with frozen(self.classifier) as classifier:
            with torch.no_grad():
                outputs = forward_versions(classifier, {"image": batch.images}, batch.labels, explain=True)
            outputs |= forward_versions(classifier, exchanges, batch.labels, explain=False) if exchanges else {}
            return self.guidance(outputs, guiding_mask, batch.labels)

    def joint_versions(self, mask: Tensor, batch: Batch, step: int) -> Mapping[str, Tensor]:
        """Images of L_dist for a classifier that is not fixed and whose evidence the mask marks."""
        return self.split_images(mask, batch) if self.is_joint(step) and self.reference is None else {}

    def joint_classifier_terms(self, outputs: Mapping[str, Outputs], batch: Batch) -> Losses:
        """L_dist as a term for a classifier that is not fixed."""
        if "kept" not in outputs:
            return {}
        value = objectives.distinction(outputs["kept"].logits, outputs["removed"].logits, batch.labels)
        return {"distinction": (1.0, value)}

    def split_images(self, mask: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Images inside (`kept`) and outside (`removed`) the mask, (B, 3, H, W) each, for L_dist."""
        share, others = self.sampled_mask(mask, batch), self.replacement_images(batch)
        parts = {"kept": share, "removed": 1 - share}
        return {name: objectives.exchange_background(batch.images, part, others) for name, part in parts.items()}

    @contextmanager
    def evidence_network(self, batch: Batch) -> Iterator[tuple[nn.Module, Tensor]]:
        """The frozen network whose evidence L_dist measures, and its classes (B,) or (B, K)."""
        if self.reference is None:
            with frozen(self.classifier) as classifier:
                yield classifier, batch.labels
            return
        with torch.no_grad(), self.classifier.autocast():
            likeliest = self.reference(batch.images).topk(self.options.evidence_classes, dim=1).indices
        yield self.reference, likeliest

    def replacement_images(self, batch: Batch) -> Tensor:
        """Images that replace removed pixels in L_dist, (B, 3, H, W); 0 is the mean colour."""
        is_another = self.options.removed_pixels == "another_image"
        return other_image_values(batch.images) if is_another else torch.zeros_like(batch.images)

    def learned_mask(self, batch: Batch) -> Tensor:
        return self.mask(batch)

    def lambda1(self, step: int) -> float:
        """λ1 at a step, by `sparsity_ramp`.

        A masker starts grey, where the gradient of L_dist is almost zero and that of sparsity is not: with a classifier
        that ignores contrast, the mask would be empty before L_dist has any effect. With EfficientNet-Lite0, even a
        linear ramp from the first step was too fast.
        """
        length = self.context.clock.steps(self.options.sparsity_ramp)
        return ramp_weight(self.options.lambda1, step, self.masker_start, length)

    def sampled_mask(self, mask: Tensor, batch: Batch) -> Tensor:
        """The mask in L_dist: M(x) or a relaxed sample of M(x). Sparsity and smoothness use M(x)."""
        if self.options.mask_sampling == "none":
            return mask
        return relaxed_sample(mask, batch.values["noise"], self.options.sampling_temperature)

    def share(self, batch: GlobalBatch, step: int) -> Share:
        share = super().share(batch, step)
        if self.options.mask_sampling == "none":
            return share
        noise = logistic_noise(self.context.seed, share.sample_keys, self.options.sampling_grid)
        return replace(share, values={**share.values, "noise": noise})

    def warning(self, logged: Mapping[str, float]) -> str | None:
        """Warn about masks that fill or leave the image, because such a λ1 does harm."""
        area = logged.get("mask/area")
        if area is None or AREA_RANGE[0] <= area <= AREA_RANGE[1]:
            return None
        advice = "raise" if area > AREA_RANGE[1] else "lower"
        return f"warning: masks cover {area:.1%} of the image on average; {advice} align.lambda1"

    def _reference(self) -> nn.Module | None:
        """The frozen network of `evidence`; None where the mask marks the classifier's evidence."""
        if self.options.evidence == "classifier":
            return None
        # Building a network draws random weights, and must not advance the generator of the steps' dropout.
        with torch.random.fork_rng(devices=[]):
            network = build_pretrained(self.options.evidence)
        return network.to(next(self.classifier.module.parameters()).device)

    def _turn(self, step: int) -> str:
        """The network to update: `both` each batch, or each in turn per epoch, the masker first."""
        if self.options.alternation != "epoch" or not self.is_guided(step) or step >= self.masker_end:
            return "both"
        turn = int((step - self.context.clock.warmup) / self.context.clock.epoch) % 2
        return ("masker", "classifier")[turn]
