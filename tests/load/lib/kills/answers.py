"""Judges the answers to one operation, and the events about jobs (verdict.py lists what must not be found)."""

from collections import defaultdict

from lib.kills.formats import REFUSED
from lib.kills.kinds import RETRIED
from lib.rig import UNKNOWN

# Answers about a prediction that failed at the upstream.
FAILURES = ("image_generation_failed", "image_not_fetched")


def judge_answers(judge, operation):
    """`judge`: the verdict.Judge of the operation's prompt."""
    counts = judge.verdict.counts
    final = operation.final
    for answer in operation.answers + operation.repeats:
        if answer.status == 200:
            right = is_right(judge, operation.pictures or judge.pictures, answer)
            counts["pictures verified"] += len(answer.pictures) if right else 0
            counts["bytes verified"] += len(answer.pictures) if right and judge.evidence.digests else 0
            if not right:
                judge.complain("wrong pictures", note=shown(answer))
            if answer.missing and judge.unknown and not answer.reports_unknown:
                judge.complain("hidden unknowns", note=shown(answer))
        elif answer.code == UNKNOWN and answer.should_retry != "false":
            judge.complain("retryable unknowns")
    if final and (judge.holds or final.status == 200):
        judge_repeats(judge, operation)
    if operation.given_up:
        counts["given up"] += 1
    elif final is None:
        judge.complain("unanswered")
    elif final.status == 200:
        counts["delivered"] += len(final.pictures)
        counts["answers with some missing"] += final.missing > 0
    elif final.code == UNKNOWN:
        counts["ended in an unknown"] += 1
    elif final.code in FAILURES and any(purchase["state"] == "failed" for purchase in judge.purchases):
        counts["ended in a failure"] += 1
    elif final.code == REFUSED and judge.evidence.may_refuse and not judge.purchases:
        counts["refused in each format"] += 1
    else:
        judge.complain("other answers", note=shown(final))


def is_right(judge, pictures, answer):
    """Returns whether the pictures of an answer are whole, as many as it says, and those of the purchases that it names."""
    blake3 = {purchase["id"]: purchase["prompt_blake3"] for purchase in judge.purchases}
    made = judge.evidence.digests
    if answer.problem or len(answer.pictures) != pictures - answer.missing or not answer.pictures:
        return False
    if not answer.predictions:
        # Of a stream, or of an API without ids: those of any purchase of the prompt.
        return set(answer.pictures) <= set(blake3.values()) and (not made or set(answer.digests) <= {made.get(one) for one in blake3})
    # An object with some pictures missing names all purchases of its job.
    named = answer.predictions if len(answer.predictions) == len(answer.pictures) else None
    if named is None:
        return answer.missing > 0 and set(answer.pictures) <= {blake3.get(name) for name in answer.predictions} \
            and (not made or set(answer.digests) <= {made.get(name) for name in answer.predictions})
    return all(drawn and drawn == blake3.get(name) for name, drawn in zip(named, answer.pictures)) \
        and (not made or all(digest == made.get(name) for name, digest in zip(named, answer.digests)))


def judge_repeats(judge, operation):
    final = operation.final
    late = sum(1 for row in judge.rows if row["idempotency_key"] == operation.key and row["created_ms"] > final.at_ms
               and (row["upstream_id"] or row["state"] == "resolved"))
    if operation.repeats and late:
        judge.complain("repeats that bought", late)
    for answer in operation.repeats:
        same = answer.digests == final.digests and answer.missing == final.missing if final.status == 200 else answer.code == final.code
        if not same and answer.code not in RETRIED:
            judge.complain("changed answers", note=f"{shown(final)}, then {shown(answer)}")


def shown(answer):
    """Returns an answer without its pictures."""
    return (f"{answer.status} {answer.code} {answer.problem} missing {answer.missing} pictures {[one[:8] for one in answer.pictures]} "
            f"digests {[one[:8] for one in answer.digests]} ids {answer.predictions} at {answer.at_ms}")


def judge_webhooks(journal, clients, helper, verdict):
    """`clients`: those whose requests all have a webhook. It is promised with the answer that names the job, and before anything
    is bought."""
    workers = {client.name for client in clients}
    named = {job for client in clients for operation in client.operations for job in operation.jobs}
    rows_of = defaultdict(list)
    for row in journal.rows:
        rows_of[row["id"]].append(row)
    jobs = {job for job, rows in rows_of.items() if rows[0]["client"] in workers}
    verdict.counts["jobs with a webhook"] += len(jobs)
    verdict.counts["events"] += sum(map(len, helper.events.values()))
    for job in jobs - set(helper.events):
        if job in named or any(row["state"] in ("resolved", "unknown") or row["upstream_id"] for row in rows_of[job]):
            verdict.complain("webhooks missed", f"{job} {[row['state'] for row in rows_of[job]]}, named to its client: {job in named}")
    for job in named - jobs:
        verdict.complain("foreign ids", f"{job} was named to a client and is not in the journal")
    for job, events in helper.events.items():
        completed = any(row["state"] == "resolved" for row in rows_of[job])
        wanted = f"image.prediction.{'completed' if completed else 'failed'}"
        if job not in jobs or {name for name, _ in events} != {wanted}:
            verdict.complain("wrong webhooks", f"{job}: {events}, journalled {[row['state'] for row in rows_of[job]]}")
    for problem in helper.problems:
        verdict.complain("wrong webhooks", problem)
