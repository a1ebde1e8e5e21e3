"""Where curves go: mmengine's visualiser, without the figure that only drawing needs."""

from __future__ import annotations

from typing import Any

from mmengine.visualization import Visualizer as _Visualizer

from framework.registry import VISUALIZERS

#: What mmengine's class makes at once, and matplotlib with it.
FIGURE = ("fig_save_canvas", "fig_save", "ax_save", "dpi")


class _NoFigure:
    def get_dpi(self) -> None:
        return None


@VISUALIZERS.register_module()
class Visualizer(_Visualizer):
    """mmengine's, which opens a figure when something is drawn: most runs only write numbers.

    Args:
        name: Name of the visualiser.
        **kwargs: As for mmengine's class.
    """

    def __init__(self, name: str = "visualizer", **kwargs: Any) -> None:
        super().__init__(name, **kwargs)
        for name in FIGURE:
            delattr(self, name)

    @classmethod
    def get_instance(cls, name: str, **kwargs: Any) -> Visualizer:
        """Make the visualiser of a run, which `mmengine.visualization.Visualizer` then knows by its name."""
        instance = cls(name=name, **kwargs)
        _Visualizer._instance_dict[name] = instance
        return instance

    def _initialize_fig(self, fig_cfg: Any) -> tuple[Any, Any, Any]:
        return None, _NoFigure(), None

    def __getattr__(self, name: str) -> Any:
        """Open the figure at the first use of a part of it."""
        if name not in FIGURE:
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        canvas, figure, axes = super()._initialize_fig(self.fig_save_cfg)
        self.fig_save_canvas, self.fig_save, self.ax_save = canvas, figure, axes
        self.dpi = figure.get_dpi()
        return getattr(self, name)
