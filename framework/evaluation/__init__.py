"""Metrics on the predictions of a model, and the evaluator that collects them."""

from mmengine.evaluator import Evaluator

from framework.evaluation.accuracy import Accuracy
from framework.evaluation.knn import knn_accuracy

__all__ = ["Accuracy", "Evaluator", "knn_accuracy"]
