"""The error that a user sees (what went wrong, where, what to do), and the end by Ctrl-C."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Characters that steer a terminal or turn the direction of text; a line break is none of them."""


def printable(text: str) -> str:
    """Text for a terminal: control characters as escapes (`\\x1b`), line breaks as they are."""
    return CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


def one_line(text: str, most: int) -> str:
    """`printable` text with line breaks escaped too, and at most so many characters."""
    line = printable(text).replace("\n", "\\n")
    return line if len(line) <= most else line[: most - 3] + "..."


class Stopped(BaseException):
    """Ctrl-C or SIGTERM, and what to say; not a KeyboardInterrupt, to which typer gives an exit
    code of its own."""

    def __init__(
        self,
        says: str = "stopped; what was committed is kept, and the same command goes on from there",
    ):
        super().__init__(says)


class EmtError(Exception):
    """A problem that the user can act on. The command line prints it without a traceback and exits
    with code 2.

    what: one sentence; where: the file, row, field or stage; remedy: the next thing to do.
    """

    def __init__(self, what: str, *, where: object = "", remedy: str = "") -> None:
        self.what = what.rstrip(".")
        self.where = str(where)
        self.remedy = remedy
        super().__init__(self.message())

    def message(self) -> str:
        lines = [self.what + "."]
        if self.where:
            lines.append(f"  where:  {self.where}")
        if self.remedy:
            lines.append(f"  remedy: {self.remedy}")
        return printable("\n".join(lines))


class EmtErrors(EmtError):
    """Several problems that can be known at once, told at once; equal ones once."""

    def __init__(self, problems: Iterable[EmtError]) -> None:
        unlike = {problem.message(): problem for problem in problems}
        self.problems: tuple[EmtError, ...] = tuple(unlike.values())
        super().__init__(f"{len(self.problems)} problems")

    def message(self) -> str:
        told = (problem.message().replace("\n", "\n   ") for problem in self.problems)
        return "\n".join([self.what + ":", *(f"{n}. {text}" for n, text in enumerate(told, 1))])


def raise_together(problems: Iterable[EmtError]) -> None:
    """Raise the one problem, or all of them as one; nothing where there is none."""
    found = [
        part
        for problem in problems
        for part in (problem.problems if isinstance(problem, EmtErrors) else (problem,))
    ]
    together = EmtErrors(found)
    if together.problems:
        first, *more = together.problems
        raise together if more else first


def all_of(calls: Iterable[Callable[[], T]]) -> list[T]:
    """The result of each call. Raises the EmtErrors of all that fail, as one."""
    found = []
    problems = []
    for call in calls:
        try:
            found.append(call())
        except EmtError as error:
            problems.append(error)
    raise_together(problems)
    return found
