"""One-call doors to the package."""

from framework.apis.model import get_model, list_models

__all__ = ["get_model", "list_models"]
