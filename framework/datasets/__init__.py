"""Datasets and samplers. An item of every dataset is `dict(inputs, labels)`."""

from mmengine.dataset import DefaultSampler, InfiniteSampler

from framework.datasets.base import ClassificationDataset, DatasetError
from framework.datasets.digits import Digits
from framework.datasets.image_folder import ImageFolder
from framework.datasets.torchvision import CIFAR10, CIFAR100, FashionMNIST

__all__ = [
    "CIFAR10",
    "CIFAR100",
    "ClassificationDataset",
    "DatasetError",
    "DefaultSampler",
    "Digits",
    "FashionMNIST",
    "ImageFolder",
    "InfiniteSampler",
]
