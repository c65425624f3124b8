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
from align_dist.methods.clock import Clock
from align_dist.methods.guided import Guided
from align_dist.methods.masks.learned import LearnedMask, features_in
from align_dist.methods.options import AlignOptions
from align_dist.methods.ramp import ramped
from align_dist.methods.versions import Seen, of_another, see
from align_dist.networks.backbones import build_pretrained
from align_dist.networks.masker import build_masker
from align_dist.parallel.engine import frozen
from align_dist.sampling import logistic_noise, relaxed_sample

AREA_RANGE = (0.02, 0.8)


class ALIGN(Guided[AlignOptions]):
    """After warm-up, update M with f fixed, then f with M fixed."""

    options_type = AlignOptions

    def masker_loss(self, masker: Forward, batch: Batch, step: int) -> Losses:
        """L_mask = L_dist + λ1 ‖M(x)‖₁ + λ2 L_smooth; gradients pass through the fixed network, none reach it."""
        mask = masker(batch.images, features_in(batch))
        with self.judged(batch) as (network, classes), self.classifier.autocast():
            kept, removed = network(torch.cat([*self.split_pictures(mask, batch).values()])).chunk(2)
            return {
                "distinction": (1.0, objectives.distinction(kept, removed, classes)),
                "sparsity": (self.lambda1(step), objectives.sparsity(mask)),
                "smoothness": (self.options.lambda2, objectives.smoothness(mask, self.options.smoothness)),
                **self.joint_masker_terms(mask, batch, step),
            }

    def classifier_loss(self, classifier: Forward, batch: Batch, step: int) -> Losses:
        """L_clf = L_cls + λ3 L_egl + λ4 L_reg, M fixed, and of ours `exchange`; in warm-up L_cls + λ4 L_reg."""
        if not self.is_guided(step):
            return self.guided_loss(self.seen(classifier, batch, None), batch, None)
        mask = batch.values["mask"] if self.is_joint(step) else self.mask(batch)
        guiding = self.guiding(mask)
        seen = self.seen(classifier, batch, guiding, self.joint_versions(mask, batch, step))
        return {
            **self.guided_loss(seen, batch, guiding),
            **self.joint_classifier_terms(seen, batch),
        }

    def losses(self, step: int) -> dict[str, Loss]:
        turn, found = self._turn(step), dict[str, Loss]()
        if turn != "classifier" and self.masker_start <= step < self.masker_end:
            found["masker"] = self.masker_loss
        if turn != "masker":
            found["classifier"] = self.classifier_loss
        return found

    @classmethod
    def own_networks(cls, options: AlignOptions, clock: Clock) -> dict[str, Network]:
        chosen = options.masker
        return {
            "masker": Network(
                lambda: build_masker(chosen.kind, chosen.width, chosen.area),
                chosen.optimiser,
                options.begins(clock),
                options.ends(clock),
            )
        }

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.mask = LearnedMask(self.networks["masker"])
        self.reference = self._reference()
        self.masker_start, self.masker_end = (of(self.context.clock) for of in (self.options.begins, self.options.ends))

    def prepare(self, batch: Batch, step: int) -> Batch:
        if step < self.masker_start:
            return batch
        prepared = self.mask.prepared(batch)
        if not self.is_joint(step):
            return prepared
        # Both networks follow gradients taken where this step begins: the classifier sees the mask before its update.
        return replace(prepared, values={**prepared.values, "mask": self.mask(prepared)})

    def is_joint(self, step: int) -> bool:
        """Whether both networks follow the gradient of the sum of their losses at this step."""
        return self.options.alternation == "joint" and self.is_guided(step) and step < self.masker_end

    def joint_masker_terms(self, mask: Tensor, batch: Batch, step: int) -> Losses:
        """What the classifier's loss tells a mask that is not fixed."""
        if not self.is_joint(step):
            return {}
        guiding = self.guiding(mask)
        exchanges = self.exchanges(batch, guiding)
        with frozen(self.classifier) as classifier:
            with torch.no_grad():
                seen = see(classifier, {"image": batch.images}, batch.labels, explain=True)
            seen |= see(classifier, exchanges, batch.labels, explain=False) if exchanges else {}
            return self.guidance(seen, guiding, batch.labels)

    def joint_versions(self, mask: Tensor, batch: Batch, step: int) -> Mapping[str, Tensor]:
        """The pictures of L_dist where the classifier's evidence counts and the classifier is not fixed."""
        return self.split_pictures(mask, batch) if self.is_joint(step) and self.reference is None else {}

    def joint_classifier_terms(self, seen: Mapping[str, Seen], batch: Batch) -> Losses:
        """What L_dist tells a classifier that is not fixed."""
        if "kept" not in seen:
            return {}
        value = objectives.distinction(seen["kept"].logits, seen["removed"].logits, batch.labels)
        return {"distinction": (1.0, value)}

    def split_pictures(self, mask: Tensor, batch: Batch) -> dict[str, Tensor]:
        """What a mask marks, and what it leaves, (B, 3, H, W) each, for L_dist."""
        share, others = self.sampled(mask, batch), self.others(batch)
        parts = {"kept": share, "removed": 1 - share}
        return {name: objectives.exchanged(batch.images, part, others) for name, part in parts.items()}

    @contextmanager
    def judged(self, batch: Batch) -> Iterator[tuple[nn.Module, Tensor]]:
        """Whose evidence counts in L_dist, fixed, and for which classes (B,) or (B, K)."""
        if self.reference is None:
            with frozen(self.classifier) as classifier:
                yield classifier, batch.labels
            return
        with torch.no_grad(), self.classifier.autocast():
            likeliest = self.reference(batch.images).topk(self.options.evidence_classes, dim=1).indices
        yield self.reference, likeliest

    def others(self, batch: Batch) -> Tensor:
        """What L_dist shows where the mask takes something away, (B, 3, H, W); 0 is the mean colour."""
        taken = self.options.removed_pixels == "another_image"
        return of_another(batch.images) if taken else torch.zeros_like(batch.images)

    def learned_mask(self, batch: Batch) -> Tensor:
        return self.mask(batch)

    def lambda1(self, step: int) -> float:
        """λ1 at a step, by `sparsity_ramp`.

        A masker starts grey, where L_dist has next to no slope and sparsity has its full one: a classifier that
        does not mind contrast then never tells it anything before it is empty. Before EfficientNet-Lite0 a
        straight line from the first step on was already too much.
        """
        length = self.context.clock.steps(self.options.sparsity_ramp)
        return ramped(self.options.lambda1, step, self.masker_start, length)

    def sampled(self, mask: Tensor, batch: Batch) -> Tensor:
        """What L_dist multiplies x with: M(x), or a relaxed sample of it. Sparsity and smoothness stay on M(x)."""
        if self.options.mask_sampling == "none":
            return mask
        return relaxed_sample(mask, batch.values["noise"], self.options.sampling_temperature)

    def share(self, batch: GlobalBatch, step: int) -> Share:
        share = super().share(batch, step)
        if self.options.mask_sampling == "none":
            return share
        noise = logistic_noise(self.context.seed, share.draws, self.options.sampling_grid)
        return replace(share, values={**share.values, "noise": noise})

    def warning(self, logged: Mapping[str, float]) -> str | None:
        """Masks that fill or leave the image: λ1 is then wrong, and turns the gain into harm."""
        area = logged.get("mask/area")
        if area is None or AREA_RANGE[0] <= area <= AREA_RANGE[1]:
            return None
        advice = "raise" if area > AREA_RANGE[1] else "lower"
        return f"warning: masks cover {area:.1%} of the image on average; {advice} align.lambda1"

    def _reference(self) -> nn.Module | None:
        """The fixed network of `evidence`, beside the classifier; None where the classifier's own evidence counts."""
        if self.options.evidence == "classifier":
            return None
        # Weights are drawn before they are loaded, and steps draw their dropout from the same generator.
        with torch.random.fork_rng(devices=[]):
            network = build_pretrained(self.options.evidence)
        return network.to(next(self.classifier.module.parameters()).device)

    def _turn(self, step: int) -> str:
        """Whose update this is: `both` each batch, or the two by turns, whole epochs, masker first, while it learns."""
        if self.options.alternation != "epoch" or not self.is_guided(step) or step >= self.masker_end:
            return "both"
        turn = int((step - self.context.clock.warmup) / self.context.clock.epoch) % 2
        return ("masker", "classifier")[turn]
