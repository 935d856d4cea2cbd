"""Errors that a user can fix: the front door prints each as one line, without a stack."""

import re

# Where an error wraps the one of a worker: Ray's tasks; Ray Train's group, its controller, its users' exceptions, and
# the death of a worker.
_WRAPPED = ("cause", "controller_failure", "_base_exc", "health_check_failure")
_PYTHON_ERROR = re.compile(r"(?:\[rank\d+\]:\s+)?(?:(?:\w+\.)*(\w*(?:Error|Exception): .*)|(?:\w+\.)+([A-Z]\w*: .*))")
_TRACEBACK, _COMMAND = "Traceback (most recent call last)", "RuntimeError: Command "
_MAX_CHARS = 300


class UserError(Exception):
    """The job can't go on until the user fixes something; the message says what and how. Exit code 1."""

    exit_code = 1  # 2 is for usage, as click, argparse and the shell have it


class UsageError(UserError):
    """The command line is wrong: unknown name, malformed date. Exit code 2."""

    exit_code = 2


def root_cause(error: BaseException) -> BaseException:
    """The error that a worker raised, within those that Ray and Ray Train put around it; else `error` itself."""
    inner = [getattr(error, name, None) for name in _WRAPPED] + list(getattr(error, "worker_failures", {}).values())
    return next((root_cause(one) for one in inner if isinstance(one, BaseException) and one is not error), error)


def error_line(error: BaseException) -> str:
    """An error in one line: a UserError's text, `Type: text` of any other, as the worker that raised it had it."""
    cause = root_cause(error)
    lines = [line.strip(" :") for line in str(cause).splitlines() if line.strip(" :")]
    if isinstance(cause, UserError):
        return " ".join(lines)
    # py4j's first line only names the Java method; the exception's own line follows it, after a colon.
    if len(lines) > 1 and lines[0].startswith("An error occurred while calling"):
        del lines[0]
    if inner := _python_error_in(lines):
        return inner[:_MAX_CHARS]
    if len(lines) > 1 and lines[0].startswith("Training failed due to"):  # Ray Train's, of a worker whose error is text
        return lines[-1][:_MAX_CHARS]
    return ": ".join([type(cause).__name__, *lines[:1]])[:_MAX_CHARS]


def _python_error_in(lines: list[str]) -> str | None:
    """The first error of a Python stack among `lines`: Spark has it as text only, between those of Java."""
    traces = [number for number, line in enumerate(lines) if line.endswith(_TRACEBACK)]
    matches = (_PYTHON_ERROR.fullmatch(line) for line in (lines[traces[0] :] if traces else ()))
    # The command is that of TorchDistributor's process, whose own error follows.
    errors = (match[1] or match[2] for match in matches if match)
    return next((text for text in errors if not text.startswith(_COMMAND) and not text.endswith(_TRACEBACK)), None)
