"""Compares the submits that the simulator refused with the request formats that the gateway has learned.

A *format* is a refused submit as the simulator saw it: path, form of the key, and names of the fields. It is *known to be
refused* once an operation that was refused in it has been answered with its picture by the same process of the gateway:
that answer waits until the knowledge is stored. From the end of that process on, no submit may be refused in that format,
in any later process. A process that was killed earlier may have lost what it learned, so its refusals say nothing.

Must be 0:

accepted twice       acceptances of an operation beyond the pictures that it asks for.
refused too often    refusals of an operation beyond three for each picture.
known refusals       submits that were refused in a format that was known to be refused.
"""

import time
from collections import Counter

from lib.project import give_up

REFUSALS_MAX = 3
# The profiles in which the documented format of an edit is refused: a run that learns nothing has tested nothing.
REFUSING = ("no-inline", "raw-key", "strict-plus")
# The answer to a request that was refused in each format that could be tried.
REFUSED = "upstream_refused_request"


class FormatLog:
    """What is known to be refused, by one storage directory of the gateway."""

    def __init__(self, rig):
        self.rig = rig
        # Of each format that is known to be refused: the number of refusals before that.
        self.known = {}
        self.processes = 1
        self.first = self.begun = len(rig.refusals())

    def note(self, operations):
        """Notes what became known since the last process began. No submit may be under way."""
        if self.learned(operations):
            # An answer that was sent may not have been read, and a submit that was sent may not have been refused.
            time.sleep(0.1)
            for learned in self.learned(operations):
                self.known[learned] = len(self.rig.refusals())

    def process_ended(self, operations):
        self.note(operations)
        self.begun = len(self.rig.refusals())
        self.processes += 1

    def learned(self, operations):
        recent = [refusal for refusal in self.rig.refusals()[self.begun:] if format_of(refusal) not in self.known]
        if not recent:
            return set()
        answered = {operation.prompt for operation in operations if any(answer.status == 200 for answer in operation.answers)}
        return {format_of(refusal) for refusal in recent if refusal["prompt"] in answered}

    def judge(self, operations, accepted, pictures, verdict):
        refusals = self.rig.refusals()
        refused = Counter(refusal["prompt"] for refusal in refusals[self.first:])
        bought = Counter(purchase["prompt"] for purchase in accepted)
        for operation in operations:
            accepted_again = bought[operation.prompt] - pictures
            if accepted_again > 0:
                verdict.complain("accepted twice", f"{operation.prompt!r}: {bought[operation.prompt]}", accepted_again)
            refused_again = refused[operation.prompt] - REFUSALS_MAX * pictures
            if refused_again > 0:
                verdict.complain("refused too often", f"{operation.prompt!r}: {refused[operation.prompt]}", refused_again)
        for number, refusal in enumerate(refusals):
            if number >= self.known.get(format_of(refusal), len(refusals)):
                verdict.complain("known refusals", f"submit {number} of {refusal}")
        verdict.counts["refused submits"] += sum(refused.values())
        verdict.counts["known formats"] += len(self.known)
        verdict.counts["most refusals"] = max([verdict.counts["most refusals"], *refused.values()])


def format_of(refusal):
    return refusal["path"], refusal["key_form"], tuple(sorted(refusal["fields"]))


def print_formats(counts, processes):
    print(f"submits refused {counts['refused submits']}, of one operation at most {counts['most refusals']}; formats known to be refused "
          f"{counts['known formats']}; operations refused in each format that was tried, before the first picture "
          f"{counts['refused in each format']}; processes {processes}")


def require_knowledge(profile, counts):
    """Gives up when the profile refuses formats and the gateway was not seen to learn one."""
    if profile in REFUSING and not counts["known formats"]:
        give_up("no format became known to be refused: nothing was tested")
