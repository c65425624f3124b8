"""DRE's mixup regulariser L_reg, for every method with λ4."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import Tensor

from align_dist import objectives
from align_dist.data.batch import Batch
from align_dist.data.share import GlobalBatch, Share, class_weights, pair_within_class
from align_dist.methods.base import Losses, Method
from align_dist.methods.versions import Outputs
from align_dist.options import RegularisedOptions

R = TypeVar("R", bound=RegularisedOptions)


class Regularised(Method[R]):
    """A method with DRE's regulariser where λ4 > 0."""

    def share(self, batch: GlobalBatch, step: int) -> Share:
        """Each image's partner of its class in the global batch, λ, and the class weight; with λ4."""
        share = super().share(batch, step)
        if self.options.lambda4 == 0:
            return share
        rows = batch.rows
        partners, mixing = pair_within_class(batch, self.context.seed)
        arrays = {
            "mixing": mixing[rows],
            "class_weight": class_weights(batch)[rows],
            "partner": batch.gathered_positions(partners[rows]),
        }
        values = {name: torch.from_numpy(array) for name, array in arrays.items()}
        return Share(share.sample_keys, batch.sample_keys[partners[rows]], values, batch.ranks)

    def mixtures(self, batch: Batch) -> dict[str, Tensor]:
        """The mixtures x̃ and, for a part of a batch, the partners x_π; with λ4."""
        if self.options.lambda4 == 0:
            return {}
        assert batch.second is not None, "the share was made without partners"
        mixtures = objectives.mixture(batch.images, batch.second, batch.values["mixing"])
        return {"mixture": mixtures} if batch.whole else {"mixture": mixtures, "partner": batch.second}

    def regulariser(self, outputs: Mapping[str, Outputs], batch: Batch) -> Losses:
        """λ4 L_reg of `image`, `mixture` and `partner`; empty without λ4.

        Maps of partners come from all ranks' maps; a part of a batch computes the maps itself.
        """
        if "mixture" not in outputs:
            return {}
        image, mixture = outputs["image"], outputs["mixture"]
        partner = (
            self.gather_over_ranks(image.map, batch)[batch.values["partner"]] if batch.whole else outputs["partner"].map
        )
        value = objectives.mixup_regulariser(
            image.map,
            mixture.map,
            partner,
            mixture.logits,
            batch.values["mixing"],
            batch.labels,
            batch.values["class_weight"],
            self.options.regulariser_sparsity,
        )
        return {"regulariser": (self.options.lambda4, value)}
