"""Transforms of images: all of torchvision's, and a few that it lacks."""

from framework.transforms.multi_view import MultiView
from framework.transforms.random_erasing import RandomErasingPixels
from framework.transforms.torchvision import TORCHVISION

__all__ = ["TORCHVISION", "MultiView", "RandomErasingPixels"]
