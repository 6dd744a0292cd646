"""Prints the table of clients from the results of the suites, and judges it.

    python3 table.py RESULTS SUITE...

table.toml says which clients there are, which cell has no test and why, and which clients are not run at all.
Everything else comes from the results: a cell is ok when every test that fills it passed. A cell that was filled by no
test and has no reason is a failure, and so is a reason for a cell that was filled.
"""

import collections
import json
import pathlib
import sys
import textwrap
import tomllib

COLUMNS = {
    "edit": "edit",
    "list": "list",
    "bytes": "bytes",
    "mask": "mask",
    "generate": "generate",
    "url": "url",
    "stream": "stream",
    "errors": "error classes",
    "retry": "retry joins",
    "waits": "long waits",
}
WIDTH = 120


class Notes:
    """Footnotes; the same words get the same number."""

    def __init__(self):
        self.numbers = {}

    def sign(self, words):
        return f"-{self.numbers.setdefault(words, len(self.numbers) + 1)}"

    def show(self):
        for words, number in self.numbers.items():
            print(textwrap.fill(f"{number:>3}  {words}", WIDTH, subsequent_indent=" " * 5))


def reasons_of(client):
    """Why cells of this client are empty: its own words, or those that several share."""
    return {cell: words for words, cells in client.get("without", {}).items() for cell in cells}


def cell_of(verdicts, reason, notes, complaints, place):
    if verdicts and reason:
        complaints.append(f"{place}: has tests, and a reason why not")
    if "failed" in verdicts:
        return "FAIL"
    if verdicts:
        return "ok"
    if reason:
        return notes.sign(reason)
    complaints.append(f"{place}: no test, and no reason")
    return "FAIL"


def main(results, suites):
    known = tomllib.loads((pathlib.Path(__file__).parent / "table.toml").read_text())
    verdicts, versions = collections.defaultdict(set), {}
    for line in pathlib.Path(results).read_text().splitlines():
        result = json.loads(line)
        verdicts[result["client"], result["cell"]].add(result["verdict"])
        versions[result["client"]] = result["version"]

    notes, complaints, rows = Notes(), [], []
    for client in known["client"]:
        if client["suite"] not in suites:
            continue
        name = client["name"]
        reasons = reasons_of(client)
        cells = [
            cell_of(
                verdicts.pop((name, column), set()), reasons.pop(column, None), notes, complaints, f"{name}, {title}"
            )
            for column, title in COLUMNS.items()
        ]
        complaints += [f"{name}: there is no column {column}" for column in reasons]
        rows.append((f"{name} {versions.get(name, '')}".rstrip(), *cells))
    complaints += [f"table.toml does not know {client}, {cell}" for client, cell in verdicts]

    heads = ("client", *COLUMNS.values())
    widths = [max(len(row[column]) for row in (heads, *rows)) for column in range(len(heads))]
    for row in (heads, ["-" * width for width in widths], *rows):
        print(" | ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True)).rstrip())
    print()
    notes.show()
    if {client["suite"] for client in known["client"]} <= set(suites):
        print("\nnot run:")
        for name, reason in known["not_run"].items():
            print(textwrap.fill(f"  {name}: {reason}", WIDTH, subsequent_indent=" " * 4))
    for complaint in complaints:
        print(f"FAILED  {complaint}")
    sys.exit(bool(complaints) or any("FAIL" in row for row in rows))


main(sys.argv[1], sys.argv[2:])
