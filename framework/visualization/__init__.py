"""Pictures of what models see: reconstructions, attention maps, scatters of features."""

from framework.visualization.attention import Attention, attention_of
from framework.visualization.reconstruction import Reconstruction, reconstruct

__all__ = ["Attention", "Reconstruction", "attention_of", "reconstruct"]
