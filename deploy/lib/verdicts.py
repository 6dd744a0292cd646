"""A table of what was checked: thing, tool that judged it, verdict. A check raises Wrong; its negative controls must make it do so."""

import copy
import sys


class Wrong(Exception):
    """What a check found."""


class Verdicts:
    def __init__(self):
        self.failed = 0
        self.rows = 0
        print(f"{'thing':62} {'tool':34} verdict", flush=True)

    def row(self, thing, tool, verdict, good=True):
        self.rows += 1
        self.failed += not good
        print(f"{thing:62} {tool:34} {verdict}", flush=True)

    def check(self, thing, tool, check, subject, controls=()):
        """Runs a check, and again for each (name, change): a copy of the subject with the change must be refused."""
        try:
            found = check(subject)
        except Wrong as wrong:
            self.row(thing, tool, f"WRONG: {wrong}", good=False)
            return
        self.row(thing, tool, found or "good")
        for name, change in controls:
            changed = copy.deepcopy(subject)
            change(changed)
            try:
                check(changed)
            except Wrong as wrong:
                self.row(f"  control: {name}", tool, f"refused: {first_line(wrong)}")
            else:
                self.row(f"  control: {name}", tool, "NOT NOTICED", good=False)

    def close(self):
        """Prints the counts and ends the program."""
        print(f"\n{self.rows - self.failed} passed, {self.failed} failed")
        sys.exit(1 if self.failed else 0)


def first_line(text, width=70):
    line = str(text).strip().splitlines()[0] if str(text).strip() else ""
    return line if len(line) <= width else line[: width - 1] + "…"
