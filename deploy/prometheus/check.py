"""What deploy/prometheus/check.sh does in Python.

usage: check.py forward PORT TO       serves the metrics of a gateway's operator port as plain text on a port of its own
       check.py scraped ADDRESS       waits until a Prometheus has scraped both forms
       check.py queries ADDRESS TOP   runs the queries of the board and the alerts on a Prometheus, and prints a table
"""

import http.server
import json
import math
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

# What Grafana puts in the places of its variables.
VARIABLES = {
    "$__rate_interval": "15s", "$__interval": "1s", "$__range": "2m",
    "$instance": ".*", "$client": ".*", "$model": ".*",
}
OPENMETRICS, TEXT = "gptproto-gateway", "gptproto-gateway-text"
METRIC = re.compile(r"\b(?:gptproto_gateway_|process_)\w+")


def forward(port, to):
    class Forwarder(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            request = urllib.request.Request(f"http://127.0.0.1:{to}/metrics", headers={"accept": "text/plain"})
            with urllib.request.urlopen(request, timeout=10) as answer:
                body, kind = answer.read(), answer.headers["content-type"]
            self.send_response(200)
            self.send_header("content-type", kind)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    http.server.ThreadingHTTPServer(("127.0.0.1", port), Forwarder).serve_forever()


class Prometheus:
    def __init__(self, address):
        self.address = address

    def get(self, path, **parameters):
        url = f"{self.address}/api/v1/{path}?{urllib.parse.urlencode(parameters, doseq=True)}"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise ValueError(json.load(error)["error"]) from error

    def series(self, query):
        """Returns how many series of a query have had a number within the last minute."""
        now = time.time()
        found = self.get("query_range", query=query, start=now - 60, end=now, step=1)["result"]
        return sum(any(not math.isnan(float(value)) for _, value in series["values"]) for series in found)

    def now(self, query):
        return {tuple(sorted(one["metric"].items())): float(one["value"][1])
                for one in self.get("query", query=query)["result"]}


def scraped(prometheus):
    """Waits for the first scrapes, which begin some seconds after the start: what happens before them is no increase."""
    deadline = time.monotonic() + 30
    while len(prometheus.now("up == 1")) < 2:
        if time.monotonic() > deadline:
            sys.exit("Prometheus does not scrape the gateway")
        time.sleep(0.2)


def board_queries(board):
    """Yields the title of a panel and a query, with Grafana's variables replaced."""
    panels = [inner for panel in board["panels"] for inner in [panel, *panel.get("panels", [])]]
    places = [(panel["title"], target["expr"]) for panel in panels for target in panel.get("targets", [])]
    places += [(note["name"], note["expr"]) for note in board["annotations"]["list"] if "expr" in note]
    for title, query in places:
        for variable, value in VARIABLES.items():
            query = query.replace(variable, value)
        yield title, query
    for variable in board["templating"]["list"]:
        found = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable.get("definition", ""))
        if found:
            yield f"variable {variable['name']}", f"count by ({found[2]}) ({found[1]})"


class Table:
    def __init__(self):
        self.failed = False

    def row(self, thing, tool, passed, figure="", problem=""):
        self.failed |= not passed
        print(f"{thing[:60]:60} {tool:24} {'passed' if passed else 'FAILED'}{figure and f', {figure}'}")
        if not passed and problem:
            print(f"    {problem}")


def queries(address, top):
    prometheus, table = Prometheus(address), Table()
    targets = {target["labels"]["job"]: target for target in prometheus.get("targets")["activeTargets"]}
    samples = {}
    for job, form in [(OPENMETRICS, "OpenMetrics"), (TEXT, "Prometheus text")]:
        target = targets[job]
        scraped = prometheus.now(f'scrape_samples_scraped{{job="{job}"}}')
        samples[job] = next(iter(scraped.values()), 0)
        good = target["health"] == "up" and prometheus.now(f'min_over_time(up{{job="{job}"}}[1m])').popitem()[1] == 1
        table.row(f"scraped as {form}", "prometheus", good, f"{samples[job]:.0f} samples", target["lastError"])
    names = {job: set(prometheus.get("label/__name__/values", **{"match[]": f'{{job="{job}"}}'}))
             for job in [OPENMETRICS, TEXT]}
    different = names[OPENMETRICS] ^ names[TEXT]
    table.row("both forms have the same metrics", "prometheus", not different, problem=f"{sorted(different)}")

    board = json.loads((top / "deploy" / "grafana" / "gptproto-gateway.json").read_text())
    # The annotation marks starts, of which there is none while it is scraped.
    for title, query in board_queries(board):
        may_be_empty = title == "Restarts"
        try:
            found = prometheus.series(query)
            table.row(f"board: {title}", "prometheus", found > 0 or may_be_empty, f"{found} series", f"no data: {query}")
        except ValueError as error:
            table.row(f"board: {title}", "prometheus", False, problem=f"{error}: {query}")
    wrong = prometheus.series("gptproto_gateway_no_such_metric")
    table.row("control: a metric that does not exist has no data", "prometheus", wrong == 0)

    for group in prometheus.get("rules")["groups"]:
        for rule in group["rules"]:
            missing = [name for name in sorted(set(METRIC.findall(rule["query"]))) if prometheus.series(name) == 0]
            problem = rule.get("lastError") or f"no data: {', '.join(missing)}"
            table.row(f"alert: {rule['name']}", "prometheus", rule["health"] == "ok" and not missing, rule["state"], problem)
    return 1 if table.failed else 0


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["forward", port, to]:
            forward(int(port), int(to))
        case ["scraped", address]:
            scraped(Prometheus(address))
        case ["queries", address, top]:
            sys.exit(queries(address, Path(top)))
        case _:
            sys.exit(__doc__)
