"""What self-supervised models have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from mmengine.model import BaseModel
from torch import Tensor, nn

from framework.models.selfsup.data_preprocessor import SelfSupDataPreprocessor
from framework.models.selfsup.momentum import CosineEMA
from framework.registry import BACKBONES, HEADS, MODELS, NECKS, Registry

Part = Mapping[str, Any] | nn.Module
InitCfg = dict[str, Any] | list[dict[str, Any]] | None
MODES = ("tensor", "loss")


class _Reported(Protocol):
    loaded: Sequence[str]


class BaseSelfSupervisor(BaseModel):
    """A backbone, a neck and a head that learn without labels. A method implements `loss`.

    Args:
        backbone: Config of the backbone, or the backbone.
        neck: Config of the neck, or the neck.
        head: Config of the head, or the head.
        target_generator: Config of what makes the targets, or the module.
        data_preprocessor: Config of the data preprocessor, of which `type` may be left out, or the
            preprocessor. Default: `SelfSupDataPreprocessor` without normalisation.
        init_cfg: mmengine's initialisers, applied when `init_weights` is called.

    Raises:
        ConfigError: A part cannot be built.
    """

    def __init__(
        self,
        backbone: Part,
        neck: Part | None = None,
        head: Part | None = None,
        target_generator: Part | None = None,
        data_preprocessor: Part | None = None,
        init_cfg: InitCfg = None,
    ) -> None:
        super().__init__(_preprocessor(data_preprocessor), init_cfg)
        self.backbone = built(BACKBONES, backbone)
        self.neck = built(NECKS, neck)
        self.head = built(HEADS, head)
        self.target_generator = built(MODELS, target_generator)

    def forward(
        self, inputs: Tensor | Sequence[Tensor], data_samples: Any = None, mode: str = "tensor"
    ) -> Any:
        """Compute features or losses.

        Args:
            inputs: Images (batch, channels, height, width), or a list of views of them.
            data_samples: What else a batch has, such as labels.
            mode: `tensor` or `loss`.

        Returns:
            `tensor`: what `extract_feat` returns. `loss`: what `loss` returns.

        Raises:
            ValueError: No such mode.
        """
        if mode not in MODES:
            raise ValueError(f"there is no mode {mode!r}: accepted are {', '.join(MODES)}")
        return self.loss(inputs, data_samples) if mode == "loss" else self.extract_feat(inputs)

    def extract_feat(self, inputs: Tensor | Sequence[Tensor]) -> Any:
        """Return the backbone's features of images, or of the first view."""
        return self.backbone(inputs if isinstance(inputs, Tensor) else inputs[0])

    def loss(self, inputs: Any, data_samples: Any = None) -> dict[str, Tensor]:
        """Return the losses, with `loss` in their names, and other numbers for the log."""
        raise NotImplementedError

    def embed(self, images: Tensor) -> Tensor:
        """Return what the neck makes of images (batch, channels, height, width): (batch, channels)."""
        return last(self.neck(self.backbone(images)))

    def update_teacher(self, name: str, student: nn.Module) -> None:
        """Let a teacher follow its student, in training only.

        Args:
            name: Attribute of the teacher, a `CosineEMA`.
            student: The student. What the last load from a file put into the teacher is not overwritten by
                the teacher's first copy of the student.
        """
        teacher: CosineEMA = self.get_submodule(name)
        if self.training:
            report: _Reported | None = vars(self).get("pretrain_report")
            prefix = f"{name}.module."
            names = () if report is None else report.loaded
            teacher.update(
                student, frozenset(key.removeprefix(prefix) for key in names if key.startswith(prefix))
            )


def built(registry: Registry, part: Part | None) -> Any:
    """Build a part of a model; a module stays itself, None is None."""
    return part if part is None or isinstance(part, nn.Module) else registry.build(part)


def last(features: Tensor | Sequence[Tensor]) -> Tensor:
    """Return a feature, or the last one of several."""
    return features if isinstance(features, Tensor) else features[-1]


def check_views(inputs: Any, count: int, owner: str) -> list[Tensor]:
    """Return the views of a batch.

    Raises:
        ValueError: There are not `count` of them.
    """
    if isinstance(inputs, Tensor) or len(inputs) != count:
        got = "a tensor of images" if isinstance(inputs, Tensor) else f"{len(inputs)}"
        raise ValueError(
            f"{owner} learns from {count} views of each image, got {got}: "
            f"end the pipeline with dict(type='MultiView', transforms=[[...]], num_views={count})"
        )
    return list(inputs)


def _preprocessor(cfg: Part | None) -> nn.Module:
    if isinstance(cfg, nn.Module):
        return cfg
    return MODELS.build(cfg or {}, default_args={"type": SelfSupDataPreprocessor})
