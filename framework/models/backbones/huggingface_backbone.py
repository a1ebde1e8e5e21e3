"""Networks of Hugging Face transformers as backbones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from framework.errors import ConfigError, did_you_mean
from framework.models.backbones.base import check_out_indices
from framework.models.backbones.foreign import ForeignBackbone
from framework.models.backbones.probe import channels_of, run_without_values
from framework.registry import BACKBONES

SIZE = 224


@BACKBONES.register_module()
class HuggingFaceBackbone(ForeignBackbone):
    """A network of transformers without its head. Needs the package transformers.

    Its parameters are named as those of transformers' model, behind `model.`.

    Args:
        config: Repository of the hub or folder whose `config.json` describes the network, or its entries as
            a dict of `model_type` and whatever differs from the defaults of that type. Weights are not
            loaded from there: `pretrain` says from where.
        in_channels: Channels of the images. Default: as `config` has it.
        out_indices: The stages or layers, from 0, that give features (`hidden_states` without the first);
            negative ones count from the end. Default: the network's last hidden state, once.
        frozen_stages: What does not learn: -1 nothing, 0 all that comes before the blocks, n the first n
            stages, too. A stage is a run of blocks that give one shape, in a network of one shape each block.
        norm_eval: Whether batch normalisation keeps its statistics in training.
        init_cfg: mmengine's initialisers, applied when `init_weights` is called.

    Raises:
        ConfigError: transformers is not installed, or has no such network.
    """

    def __init__(
        self,
        config: str | Mapping[str, Any],
        in_channels: int | None = None,
        out_indices: Sequence[int] | int | None = None,
        norm_eval: bool = False,
        init_cfg: dict[str, Any] | list[dict[str, Any]] | None = None,
        frozen_stages: int = -1,
    ) -> None:
        super().__init__(init_cfg)
        self.norm_eval = norm_eval
        self.model = _network(config, in_channels)
        output = run_without_values(self.runnable(), *self.input_shape())
        self.out_indices: tuple[int, ...] | None = None
        if out_indices is not None:
            self.out_indices = check_out_indices(out_indices, len(output.hidden_states) - 1)
        self.out_channels = tuple(channels_of(feature) for feature in self._features(output))
        self.feature_dim = self.out_channels[-1]
        self.freeze_stages(frozen_stages)

    def _features(self, output: Any) -> tuple[Tensor, ...]:
        if self.out_indices is None:
            return (output.last_hidden_state,)
        states = getattr(output, "reshaped_hidden_states", None) or output.hidden_states
        return tuple(states[i + 1] for i in self.out_indices)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the features of images (batch, in_channels, height, width).

        Returns:
            Maps (batch, channels, rows, columns) of convolutional networks and of Swin's stages, tokens
            (batch, tokens, channels) of the other transformers.
        """
        return self._features(_Hidden(self.model)(x))

    def input_shape(self) -> tuple[int, ...]:
        """Return the shape of an input that the network takes."""
        settings: Any = self.model.config
        size = getattr(settings, "image_size", SIZE)
        height, width = size if isinstance(size, list | tuple) else (size, size)
        return (1, settings.num_channels, height, width)

    def runnable(self) -> nn.Module:
        """Return what calls the network with images."""
        return _Hidden(self.model)


class _Hidden(nn.Module):
    """Asks a network for its hidden states."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Any:
        return self.model(pixel_values=x, output_hidden_states=True, return_dict=True)


def _network(config: str | Mapping[str, Any], in_channels: int | None) -> nn.Module:
    try:
        from transformers import CONFIG_MAPPING, AutoConfig, AutoModel
    except ImportError as error:
        raise ConfigError(
            "HuggingFaceBackbone needs the package transformers: pip install transformers"
        ) from error
    channels = {} if in_channels is None else {"num_channels": in_channels}
    if isinstance(config, str):
        return AutoModel.from_config(AutoConfig.from_pretrained(config, **channels))
    args = dict(config)
    kind = args.pop("model_type", None)
    if kind not in CONFIG_MAPPING:
        hint = did_you_mean(str(kind), CONFIG_MAPPING) or ": it names one of transformers' types, such as vit"
        raise ConfigError(f"config: transformers has no model_type {kind!r}{hint}")
    return AutoModel.from_config(AutoConfig.for_model(kind, **{**args, **channels}))
