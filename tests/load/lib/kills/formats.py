"""Compares the submits that the simulator refused with what the gateway must have learned of request formats.

A *format* is a refused submit as the simulator saw it: its path, the form of the key, and the names of its fields; or the
form of the key alone, where that was refused (401, 403). All operations ask for the same, so the gateway prefers the same
format for each. A format that was refused is *known to be refused*

- at the end of a process of the gateway by which an operation was accepted: it was accepted in another format, so the refusal
  was known, and what is known is stored before a submit is committed;
- a form of the key: at the end of a process by which an operation was accepted and answered with its picture. The acceptance
  proves another form, and is stored before the end of the purchase is reported.

From then on no process may be refused a submit in that format. Refusals by processes that were killed earlier say nothing,
because what they had learned may be lost. Submits that were cut off by a kill are not compared.

Must be 0:

accepted twice       acceptances of an operation beyond the pictures that it asks for, unless it was bought again by a
                     repeat after an unknown outcome.
refused too often    refusals of an operation beyond three for each prediction that the journal has for it: a client that
                     repeats its request after a kill begins another one.
known refusals       submits that were refused in a format that was known to be refused.
"""

import time
from collections import Counter

from lib.project import give_up

REFUSALS_MAX = 3
KEY_REFUSED = (401, 403)
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
        self.processes, self.learnings = 1, 0
        # Refusals that are judged, that may become known, and that were refused although they were known.
        self.first = self.since = self.checked = len(rig.refusals())
        self.complaints = []
        self.begin()

    def begin(self):
        """Notes where a process of the gateway begins."""
        self.accepted = len(self.rig.accepted_prompts())

    def process_ended(self, operations):
        self.check()
        self.note(operations)
        self.begin()
        self.processes += 1

    def forget(self):
        """Makes the gateway forget, as an update of its version does: between two processes."""
        (self.rig.directory / "learned" / "contact.json").unlink(missing_ok=True)
        self.known.clear()
        # Submits of the killed process may still be answered.
        time.sleep(0.1)
        self.since = len(self.rig.refusals())
        self.begin()

    def check(self):
        refusals = self.rig.refusals()
        for number, refusal in enumerate(refusals[self.checked:], self.checked):
            if number >= self.known.get(format_of(refusal), len(refusals)):
                self.complaints.append(f"submit {number} of {refusal}")
        self.checked = len(refusals)

    def note(self, operations):
        """Notes what became known since the process began. No submit may be under way but those of a killed process."""
        if self.learned(operations):
            # An answer that was sent may not have been read, and a submit that was sent may not have been refused.
            time.sleep(0.1)
            for learned in self.learned(operations):
                self.known[learned] = len(self.rig.refusals())
                self.learnings += 1

    def learned(self, operations):
        refusals = [refusal for refusal in self.rig.refusals()[self.since:] if format_of(refusal) not in self.known]
        keys = {format_of(refusal) for refusal in refusals if refusal["status"] in KEY_REFUSED}
        formats = {format_of(refusal) for refusal in refusals} - keys
        accepted = set(self.rig.accepted_prompts()[self.accepted:]) if refusals else set()
        if not accepted:
            return set()
        is_answered = any(answer.status == 200 for operation in operations if operation.prompt in accepted for answer in operation.answers)
        return formats | keys if is_answered else formats

    def judge(self, operations, accepted, pictures, verdict):
        """Judges after `verdict.judge`."""
        refusals = self.rig.refusals()
        refused = Counter(refusal["prompt"] for refusal in refusals[self.first:])
        bought = Counter(purchase["prompt"] for purchase in accepted)
        again = verdict.counts["bought again after an unknown"]
        for operation in operations:
            prompt = operation.prompt
            if bought[prompt] > pictures:
                verdict.complain("accepted twice", f"{prompt!r}: {bought[prompt]}", bought[prompt] - pictures)
            most = REFUSALS_MAX * verdict.journalled[prompt]
            if refused[prompt] > most:
                verdict.complain("refused too often", f"{prompt!r}: {refused[prompt]} of at most {most}", refused[prompt] - most)
        if again:
            verdict.counts["accepted twice"] = max(verdict.counts["accepted twice"] - again, 0)
        self.check()
        for complaint in self.complaints:
            verdict.complain("known refusals", complaint)
        verdict.counts["refused submits"] += sum(refused.values())
        verdict.counts["known formats"] += self.learnings
        verdict.counts["most refusals"] = max([verdict.counts["most refusals"], *refused.values()])


def format_of(refusal):
    if refusal["status"] in KEY_REFUSED:
        return refusal["key_form"]
    return refusal["path"], refusal["key_form"], tuple(sorted(refusal["fields"]))


def print_formats(counts, processes):
    print(f"submits refused {counts['refused submits']}, of one operation at most {counts['most refusals']}; formats learned "
          f"{counts['known formats']} times; operations that ended because each format was refused "
          f"{counts['refused in each format']}; processes {processes}")


def require_knowledge(profile, counts):
    """Gives up when the profile refuses formats and the gateway was not seen to learn one."""
    if profile in REFUSING and not counts["known formats"]:
        give_up("no format became known to be refused: nothing was tested")
