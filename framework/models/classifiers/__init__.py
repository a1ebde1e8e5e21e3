"""Classifiers: images to labels."""

from framework.models.classifiers.classifier import Classifier
from framework.models.classifiers.data_preprocessor import ClsDataPreprocessor

__all__ = ["Classifier", "ClsDataPreprocessor"]
