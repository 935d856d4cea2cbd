"""Errors that a user can fix: the front door prints each as one line, without a stack."""


class UserError(Exception):
    """The job can't go on until the user fixes something; the message says what and how. Exit code 1."""

    exit_code = 1  # 2 is for usage, as click, argparse and the shell have it


class UsageError(UserError):
    """The command line is wrong: unknown name, malformed date. Exit code 2."""

    exit_code = 2
