"""Transforms of images: all of torchvision's, and a few that it lacks."""

from framework.transforms.random_erasing import RandomErasingPixels
from framework.transforms.torchvision import TORCHVISION

__all__ = ["TORCHVISION", "RandomErasingPixels"]
