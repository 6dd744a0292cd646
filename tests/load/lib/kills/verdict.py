"""Compares three logs: the clients' answers, the gateway's journal, and the simulator's acceptances.

An *operation* is one edit that a client wants, with all its retries; its prompt is unique, and so is its fingerprint in the
journal, except for second pictures of the same, which a client asks for under an idempotency key of their own. A *purchase*
is a prediction that the simulator accepted and wrote to its log before it answered. The answers of the OpenAI-format API name
no prediction: what the journal has as bought there is *anonymous*, and its picture says which purchase it is.

Must be 0, whenever the gateway was killed:

double submits       purchases of an operation beyond the predictions that the journal has for it. Each request of a client
                     is journalled, so that such a purchase is the gateway's own.
double buys          purchases of an operation beyond those of its first job that bought anything, unless all of these are
                     journalled as unknown and the gateway does not hold repeats of an unknown purchase, or failed at the
                     upstream.
lost                 purchases whose id is not in the journal, and for which no prediction of their operation is journalled
                     as unknown.
unreported unknowns  purchases whose picture no client got, of which no client was answered "unknown", and which the
                     journal has neither as unknown nor as failed.
hidden unknowns      answers with some pictures missing, of an unknown outcome that they do not report.
wrong pictures       answers with status 200 whose picture is damaged, was made by another prediction than they name, or is
                     not byte for byte what the simulator made.
wrong inputs         purchases for a client with a picture that is not its own.
changed answers      answers to a request that repeated an answered one, that are neither the same pictures nor the same error.
retryable unknowns   answers with submission_outcome_unknown that do not say x-should-retry: false.
repeats that bought  purchases by a request that repeated an answered one.
unanswered           operations without a final answer long after everything was over.
other answers        final answers that are neither a picture, nor submission_outcome_unknown, nor the failure of a prediction
                     that failed at the upstream.
foreign ids          ids in the journal that the simulator never gave for that operation.
unsettled            predictions that are under way in the journal of a gateway that is idle and stopped.
damaged              copies of the journal that fail SQLite's integrity check.
missing results      pictures of which neither the journal nor a file has all bytes.
deleted results      results that were deleted although they had not been kept for long enough; delivered ones only where the
                     folder is full.
wrong accounts       purchases that the journal has with another account than the one that made them.
webhooks missed      ended jobs of a client with a webhook of which it was not notified.
wrong webhooks       events with a wrong signature, of no job, or of another end than the job's.

exit codes           gateways that ended otherwise than in order when they were stopped.

formats.py adds what must not be found of submits that the upstream refused.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from lib.kills.answers import judge_answers
from lib.project import ROOT
from lib.rig import UNKNOWN

MUST_BE_ZERO = ("double submits", "double buys", "lost", "unreported unknowns", "hidden unknowns", "wrong pictures", "wrong inputs",
                "changed answers", "retryable unknowns", "repeats that bought", "unanswered", "other answers", "foreign ids",
                "unsettled", "damaged", "missing results", "deleted results", "wrong accounts", "webhooks missed", "wrong webhooks",
                "exit codes", "accepted twice", "refused too often", "known refusals")

# Complaints of a kind that are printed.
SHOWN_MAX = 5


def holds_unknown():
    """Returns whether this version holds a repeat of an unknown purchase by default."""
    return 'on_unknown = "hold"' in (ROOT / "config" / "default.toml").read_text()


@dataclass
class Verdict:
    counts: Counter = field(default_factory=Counter)
    complaints: list = field(default_factory=list)
    # Predictions in the journal, by the prompt of their operation.
    journalled: Counter = field(default_factory=Counter)

    def complain(self, kind, text, count=1):
        self.counts[kind] += count
        self.complaints.append(f"{kind}: {text}")

    def failed(self):
        return any(self.counts[kind] for kind in MUST_BE_ZERO)

    def add(self, other, name):
        """Adds the verdict of another part of the run."""
        most = max(self.counts["most refusals"], other.counts["most refusals"])
        self.counts.update(other.counts)
        self.counts["most refusals"] = most
        self.complaints.extend(f"{name} {complaint}" for complaint in other.complaints)


@dataclass
class Evidence:
    """What is known of the purchases and results beside the three logs."""
    # SHA-256 of the picture of each purchase, as the simulator delivers it; empty: not compared.
    digests: dict = field(default_factory=dict)
    # The names of the accounts by their keys; empty: not compared.
    accounts: dict = field(default_factory=dict)
    # Delivered results may be deleted.
    evicts: bool = False
    # An operation may end, unbought, because each format that could be tried was refused.
    may_refuse: bool = False


def judge(operations, pictures, journal, accepted, results, holds, evidence=None):
    """Compares the three logs. `pictures`: how many an operation asks for; `results`: the folder of their files; `holds`:
    whether a repeat after an unknown outcome buys nothing."""
    verdict, evidence = Verdict(), evidence or Evidence()
    rows_of = rows_by_prompt(operations, journal, verdict)
    bought_by, asked_by = defaultdict(list), defaultdict(list)
    for purchase in sorted(accepted, key=lambda purchase: purchase["at"]):
        bought_by[purchase["prompt"]].append(purchase)
    for operation in operations:
        asked_by[operation.prompt].append(operation)
    verdict.counts.update({"operations": len(operations), "purchases": len(accepted)})
    for prompt, asked in asked_by.items():
        Judge(verdict, asked, rows_of[prompt], bought_by.pop(prompt, []), pictures, holds, evidence).judge()
    for prompt, purchases in bought_by.items():
        verdict.complain("foreign ids", f"no client asked for {prompt!r}", len(purchases))
    judge_inputs(operations, accepted, verdict)
    if journal.verdict != "ok":
        verdict.complain("damaged", journal.verdict)
    judge_results(journal, results, evidence, verdict)
    return verdict


def rows_by_prompt(operations, journal, verdict):
    """Assigns jobs to prompts: all jobs of a prompt have one fingerprint, and the first of them was made by the operation that
    its client had begun last."""
    rows_of, prompt_of, fingerprint_of = defaultdict(list), {}, {}
    for row in journal.rows:
        prompt = prompt_of.get(row["fingerprint"])
        if prompt is None:
            mine = [operation for operation in operations if operation.worker == row["client"] and operation.began_ms <= row["created_ms"]]
            if not mine:
                verdict.complain("foreign ids", f"{row['id']} belongs to no operation")
                continue
            prompt = prompt_of[row["fingerprint"]] = mine[-1].prompt
            if fingerprint_of.setdefault(prompt, row["fingerprint"]) != row["fingerprint"]:
                verdict.complain("foreign ids", f"{row['id']} has another fingerprint than its operation {prompt!r}")
        rows_of[prompt].append(row)
    return rows_of


class Judge:
    """Judges the operations of one prompt. `rows`: the predictions of their jobs, oldest first."""

    def __init__(self, verdict, asked, rows, purchases, pictures, holds, evidence):
        self.verdict, self.asked, self.rows, self.purchases = verdict, asked, rows, purchases
        self.pictures, self.holds, self.evidence = pictures, holds, evidence
        self.answers = [answer for operation in asked for answer in operation.answers + operation.repeats]
        self.unknown = [row for row in rows if is_unknown(row)]
        self.anonymous = sum(map(is_anonymous, rows))
        self.story = (f"{asked[0].prompt!r}: bought {sorted(purchase['id'] for purchase in purchases)}, journalled "
                      f"{[(row['id'], row['prediction'], row['state'], row['upstream_id']) for row in rows]}, "
                      f"answers {[(answer.status, answer.code, answer.predictions) for answer in self.answers]}")

    def complain(self, kind, count=1, note=""):
        self.verdict.complain(kind, f"{note} of {self.story}" if note else self.story, count)

    def judge(self):
        counts = self.verdict.counts
        ids = {purchase["id"] for purchase in self.purchases}
        journalled = {row["upstream_id"]: row for row in self.rows if row["upstream_id"]}
        nameless = [purchase for purchase in self.purchases if purchase["id"] not in journalled]
        unnamed = max(len(nameless) - self.anonymous, 0)
        self.verdict.journalled[self.asked[0].prompt] = len(self.rows)
        reported = [answer for answer in self.answers if answer.reports_unknown]

        for row in self.rows:
            counts[f"ended {row['state']}"] += 1
            if row["state"] in ("intent", "committing", "accepted"):
                self.complain("unsettled")
        counts["unknowns"] += len(self.unknown)
        counts["unknowns that were bought"] += min(len(self.unknown), unnamed)
        counts["unknowns reported to the client"] += bool(reported)
        for foreign in set(journalled) - ids:
            self.complain("foreign ids", note=foreign)
        if self.anonymous > len(nameless):
            self.complain("foreign ids", self.anonymous - len(nameless), "more pictures than purchases")
        if len(self.purchases) > len(self.rows):
            self.complain("double submits", len(self.purchases) - len(self.rows))
        again, excused = bought_again(self.rows, self.purchases, unnamed, self.holds)
        counts["bought again after an unknown"] += excused
        failed = sum(1 for purchase in self.purchases if purchase["state"] == "failed")
        counts["bought again after a failure"] += min(again - excused, failed)
        if again > excused + failed:
            self.complain("double buys", again - excused - failed)
        if unnamed > len(self.unknown):
            self.complain("lost", unnamed - len(self.unknown))
        self.judge_deliveries(journalled, nameless, reported)
        for operation in self.asked:
            judge_answers(self, operation)

    def judge_deliveries(self, journalled, nameless, reported):
        delivered = {name for answer in self.answers if answer.status == 200 for name in answer.predictions}
        drawn = {digest for answer in self.answers if answer.status == 200 for digest in answer.digests}
        delivered |= {one for one, digest in self.evidence.digests.items() if digest in drawn}
        if self.anonymous:
            hashes = {picture for answer in self.answers if answer.status == 200 for picture in answer.pictures}
            delivered |= {purchase["id"] for purchase in nameless if purchase["prompt_blake3"] in hashes}
        for purchase in self.purchases:
            row = journalled.get(purchase["id"])
            accounted = (row is None and (self.unknown or reported)) or (row and row["state"] in ("unknown", "failed"))
            if purchase["id"] not in delivered and not accounted:
                self.complain("unreported unknowns", note=purchase["id"])
            account = self.evidence.accounts.get(purchase["key"])
            if row and account and row["account"] != account:
                self.complain("wrong accounts", note=f"{purchase['id']}, bought by {account}, journalled for {row['account']}")


def is_unknown(row):
    return row["state"] == "unknown" and not row["upstream_id"]


def is_anonymous(row):
    return row["state"] == "resolved" and not row["upstream_id"]


def grouped(rows, column):
    groups = defaultdict(list)
    for row in rows:
        groups[row[column]].append(row)
    return groups.values()


def bought_again(rows, purchases, nameless, holds):
    """Returns how many purchases came after the first job that bought anything, under each idempotency key and without one, and
    how many of them are excused. `nameless`: how many purchases only an unknown outcome can account for."""
    again, excused = len(purchases), 0
    for of_key in grouped(rows, "idempotency_key"):
        before = None
        for of_job in grouped(of_key, "id"):
            named = sum(1 for row in of_job if row["upstream_id"] or is_anonymous(row))
            unnamed = min(sum(1 for row in of_job if is_unknown(row)), nameless)
            if before is None and named + unnamed:
                # The first that bought anything.
                again -= named + unnamed
                nameless -= unnamed
                before = named == 0
            elif before and not holds:
                excused += named + unnamed
                before = named == 0
    return max(again, 0), min(excused, max(again, 0))


def judge_inputs(operations, accepted, verdict):
    """Each client always sends the same picture, and no two send the same. Pictures that were never fetched are not compared."""
    worker_of = {operation.prompt: operation.worker for operation in operations}
    owner_of, input_of = {}, {}
    for purchase in accepted:
        worker = worker_of.get(purchase["prompt"])
        for digest in purchase["inputs"]:
            if worker is None or digest.startswith("url-"):
                continue
            if owner_of.setdefault(digest, worker) != worker or input_of.setdefault(worker, digest) != digest:
                verdict.complain("wrong inputs", f"{purchase['id']} for {worker} was made of {digest}")


def judge_results(journal, results, evidence, verdict):
    deleted = set()
    for row in journal.rows:
        if row["evicted"]:
            deleted.add(row["prediction"])
            if row["delivered_ms"] is None or not evidence.evicts:
                verdict.complain("deleted results", f"{row['id']} {row['prediction']}, delivered: {row['delivered_ms'] is not None}")
    verdict.counts["delivered results deleted"] += len(deleted) if evidence.evicts else 0
    for picture in journal.pictures:
        file, size = results / picture["digest"], picture["bytes"]
        is_stored = picture["in_journal"] == size or (file.exists() and file.stat().st_size == size)
        if picture["purchase_id"] not in deleted and not is_stored:
            verdict.complain("missing results", f"{picture['purchase_id']}: {file.name}")


def print_verdict(verdict, trials, what):
    counts = verdict.counts
    print(f"operations {counts['operations']}, pictures delivered {counts['delivered']}, pictures verified {counts['pictures verified']}, "
          f"of them byte for byte {counts['bytes verified']}, purchases {counts['purchases']}"
          + (f"; answers with some pictures missing {counts['answers with some missing']}" if counts["answers with some missing"] else ""))
    print(f"unknowns {counts['unknowns']} (journalled), of them bought {counts['unknowns that were bought']}; operations reported "
          f"{counts['unknowns reported to the client']}, ended there {counts['ended in an unknown']}, "
          f"bought again by a repeat {counts['bought again after an unknown']}")
    print(f"failed at the upstream {counts['ended in a failure']}, bought again after that {counts['bought again after a failure']}; "
          f"jobs with a webhook {counts['jobs with a webhook']}, events {counts['events']}; "
          f"delivered results deleted {counts['delivered results deleted']}")
    ends = [(name.removeprefix("ended "), count) for name, count in sorted(counts.items())
            if name.startswith("ended ") and not name.startswith("ended in ")]
    print("predictions at the end: " + ", ".join(f"{name} {count}" for name, count in ends))
    for kind in MUST_BE_ZERO:
        count = counts[kind]
        bound = f"0 of {trials} {what}: below {300 / max(trials, 3):.2g} % at 95 %" if count == 0 else "MUST BE 0"
        print(f"  {kind:<20} {count:>4}   {bound}")
    shown = Counter()
    for complaint in verdict.complaints:
        kind = complaint.partition(":")[0]
        shown[kind] += 1
        if shown[kind] <= SHOWN_MAX:
            print(f"! {complaint}")
    for kind, count in shown.items():
        if count > SHOWN_MAX:
            print(f"! … and {count - SHOWN_MAX} more of {kind}")
