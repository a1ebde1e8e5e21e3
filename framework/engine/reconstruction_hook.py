"""Reconstructions of masked image models, during their training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from torch import Tensor

from framework.errors import ConfigError
from framework.registry import DATASETS, HOOKS
from framework.visualization.pixels import mosaic
from framework.visualization.reconstruction import reconstruct


@HOOKS.register_module()
class ReconstructionHook(Hook):
    """Sends images, masked images and their reconstructions to the visualiser's backends.

    It draws the same images with the same mask each time, so that the pictures show the progress. The
    training is not changed by it: its random numbers stay those of a run without it.

    Args:
        interval: Epochs, or iterations, between two pictures; the last one of the training gets one, too.
        by_epoch: Whether `interval` counts epochs.
        count: How many images.
        dataset: Config of the dataset whose first images are taken. Default: those of the first batch of the
            training, which differ after a resume.
        seed: Seed of the mask.

    Raises:
        ConfigError: `interval` or `count` is less than 1.
    """

    priority = "LOW"

    def __init__(
        self,
        interval: int = 1,
        by_epoch: bool = True,
        count: int = 8,
        dataset: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        for name, value in (("interval", interval), ("count", count)):
            if value < 1:
                raise ConfigError(f"ReconstructionHook: {name} must be at least 1, got {value}")
        self.interval, self.by_epoch, self.count, self.seed = interval, by_epoch, count, seed
        self.dataset = dataset
        self.images: Tensor | None = None

    def before_train(self, runner: Any) -> None:
        """Read the images, if they are those of a dataset."""
        if self.dataset is not None:
            dataset = DATASETS.build(self.dataset)
            items = [dataset[index]["inputs"] for index in range(min(self.count, len(dataset)))]
            self.images = torch.stack(items)

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Keep the first images of the training, if there are no others."""
        if self.images is None:
            inputs = data_batch["inputs"]
            images = inputs if isinstance(inputs, Tensor) else torch.stack(list(inputs))
            self.images = images[: self.count].clone()

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Draw, if it is time."""
        last = runner.iter + 1 == runner.max_iters
        if not self.by_epoch and (last or self.every_n_train_iters(runner, self.interval)):
            self._draw(runner, runner.iter + 1)

    def after_train_epoch(self, runner: Any) -> None:
        """Draw, if it is time."""
        last = runner.epoch + 1 == runner.max_epochs
        if self.by_epoch and (last or self.every_n_epochs(runner, self.interval)):
            self._draw(runner, runner.iter)

    def _draw(self, runner: Any, step: int) -> None:
        """Send a picture, after `step` iterations.

        All processes reconstruct, as the layers of a sharded model need them all; the first one draws.
        """
        assert self.images is not None
        found = reconstruct(runner.bare_model, self.images, self.seed)
        if is_main_process():
            picture = mosaic([stage.cpu() for stage in found.pictures()])
            runner.visualizer.add_image("reconstruction", picture.numpy(), step=step)
