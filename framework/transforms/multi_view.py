"""Several views of one image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from framework.errors import ConfigError
from framework.registry import TRANSFORMS


@TRANSFORMS.register_module()
class MultiView:
    """Makes several views of an image, each drawn anew. A pipeline ends with it.

    Args:
        transforms: One pipeline for each kind of views: lists of transforms (dicts or callables).
        num_views: How many views each pipeline gives; one number where there is one pipeline.

    Raises:
        ConfigError: There is not one number for each pipeline.
    """

    def __init__(self, transforms: Sequence[Sequence[Any]], num_views: int | Sequence[int]) -> None:
        counts = [num_views] if isinstance(num_views, int) else list(num_views)
        if len(counts) != len(transforms) or any(isinstance(one, Mapping) for one in transforms):
            raise ConfigError(
                f"MultiView: transforms is a list of pipelines, each a list, and num_views has one number "
                f"for each; got {len(transforms)} in transforms and num_views={num_views!r}"
            )
        self.pipelines = [
            [TRANSFORMS.build(step) if isinstance(step, Mapping) else step for step in pipeline]
            for pipeline, count in zip(transforms, counts, strict=True)
            for _ in range(count)
        ]

    def __call__(self, image: Any) -> list[Any]:
        """Return the views, those of the first pipeline first."""
        views = []
        for pipeline in self.pipelines:
            view = image
            for step in pipeline:
                view = step(view)
            views.append(view)
        return views
