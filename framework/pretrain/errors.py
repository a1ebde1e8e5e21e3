"""What can go wrong on the way of weights into a model, as one family of errors."""

from __future__ import annotations


class PretrainError(ValueError):
    """Base of every error that a `pretrain` field can raise; the module is left as it was."""


class SpecError(PretrainError):
    """The `pretrain` field itself is wrong: its type, a key of it, or a value."""


class SourceError(PretrainError):
    """The file cannot be had from where the path points to."""


class NotFoundError(SourceError):
    """There is nothing at that address."""


class NotAllowedError(SourceError):
    """The address exists, but access to it is refused."""


class OfflineError(SourceError):
    """The address needs a network, and there is none or its use is forbidden."""


class HashError(SourceError):
    """The file is not the one that its name or `sha256` promises."""


class DownloadError(SourceError):
    """The transfer broke off or gave something other than announced."""


class CheckpointError(PretrainError):
    """The file cannot be read as a checkpoint."""


class UnsafeCheckpointError(CheckpointError):
    """Reading the file in full would run code that it names."""


class DamagedCheckpointError(CheckpointError):
    """The file is truncated, or its own description of its contents is false."""


class MismatchError(PretrainError):
    """File and module do not go together: an unknown part, colliding names, or a strict check that failed."""


class CoverageError(MismatchError):
    """Too little of the module would come from the file."""
