"""The error tree. Whatever a user can mend is a `UserError`: one sentence that names the thing, the fault and the way out."""

from __future__ import annotations


class UserError(Exception):
    """A mistake in input, configuration or environment that the user can mend.

    The command line prints the message alone, without a traceback, and exits with code 2.
    """


class ConfigError(UserError):
    """An unknown preset, key or value in the configuration."""


class StorageError(UserError):
    """A place that cannot be read or written: no such folder, no permission, no space."""


class ClusterError(UserError):
    """A Ray cluster that is not there, refuses the token or lacks the resources asked for."""


class SignalError(UserError):
    """Signals that a detector cannot look at: of another shape or unit, or not finite."""


class EdfError(UserError):
    """A recording that is refused; the message names field, value and rule.

    `reason` is the stable, machine-readable name that goes into the quarantine list, for example ``"header.n_signals"``.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[type[EdfError], tuple[str, str]]:
        return (type(self), (self.reason, str(self)))


class MontageError(EdfError):
    """A readable recording without the electrodes of the 10-20 system that a page needs."""
