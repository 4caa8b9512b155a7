"""The errors that mlgen raises, and the exit code that each one gives to the command line."""

MAX_MESSAGE = 2000
"""Characters."""


class MlgenError(Exception):
    """Anything that mlgen reports in one clear line; the command line exits with `exit_code`."""

    exit_code = 1

    def __str__(self) -> str:
        """The message in one line; of a very long one, the beginning and the end.

        What a damaged file makes part of a message may be anything: no character of it moves the
        cursor, or is one that no terminal can be sent.
        """
        message = super().__str__()
        if not message.isprintable():
            message = "".join(c if c.isprintable() else repr(c)[1:-1] for c in message)
        if len(message) <= MAX_MESSAGE:
            return message
        return f"{message[: MAX_MESSAGE // 2]} ... {message[-MAX_MESSAGE // 4 :]}"


class CardError(MlgenError):
    """A card, or a value that overrides one, is wrong: `section.key = got: expected (unit)`."""

    exit_code = 2


class ProcessError(MlgenError):
    """The process string cannot be read, or names no subprocess that exists at tree level."""

    exit_code = 2


class ModelError(MlgenError):
    """A model of particles and couplings cannot be read, or lacks what a process needs."""

    exit_code = 2


class UnsupportedProcess(MlgenError):
    """A matrix-element provider does not serve a process; another one may."""

    exit_code = 2


class MissingExtra(MlgenError):
    """An optional library or data file is not installed; the message names the way round."""

    exit_code = 3


class MatrixElementError(MlgenError):
    """A matrix element could not be made or evaluated."""

    exit_code = 4


class NonFiniteWeight(MlgenError):
    """A weight is NaN or infinite; the message holds the momenta that made it."""

    exit_code = 5


class GenerationError(MlgenError):
    """Fewer events than asked for could be made."""

    exit_code = 6


class TrainingFailed(GenerationError):
    """What was learned is of no use: the loss diverged, or the sampler lost the integrand."""


class EventFileError(MlgenError):
    """An event file is damaged, truncated or breaks the Les Houches accord."""

    exit_code = 7


class PackError(MlgenError):
    """A sampler pack is damaged, foreign, or newer than this version of mlgen."""

    exit_code = 8
