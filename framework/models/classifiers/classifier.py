"""Image classification."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.model import BaseModel
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from framework.errors import ConfigError
from framework.models.classifiers.accuracy import topk_accuracy
from framework.models.classifiers.data_preprocessor import ClsDataPreprocessor
from framework.models.heads.cls_head import most_probable
from framework.registry import BACKBONES, HEADS, LOSSES, MODELS, NECKS, Registry

Part = Mapping[str, Any] | nn.Module
MODES = ("tensor", "loss", "predict")

#: What heads call the number of channels of their features.
CHANNEL_WORDS = ("in_channels", "dim")


@MODELS.register_module(name=["Classifier", "ImageClassifier"])
class Classifier(BaseModel):
    """A backbone, a neck and a head that give one label to an image.

    Args:
        backbone: Config of the backbone, or the backbone.
        neck: Config of the neck, or several of them in a list, or the neck. Default: features go to the head
            directly.
        head: Config of the head, or the head. Its `in_channels` or `dim` may be left out: then it is taken
            from the neck (`out_channels`) or the backbone (`feature_dim`). Default: the model gives features.
        loss: Config of the loss, or the loss. Default: the head's, or else CrossEntropyLoss.
        topk: The k of the accuracies that are logged in training; the head's `topk`, if given, goes first.
        freeze_bn: Whether batch normalisation keeps its statistics in training.
        train_cfg: `augments` and `probs` for mixing the batches in training, as `ClsDataPreprocessor` takes
            them in `batch_augments`.
        data_preprocessor: Config of the data preprocessor, of which `type` may be left out, or the
            preprocessor. Default: `ClsDataPreprocessor` without normalisation.
        init_cfg: mmengine's initialisers, applied when `init_weights` is called.

    Raises:
        ConfigError: Loss or mixing are given in two places, or a part cannot be built.
    """

    def __init__(
        self,
        backbone: Part,
        neck: Part | Sequence[Part] | None = None,
        head: Part | None = None,
        loss: Part | None = None,
        topk: int | Sequence[int] = (1,),
        freeze_bn: bool = False,
        train_cfg: Mapping[str, Any] | None = None,
        data_preprocessor: Part | None = None,
        init_cfg: dict[str, Any] | list[dict[str, Any]] | None = None,
    ) -> None:
        built_backbone = _built(BACKBONES, backbone)
        built_neck = _built(NECKS, neck)
        built_head = _built(HEADS, head, _channels(built_backbone, built_neck))
        num_classes = getattr(built_head, "num_classes", None)
        super().__init__(_preprocessor(data_preprocessor, train_cfg, num_classes), init_cfg)
        self.backbone = built_backbone
        self.neck = built_neck
        self.head = built_head
        self.loss_module = _pick_loss(loss, built_head)
        own_topk = getattr(built_head, "topk", None) or topk
        self.topk = (own_topk,) if isinstance(own_topk, int) else tuple(own_topk)
        self.freeze_bn = freeze_bn
        self.train(self.training)

    def train(self, mode: bool = True) -> Classifier:
        """Set training mode; with `freeze_bn`, batch normalisation stays in evaluation mode."""
        super().train(mode)
        if self.freeze_bn:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def forward(self, inputs: Tensor, labels: Tensor | None = None, mode: str = "tensor") -> Any:
        """Compute logits, losses or predictions.

        Args:
            inputs: Images (batch, channels, height, width), normalised.
            labels: Class indices (batch,) or probabilities (batch, classes).
            mode: `tensor`, `loss` or `predict`.

        Returns:
            `tensor`: logits (batch, classes), or without a head the features. `loss`: see `loss`. `predict`:
                see
            `predict`.

        Raises:
            ValueError: No such mode, or what it needs is missing.
        """
        if mode == "tensor":
            features = self.extract_feat(inputs)
            return features if self.head is None else self.head(features)
        if mode not in MODES:
            raise ValueError(f"there is no mode {mode!r}: accepted are {', '.join(MODES)}")
        if self.head is None:
            raise ValueError(
                f"mode={mode!r} needs a head, and this model has none: build it with head=dict(type=...)"
            )
        return self.loss(inputs, labels) if mode == "loss" else self.predict(inputs, labels)

    def extract_feat(self, inputs: Tensor, stage: str = "neck") -> Any:
        """Return features of images (batch, channels, height, width).

        Args:
            inputs: The images.
            stage: `backbone` or `neck`: after which part.

        Raises:
            ValueError: No such stage.
        """
        if stage not in ("backbone", "neck"):
            raise ValueError(f"there is no stage {stage!r}: accepted are backbone, neck")
        features = self.backbone(inputs)
        return features if self.neck is None or stage == "backbone" else self.neck(features)

    def loss(self, inputs: Tensor, labels: Tensor | None) -> dict[str, Tensor]:
        """Return the `loss`, and with class indices as labels `accuracy_top-k` from 0 to 1.

        Args:
            inputs: Images (batch, channels, height, width).
            labels: Class indices (batch,) or probabilities (batch, classes).

        Raises:
            ValueError: There are no labels, or they do not fit the head.
        """
        if labels is None:
            raise ValueError("mode='loss' needs labels: a batch is dict(inputs=..., labels=...)")
        logits = self.head(self.extract_feat(inputs))
        losses = {"loss": self.criterion(logits, labels, avg_factor=len(logits))}
        if labels.ndim == 1 and getattr(self.head, "cal_acc", True):
            accuracies = topk_accuracy(logits, labels, self.topk)
            losses.update({f"accuracy_top-{k}": a for k, a in zip(self.topk, accuracies, strict=True)})
        return losses

    @property
    def criterion(self) -> nn.Module:
        """The loss: the head's, or the classifier's own. Called with logits, labels and `avg_factor`."""
        return self.head.loss_module if self.loss_module is None else self.loss_module

    def predict(self, inputs: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """Classify images.

        Args:
            inputs: Images (batch, channels, height, width).
            labels: Class indices (batch,), which are passed on.

        Returns:
            `scores`, probabilities (batch, classes); `pred_labels`, class indices (batch,), or with several
            labels per image 0 or 1 for each class (batch, classes); and `labels` if given.
        """
        logits = self.head(self.extract_feat(inputs))
        predictions = getattr(self.head, "decide", most_probable)(logits)
        return predictions if labels is None else {**predictions, "labels": labels}

    def val_step(self, data: Any) -> list[dict[str, Tensor]]:
        """Classify a batch of the data loader.

        Returns:
            A list, which mmengine's loops expect, of one entry: what `predict` returns for the batch.
        """
        return [super().val_step(data)]

    def test_step(self, data: Any) -> list[dict[str, Tensor]]:
        """Classify a batch of the data loader, as `val_step` does."""
        return [super().test_step(data)]

    def get_layer_depth(self, param_name: str) -> tuple[int, int]:
        """Return where a parameter stands between input and head, and the number of layers.

        See the method of the backbones.
        """
        return self.backbone.get_layer_depth(param_name, prefix="backbone.")


def _built(registry: Registry, part: Any, channels: int | None = None) -> Any:
    """Build a part; `channels` is the number that its features have, if known."""
    if part is None or isinstance(part, nn.Module):
        return part
    kind = part.get("type") if isinstance(part, Mapping) else None
    target = registry.get(kind) if isinstance(kind, str) else kind
    if channels is None or not callable(target):
        return registry.build(part)
    needed = [p.name for p in inspect.signature(target).parameters.values() if p.default is p.empty]
    return registry.build(part, default_args={name: channels for name in CHANNEL_WORDS if name in needed})


def _channels(backbone: nn.Module, neck: nn.Module | None) -> int | None:
    """Return the number of channels of the last feature, where backbone or neck say it."""
    necks = list(neck) if isinstance(neck, nn.Sequential) else [neck]
    for part in (*reversed(necks), backbone):
        for word in ("feature_dim", "out_channels"):
            channels = getattr(part, word, None)
            channels = channels[-1] if isinstance(channels, tuple | list) and channels else channels
            if isinstance(channels, int):
                return channels
    return None


def _pick_loss(loss: Any, head: Any) -> nn.Module | None:
    """Build the classifier's loss, or return None where the head has one."""
    own = getattr(head, "loss_module", None)
    if loss is not None and own is not None:
        raise ConfigError("the loss stands both in the head and beside it: leave one of them out")
    return None if own is not None else _built(LOSSES, loss or {"type": "CrossEntropyLoss"})


def _preprocessor(cfg: Any, train_cfg: Mapping[str, Any] | None, num_classes: int | None) -> nn.Module:
    """Build the data preprocessor, with the mixing of `train_cfg` and the head's number of classes."""
    if train_cfg and isinstance(cfg, nn.Module):
        raise ConfigError(
            "train_cfg needs the data preprocessor as a dict, or the mixing stands in it already"
        )
    if isinstance(cfg, nn.Module):
        return cfg
    cfg = cfg or {}
    if train_cfg and cfg.get("batch_augments"):
        raise ConfigError("train_cfg and data_preprocessor both name augmentations: leave one out")
    defaults: dict[str, Any] = {"type": ClsDataPreprocessor}
    if train_cfg:
        defaults["batch_augments"] = train_cfg
    kind = cfg.get("type", ClsDataPreprocessor)
    if (MODELS.get(kind) if isinstance(kind, str) else kind) is ClsDataPreprocessor:
        defaults["num_classes"] = num_classes
    return MODELS.build(cfg, default_args=defaults)
