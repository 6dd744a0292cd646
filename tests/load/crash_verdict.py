"""Three logs, one verdict: what the clients got, what the journal says, what the simulator accepted.

A *wish* is what one client wants, however often it asks; its prompt is unique, and so is its fingerprint in
the journal. A *purchase* is a prediction that the simulator accepted and wrote to its log before it answered.

Must be 0, whatever is killed when:

double submits   purchases of a wish beyond the predictions that the journal has for it. An order is begun by a request of
                 a client, so such a purchase is the gateway's own.
double buys      purchases of a wish beyond those of its first order that bought anything, unless all of these are
                 journalled as unknown and the gateway does not hold repeats of an unknown purchase.
lost             purchases whose id is not in the journal, and for which no prediction of their wish is journalled as
                 unknown.
silent unknowns  purchases that no client got the picture of, and that neither a client was told of as unknown nor the
                 journal calls unknown or failed.
wrong pictures   answers with status 200 whose picture is not whole, or not the one that the prediction they name made.
untold           answers with submission_outcome_unknown that do not say x-should-retry: false.
unasked          purchases by a request that repeated an answered one.
unanswered       wishes without a final answer when everything had long been over.
other answers    final answers that are neither a picture nor submission_outcome_unknown.
strangers        ids in the journal that the simulator never gave for that wish.
unsettled        predictions that are under way according to the journal of an idle, stopped gateway.
damaged          copies of the journal that SQLite's integrity check does not like.
missing goods    pictures in the journal whose file is not there, or has another length.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from crash_kit import UNKNOWN

MUST_BE_ZERO = ("double submits", "double buys", "lost", "silent unknowns", "wrong pictures", "untold", "unasked",
                "unanswered", "other answers", "strangers", "unsettled", "damaged", "missing goods")


@dataclass
class Verdict:
    counts: Counter = field(default_factory=Counter)
    complaints: list = field(default_factory=list)

    def complain(self, kind, text, count=1):
        self.counts[kind] += count
        self.complaints.append(f"{kind}: {text}")

    def failed(self):
        return any(self.counts[kind] for kind in MUST_BE_ZERO)


def judge(wishes, pictures, journal, accepted, results, holds):
    """Compares the three logs. `pictures`: how many a wish is of; `results`: the folder of their files; `holds`: a repeat
    after an unknown buys nothing."""
    verdict = Verdict()
    orders_of = orders_by_wish(wishes, journal, verdict)
    bought_by = defaultdict(list)
    for purchase in sorted(accepted, key=lambda purchase: purchase["at"]):
        bought_by[purchase["prompt"]].append(purchase)
    verdict.counts.update({"wishes": len(wishes), "purchases": len(accepted)})
    for wish in wishes:
        judge_wish(wish, pictures, orders_of[wish.prompt], bought_by.pop(wish.prompt, []), holds, verdict)
    for prompt, purchases in bought_by.items():
        verdict.complain("strangers", f"nobody wished for {prompt!r}", len(purchases))
    if journal.verdict != "ok":
        verdict.complain("damaged", journal.verdict)
    for picture in journal.pictures:
        file = results / picture["digest"]
        if not file.exists() or file.stat().st_size != picture["bytes"]:
            verdict.complain("missing goods", f"{picture['purchase_id']}: {file.name}")
    return verdict


def orders_by_wish(wishes, journal, verdict):
    """Whose order is whose: a client has one wish at a time, and all orders of a wish have one fingerprint."""
    orders_of, wish_of = defaultdict(list), {}
    for order in journal.orders:
        mine = [wish for wish in wishes if wish.worker == order["client"] and wish.began_ms <= order["created_ms"]]
        if not mine:
            verdict.complain("strangers", f"{order['id']} belongs to nobody's wish")
            continue
        wish = mine[-1]
        if wish_of.setdefault(order["fingerprint"], wish) is not wish:
            verdict.complain("strangers", f"{order['id']} has the fingerprint of another wish")
        orders_of[wish.prompt].append(order)
    return orders_of


def judge_wish(wish, pictures, rows, purchases, holds, verdict):
    """`rows`: the predictions of its orders, oldest first."""
    ids = {purchase["id"] for purchase in purchases}
    journalled = {row["upstream_id"]: row for row in rows if row["upstream_id"]}
    unknown = [row for row in rows if is_unknown(row)]
    nameless = [purchase for purchase in purchases if purchase["id"] not in journalled]
    answers = wish.answers + wish.asked_again
    told = [answer for answer in answers if answer.code == UNKNOWN]
    story = f"{wish.prompt!r}: bought {sorted(ids)}, journalled {[(row['prediction'], row['state'], row['upstream_id']) for row in rows]}, " \
            f"answers {[(answer.status, answer.code, answer.predictions) for answer in answers]}"

    for row in rows:
        verdict.counts[f"ended {row['state']}"] += 1
        if row["state"] in ("intent", "committing", "accepted"):
            verdict.complain("unsettled", story)
    verdict.counts["unknowns"] += len(unknown)
    verdict.counts["unknowns that were bought"] += min(len(unknown), len(nameless))
    verdict.counts["unknowns told to the client"] += bool(told)
    for stranger in set(journalled) - ids:
        verdict.complain("strangers", f"{stranger} of {story}")

    if len(purchases) > len(rows):
        verdict.complain("double submits", story, len(purchases) - len(rows))
    again, excused = bought_again(rows, purchases, nameless, holds)
    verdict.counts["bought again after an unknown"] += excused
    if again > excused:
        verdict.complain("double buys", story, again - excused)
    if len(nameless) > len(unknown):
        verdict.complain("lost", story, len(nameless) - len(unknown))

    delivered = {name for answer in answers if answer.status == 200 for name in answer.predictions}
    for purchase in purchases:
        row = journalled.get(purchase["id"])
        reported = (row is None and (unknown or told)) or (row and row["state"] in ("unknown", "failed"))
        if purchase["id"] not in delivered and not reported:
            verdict.complain("silent unknowns", f"{purchase['id']} of {story}")
    judge_answers(wish, pictures, rows, purchases, holds, story, verdict)


def is_unknown(row):
    return row["state"] == "unknown" and not row["upstream_id"]


def bought_again(rows, purchases, nameless, holds):
    """How many purchases came after the first order that bought anything, and how many of them are excused."""
    orders = defaultdict(list)
    for row in rows:
        orders[row["id"]].append(row)
    again, excused, before = len(purchases), 0, None
    for of_order in orders.values():
        named = sum(1 for row in of_order if row["upstream_id"])
        unnamed = min(sum(1 for row in of_order if is_unknown(row)), len(nameless))
        if before is None and named + unnamed:
            # The first that bought anything.
            again -= named + unnamed
            before = named == 0
        elif before and not holds:
            excused += named + unnamed
            before = named == 0
    return max(again, 0), min(excused, max(again, 0))


def judge_answers(wish, pictures, rows, purchases, holds, story, verdict):
    blake3 = {purchase["id"]: purchase["prompt_blake3"] for purchase in purchases}
    for answer in wish.answers + wish.asked_again:
        if answer.status == 200:
            right = not answer.problem and len(answer.predictions) == len(answer.pictures) == pictures - answer.missing > 0 \
                and all(drawn and drawn == blake3.get(name) for name, drawn in zip(answer.predictions, answer.pictures))
            verdict.counts["pictures verified"] += len(answer.pictures) if right else 0
            if not right:
                verdict.complain("wrong pictures", f"{answer} of {story}")
        elif answer.code == UNKNOWN and answer.should_retry != "false":
            verdict.complain("untold", story)
    if wish.asked_again and wish.final:
        late = sum(1 for row in rows if row["created_ms"] > wish.final.at_ms and row["upstream_id"])
        # Without a hold, whoever asks again after an unknown outcome wants to pay again.
        if late and (holds or wish.final.status == 200):
            verdict.complain("unasked", story, late)
    if wish.given_up:
        verdict.counts["given up"] += 1
    elif wish.final is None:
        verdict.complain("unanswered", story)
    elif wish.final.status == 200:
        verdict.counts["delivered"] += len(wish.final.pictures)
        verdict.counts["answers with some missing"] += wish.final.missing > 0
    elif wish.final.code == UNKNOWN:
        verdict.counts["ended in an unknown"] += 1
    else:
        verdict.complain("other answers", f"{wish.final.status} {wish.final.code} {wish.final.problem} of {story}")


def print_verdict(verdict, trials, what):
    counts = verdict.counts
    print(f"wishes {counts['wishes']}, pictures delivered {counts['delivered']}, pictures verified {counts['pictures verified']}, "
          f"purchases {counts['purchases']}"
          + (f"; answers with some pictures missing {counts['answers with some missing']}" if counts["answers with some missing"] else ""))
    print(f"unknowns {counts['unknowns']} (journalled), of them bought {counts['unknowns that were bought']}; wishes told "
          f"{counts['unknowns told to the client']}, ended there {counts['ended in an unknown']}, "
          f"bought again by a repeat {counts['bought again after an unknown']}")
    print("predictions at the end: " + ", ".join(f"{name.removeprefix('ended ')} {count}"
                                            for name, count in sorted(counts.items()) if name.startswith("ended ") and name != "ended in an unknown"))
    for kind in MUST_BE_ZERO:
        count = counts[kind]
        bound = f"0 of {trials} {what}: below {300 / max(trials, 3):.2g} % at 95 %" if count == 0 else "MUST BE 0"
        print(f"  {kind:<16} {count:>4}   {bound}")
    for complaint in verdict.complaints[:20]:
        print(f"! {complaint}")
    if len(verdict.complaints) > 20:
        print(f"! … and {len(verdict.complaints) - 20} more")
