"""Compares three logs: the clients' answers, the gateway's journal, and the simulator's acceptances.

An *operation* is one edit that a client wants, with all its retries; its prompt is unique, and so is its fingerprint in the
journal. A *purchase* is a prediction that the simulator accepted and wrote to its log before it answered. The answers of the
OpenAI-format API name no prediction: what the journal has as bought there is *anonymous*, and its picture says which purchase
it is.

Must be 0, whenever the gateway was killed:

double submits       purchases of an operation beyond the predictions that the journal has for it. Each request of a client
                     is journalled, so that such a purchase is the gateway's own.
double buys          purchases of an operation beyond those of its first job that bought anything, unless all of these are
                     journalled as unknown and the gateway does not hold repeats of an unknown purchase.
lost                 purchases whose id is not in the journal, and for which no prediction of their operation is journalled
                     as unknown.
unreported unknowns  purchases whose picture no client got, of which no client was answered "unknown", and which the
                     journal has neither as unknown nor as failed.
wrong pictures       answers with status 200 whose picture is damaged, or was made by another prediction than they name.
retryable unknowns   answers with submission_outcome_unknown that do not say x-should-retry: false.
repeats that bought  purchases by a request that repeated an answered one.
unanswered           operations without a final answer long after everything was over.
other answers        final answers that are neither a picture nor submission_outcome_unknown.
foreign ids          ids in the journal that the simulator never gave for that operation.
unsettled            predictions that are under way in the journal of a gateway that is idle and stopped.
damaged              copies of the journal that fail SQLite's integrity check.
missing results      pictures in the journal whose file is missing or has another length.

formats.py adds what must not be found of submits that the upstream refused.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from lib.kills.formats import REFUSED
from lib.project import ROOT
from lib.rig import UNKNOWN

MUST_BE_ZERO = ("double submits", "double buys", "lost", "unreported unknowns", "wrong pictures", "retryable unknowns",
                "repeats that bought", "unanswered", "other answers", "foreign ids", "unsettled", "damaged", "missing results",
                "accepted twice", "refused too often", "known refusals")


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


def judge(operations, pictures, journal, accepted, results, holds, may_refuse=False):
    """Compares the three logs. `pictures`: how many an operation asks for; `results`: the folder of their files; `holds`:
    whether a repeat after an unknown outcome buys nothing; `may_refuse`: an operation may end, unbought, because each format that
    could be tried was refused."""
    verdict = Verdict()
    rows_of = rows_by_operation(operations, journal, verdict)
    bought_by = defaultdict(list)
    for purchase in sorted(accepted, key=lambda purchase: purchase["at"]):
        bought_by[purchase["prompt"]].append(purchase)
    verdict.counts.update({"operations": len(operations), "purchases": len(accepted)})
    for operation in operations:
        judge_operation(operation, pictures, rows_of[operation.prompt], bought_by.pop(operation.prompt, []), holds, verdict, may_refuse)
    for prompt, purchases in bought_by.items():
        verdict.complain("foreign ids", f"no client asked for {prompt!r}", len(purchases))
    if journal.verdict != "ok":
        verdict.complain("damaged", journal.verdict)
    for picture in journal.pictures:
        file = results / picture["digest"]
        if not file.exists() or file.stat().st_size != picture["bytes"]:
            verdict.complain("missing results", f"{picture['purchase_id']}: {file.name}")
    return verdict


def rows_by_operation(operations, journal, verdict):
    """Assigns jobs to operations: a client has one operation at a time, and all its jobs have one fingerprint."""
    rows_of, operation_of = defaultdict(list), {}
    for row in journal.rows:
        mine = [operation for operation in operations if operation.worker == row["client"] and operation.began_ms <= row["created_ms"]]
        if not mine:
            verdict.complain("foreign ids", f"{row['id']} belongs to no operation")
            continue
        operation = mine[-1]
        if operation_of.setdefault(row["fingerprint"], operation) is not operation:
            verdict.complain("foreign ids", f"{row['id']} has the fingerprint of another operation")
        rows_of[operation.prompt].append(row)
    return rows_of


def judge_operation(operation, pictures, rows, purchases, holds, verdict, may_refuse):
    """`rows`: the predictions of its jobs, oldest first."""
    ids = {purchase["id"] for purchase in purchases}
    journalled = {row["upstream_id"]: row for row in rows if row["upstream_id"]}
    unknown = [row for row in rows if is_unknown(row)]
    anonymous = sum(map(is_anonymous, rows))
    nameless = [purchase for purchase in purchases if purchase["id"] not in journalled]
    unnamed = max(len(nameless) - anonymous, 0)
    verdict.journalled[operation.prompt] = len(rows)
    answers = operation.answers + operation.repeats
    reported = [answer for answer in answers if answer.code == UNKNOWN]
    story = f"{operation.prompt!r}: bought {sorted(ids)}, journalled {[(row['prediction'], row['state'], row['upstream_id']) for row in rows]}, " \
            f"answers {[(answer.status, answer.code, answer.predictions) for answer in answers]}"

    for row in rows:
        verdict.counts[f"ended {row['state']}"] += 1
        if row["state"] in ("intent", "committing", "accepted"):
            verdict.complain("unsettled", story)
    verdict.counts["unknowns"] += len(unknown)
    verdict.counts["unknowns that were bought"] += min(len(unknown), unnamed)
    verdict.counts["unknowns reported to the client"] += bool(reported)
    for foreign in set(journalled) - ids:
        verdict.complain("foreign ids", f"{foreign} of {story}")
    if anonymous > len(nameless):
        verdict.complain("foreign ids", f"more pictures than purchases: {story}", anonymous - len(nameless))

    if len(purchases) > len(rows):
        verdict.complain("double submits", story, len(purchases) - len(rows))
    again, excused = bought_again(rows, purchases, unnamed, holds)
    verdict.counts["bought again after an unknown"] += excused
    if again > excused:
        verdict.complain("double buys", story, again - excused)
    if unnamed > len(unknown):
        verdict.complain("lost", story, unnamed - len(unknown))

    delivered = {name for answer in answers if answer.status == 200 for name in answer.predictions}
    if anonymous:
        drawn = {picture for answer in answers if answer.status == 200 for picture in answer.pictures}
        delivered |= {purchase["id"] for purchase in nameless if purchase["prompt_blake3"] in drawn}
    for purchase in purchases:
        row = journalled.get(purchase["id"])
        accounted = (row is None and (unknown or reported)) or (row and row["state"] in ("unknown", "failed"))
        if purchase["id"] not in delivered and not accounted:
            verdict.complain("unreported unknowns", f"{purchase['id']} of {story}")
    judge_answers(operation, pictures, rows, purchases, holds, story, verdict, may_refuse)


def is_unknown(row):
    return row["state"] == "unknown" and not row["upstream_id"]


def is_anonymous(row):
    return row["state"] == "resolved" and not row["upstream_id"]


def bought_again(rows, purchases, nameless, holds):
    """Returns how many purchases came after the first job that bought anything, and how many of them are excused. `nameless`:
    how many purchases only an unknown outcome can account for."""
    jobs = defaultdict(list)
    for row in rows:
        jobs[row["id"]].append(row)
    again, excused, before = len(purchases), 0, None
    for of_job in jobs.values():
        named = sum(1 for row in of_job if row["upstream_id"] or is_anonymous(row))
        unnamed = min(sum(1 for row in of_job if is_unknown(row)), nameless)
        if before is None and named + unnamed:
            # The first that bought anything.
            again -= named + unnamed
            before = named == 0
        elif before and not holds:
            excused += named + unnamed
            before = named == 0
    return max(again, 0), min(excused, max(again, 0))


def judge_answers(operation, pictures, rows, purchases, holds, story, verdict, may_refuse):
    blake3 = {purchase["id"]: purchase["prompt_blake3"] for purchase in purchases}
    anonymous = any(map(is_anonymous, rows))
    for answer in operation.answers + operation.repeats:
        if answer.status == 200:
            right = not answer.problem and len(answer.pictures) == pictures - answer.missing > 0
            if anonymous and not answer.predictions:
                right &= set(answer.pictures) <= set(blake3.values())
            else:
                right &= len(answer.predictions) == len(answer.pictures) \
                    and all(drawn and drawn == blake3.get(name) for name, drawn in zip(answer.predictions, answer.pictures))
            verdict.counts["pictures verified"] += len(answer.pictures) if right else 0
            if not right:
                verdict.complain("wrong pictures", f"{answer} of {story}")
        elif answer.code == UNKNOWN and answer.should_retry != "false":
            verdict.complain("retryable unknowns", story)
    if operation.repeats and operation.final:
        late = sum(1 for row in rows if row["created_ms"] > operation.final.at_ms and (row["upstream_id"] or is_anonymous(row)))
        # Without a hold, a repeat after an unknown outcome buys again.
        if late and (holds or operation.final.status == 200):
            verdict.complain("repeats that bought", story, late)
    if operation.given_up:
        verdict.counts["given up"] += 1
    elif operation.final is None:
        verdict.complain("unanswered", story)
    elif operation.final.status == 200:
        verdict.counts["delivered"] += len(operation.final.pictures)
        verdict.counts["answers with some missing"] += operation.final.missing > 0
    elif operation.final.code == UNKNOWN:
        verdict.counts["ended in an unknown"] += 1
    elif operation.final.code == REFUSED and may_refuse and not purchases:
        verdict.counts["refused in each format"] += 1
    else:
        verdict.complain("other answers", f"{operation.final.status} {operation.final.code} {operation.final.problem} of {story}")


def print_verdict(verdict, trials, what):
    counts = verdict.counts
    print(f"operations {counts['operations']}, pictures delivered {counts['delivered']}, pictures verified {counts['pictures verified']}, "
          f"purchases {counts['purchases']}"
          + (f"; answers with some pictures missing {counts['answers with some missing']}" if counts["answers with some missing"] else ""))
    print(f"unknowns {counts['unknowns']} (journalled), of them bought {counts['unknowns that were bought']}; operations reported "
          f"{counts['unknowns reported to the client']}, ended there {counts['ended in an unknown']}, "
          f"bought again by a repeat {counts['bought again after an unknown']}")
    print("predictions at the end: " + ", ".join(f"{name.removeprefix('ended ')} {count}"
                                            for name, count in sorted(counts.items()) if name.startswith("ended ") and name != "ended in an unknown"))
    for kind in MUST_BE_ZERO:
        count = counts[kind]
        bound = f"0 of {trials} {what}: below {300 / max(trials, 3):.2g} % at 95 %" if count == 0 else "MUST BE 0"
        print(f"  {kind:<20} {count:>4}   {bound}")
    for complaint in verdict.complaints[:20]:
        print(f"! {complaint}")
    if len(verdict.complaints) > 20:
        print(f"! … and {len(verdict.complaints) - 20} more")
