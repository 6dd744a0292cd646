"""Attacks both listeners of a running sandbox with the cases that schemathesis generates from their OpenAPI documents.

    python3 attack.py --client http://127.0.0.1:8787 --operator http://127.0.0.1:9090 --admin-token TOKEN [--key sk-sandbox]

Three kinds of cases: valid ones, invalid ones, and for the routes that make pictures valid ones with a real picture and a
prompt of words. Every answer is held to the document: no 5xx but those that are documented as the client's own fault, the
status, the media type, the headers and the body. Addresses of results and ids of jobs that come back are asked for again.

Prints how often each status came from each route. Exit code 1: an answer differs, or there were too few cases or pictures.
"""

import argparse
import ast
import base64
import collections
import concurrent.futures
import copy
import pathlib
import sys
import threading
import time
import urllib.parse

import hypothesis
import hypothesis.errors
import requests
import schemathesis
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.core.failures import Failure, FailureGroup

# Draws pictures with Python's own library.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "clients" / "lib"))
import pictures  # noqa: E402

CHECKS = [
    schemathesis.checks.not_a_server_error,
    schemathesis.checks.status_code_conformance,
    schemathesis.checks.content_type_conformance,
    schemathesis.checks.response_headers_conformance,
    schemathesis.checks.response_schema_conformance,
]
# An operation that makes pictures: the path after the deployment or version.
MAKERS = ("/images/edits", "/images/generations", "/chat/completions")
# Streams without an end.
ENDLESS = ("/events",)
KEY_HEADERS = ["Authorization", "api-key", "x-api-key"]
# Answers that wait for a picture: one is asked for at a time by each of these.
WORKERS = 12
REQUEST_TIMEOUT_S = 120
PARTS = 5
LOGIN = "/admin/login"
MODELS = ["gpt-image-1", "gpt-image-1.5", "gpt-image-1-mini", "gpt-image-2"]
WORDS = st.lists(st.sampled_from("a cat dog house in at the winter night snow sepia sunset red blue".split()), min_size=2, max_size=8)


# CPython 3.11 counts the depth of this function for all threads together, and hypothesis calls it in each.
PARSE, PARSING = ast.parse, threading.Lock()


def parse(*arguments, **options):
    with PARSING:
        return PARSE(*arguments, **options)


ast.parse = parse


def data_url(picture):
    return "data:image/png;base64," + base64.b64encode(picture).decode()


def addresses(response):
    """The signed addresses of the pictures in an answer."""
    try:
        items = response.json()["data"]
    except (ValueError, LookupError):
        return []
    return [item["url"] for item in items if "url" in item]


class Found:
    """What has come back so far, and what was wrong with it. Used by all threads."""

    def __init__(self):
        self.lock = threading.Lock()
        self.counts = collections.defaultdict(collections.Counter)
        self.failures = {}
        self.jobs = []
        self.addresses = []

    def note(self, label, response, case, failures):
        with self.lock:
            self.counts[label][response.status_code] += 1
            for job in response.headers.get("x-gateway-prediction", []):
                self.jobs = [*self.jobs[-200:], job]
            if b'"url":"http' in response.content[:1000]:
                self.addresses = [*self.addresses[-200:], *addresses(response)]
            for failure in failures:
                key = (label, response.status_code, failure.title, failure.message[:300])
                self.failures.setdefault(key, case.as_curl_command()[:1500])


def real_bodies(path, images):
    """Bodies that buy pictures, for an operation that makes them."""
    common = {
        "model": st.sampled_from(MODELS),
        "prompt": WORDS.map(" ".join),
        "quality": st.just("low"),
        "n": st.sampled_from([1, 1, 1, 2]),
    }
    more = {
        "output_format": st.sampled_from(["png", "jpeg", "webp", "auto"]),
        "response_format": st.sampled_from(["url", "b64_json"]),
        "size": st.sampled_from(["auto", "1024x1024", "1536x1024"]),
        "background": st.sampled_from(["auto", "opaque"]),
        "user": st.text(max_size=20),
    }
    image = st.sampled_from(images)
    if path.endswith("/chat/completions"):
        part = image.map(lambda one: {"type": "image_url", "image_url": {"url": data_url(one)}})
        text = common["prompt"].map(lambda words: {"type": "text", "text": words})
        content = st.one_of(common["prompt"], st.tuples(text, part).map(list))
        messages = content.map(lambda content: [{"role": "user", "content": content}])
        modalities = st.sampled_from([["image", "text"], ["text", "image"]])
        body = st.fixed_dictionaries(
            {"model": common["model"], "messages": messages, "quality": st.just("low")},
            optional={"stream": st.booleans(), "modalities": modalities, "n": common["n"]},
        )
        return st.tuples(st.just("application/json"), body)
    if path.endswith("/images/generations"):
        return st.tuples(st.just("application/json"), st.fixed_dictionaries(common, optional=more))
    links = st.lists(image.map(lambda one: {"image_url": data_url(one)}), min_size=1, max_size=3)
    as_json = st.fixed_dictionaries({**common, "images": links}, optional=more)
    files = st.lists(image, min_size=1, max_size=3)
    as_form = st.fixed_dictionaries({**common, "image": files}, optional=more)
    return st.one_of(st.tuples(st.just("application/json"), as_json), st.tuples(st.just("multipart/form-data"), as_form))

    def no_answer(self, label, error, case):
        with self.lock:
            self.failures.setdefault((label, 0, "no answer", repr(error)[:300]), case.as_curl_command()[:1500])


class Attack:
    def __init__(self, base, key, found, seed, is_operator=False):
        self.base, self.key, self.found, self.seed, self.is_operator = base, key, found, seed, is_operator
        self.schema = schemathesis.openapi.from_url(f"{base}/openapi.json")
        self.operations = [result.ok() for result in self.schema.get_all_operations()]
        self.images = [pictures.gradient(64 + 32 * i, 96, 40 * i) for i in range(4)]

    def with_seed(self, number):
        """The same with other cases."""
        other = copy.copy(self)
        other.seed = self.seed * 1000 + number
        return other

    def label(self, operation):
        return f"{operation.method.upper()} {operation.path}"

    def check(self, case, operation, headers):
        session = requests.Session()
        session.trust_env = False
        with session:
            try:
                response = case.call(base_url=self.base, session=session, headers=headers, timeout=REQUEST_TIMEOUT_S)
            except requests.RequestException as error:
                self.found.no_answer(self.label(operation), error, case)
                return
        failures = []
        try:
            case.validate_response(response, checks=CHECKS)
        except FailureGroup as group:
            failures = list(group.exceptions)
        except Failure as failure:
            failures = [failure]
        self.found.note(self.label(operation), response, case, failures)

    def run(self, operation, strategy, count, headers, change=None):
        @hypothesis.seed(self.seed)
        @hypothesis.settings(
            max_examples=count, database=None, deadline=None, phases=[hypothesis.Phase.generate],
            suppress_health_check=list(hypothesis.HealthCheck), print_blob=False,
        )
        @hypothesis.given(strategy, st.data())
        def one(case, data):
            if change is not None:
                change(case, data)
            self.check(case, operation, headers)

        try:
            one()
        except hypothesis.errors.Unsatisfiable:
            # Nothing in the document can be made invalid, or the key alone.
            pass

    def generated(self, operation, mode, count):
        """Valid or invalid cases. Every other one asks for a job or a result that is there."""
        jobs, urls = list(self.found.jobs), list(self.found.addresses)

        def change(case, data):
            # Keys are generated, too: most cases have the right one. Wrong admin tokens are for the end, because the right one is
            # refused behind them.
            if self.is_operator or data.draw(st.sampled_from([True, True, True, False])):
                for name in KEY_HEADERS:
                    case.headers.pop(name, None)
            if "/predictions/" in operation.path and jobs and data.draw(st.booleans()):
                case.path_parameters["id"] = data.draw(st.sampled_from(jobs))
            if "/results/" in operation.path and urls and data.draw(st.booleans()):
                address = urllib.parse.urlsplit(data.draw(st.sampled_from(urls)))
                case.path_parameters["job"], case.path_parameters["index"] = address.path.split("/")[-2:]
                case.query.update(urllib.parse.parse_qsl(address.query))

        strategy = operation.as_strategy(generation_mode=mode)
        self.run(operation, strategy, count - count // 10, self.headers(), change)
        # One in ten has no key, or one that is generated.
        self.run(operation, strategy, count // 10, {}, change if self.is_operator else None)

    def wrong_tokens(self, operation, count):
        """Guesses of the admin token."""

        def change(case, data):
            for name in KEY_HEADERS:
                case.headers.pop(name, None)

        strategy = operation.as_strategy()
        self.run(operation, strategy, count, {"Authorization": "Bearer wrong"}, change)

    def bought(self, operation, count):
        bodies = real_bodies(operation.path, self.images)

        def change(case, data):
            case.media_type, case.body = data.draw(bodies)
            if "deployment" in (case.path_parameters or {}):
                case.path_parameters["deployment"] = data.draw(st.sampled_from(MODELS))
            streamed = isinstance(case.body, dict) and data.draw(st.sampled_from([False, False, False, True]))
            if streamed and case.body.get("response_format") != "url":
                case.body["stream"] = True
            case.headers.clear()
            case.query.clear()

        self.run(operation, operation.as_strategy(), count, self.headers(), change)

    def follow(self, operation):
        """A stream without an end: its head and its first event."""
        session = requests.Session()
        session.trust_env = False
        url = f"{self.base}{operation.path}"
        with session, session.get(url, headers=self.headers(), stream=True, timeout=REQUEST_TIMEOUT_S) as response:
            line = next(response.iter_lines())
            media_type = response.headers["content-type"]
        if (response.status_code, media_type, line[:6]) != (200, "text/event-stream", b"event:"):
            raise AssertionError(f"GET {url}: {response.status_code}, {media_type}, {line[:100]}")
        with self.found.lock:
            self.found.counts[self.label(operation)][response.status_code] += 1

    def headers(self):
        return {"Authorization": f"Bearer {self.key}"} if self.key else {}


def causes(error):
    """An exception with those inside it."""
    inner = "".join(f"\n    {causes(one)}" for one in getattr(error, "exceptions", []))
    return f"{type(error).__name__}: {error}{inner}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--client", required=True)
    parser.add_argument("--operator", required=True)
    parser.add_argument("--key", default="sk-sandbox")
    parser.add_argument("--admin-token", default="")
    parser.add_argument("--cases", type=int, default=2000, help="at least as many cases in all")
    parser.add_argument("--pictures", type=int, default=100, help="at least as many answers of 200 from each route that makes pictures")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    begun, found = time.monotonic(), Found()
    client = Attack(arguments.client, arguments.key, found, arguments.seed)
    operator = Attack(arguments.operator, arguments.admin_token, found, arguments.seed, is_operator=True)
    total = len(client.operations) + len(operator.operations)
    each = max(20, -(-arguments.cases // total // 2))
    makers, tasks = set(), []

    def generated(attack, operations):
        for operation in operations:
            if operation.path in ENDLESS:
                yield pool.submit(attack.follow, operation)
                continue
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                yield pool.submit(attack.generated, operation, mode, each)

    # One after the other: jobs and results of the first are asked for by the second, the third pauses the account that buys, and the
    # last guesses admin tokens, after which the right one is refused for a time.
    with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
        for operation in client.operations:
            if operation.path.endswith(MAKERS):
                makers.add(client.label(operation))
                # In parts, which wait for their pictures side by side.
                for part in range(PARTS):
                    count = -(-arguments.pictures * 5 // 4 // PARTS)
                    tasks.append(pool.submit(client.with_seed(part).bought, operation, count))
        concurrent.futures.wait(tasks)
        tasks += generated(client, client.operations)
        concurrent.futures.wait(tasks)
        logins = [operation for operation in operator.operations if operation.path == LOGIN]
        tasks += generated(operator, [operation for operation in operator.operations if operation.path != LOGIN])
        concurrent.futures.wait(tasks)
        tasks += generated(operator, logins)
        tasks += [
            pool.submit(operator.wrong_tokens, operation, each // 4)
            for operation in operator.operations
            if "/admin/" in operation.path
        ]
    errors = [task.exception() for task in tasks if task.exception()]

    cases = 0
    for label in sorted(found.counts):
        counts = found.counts[label]
        cases += counts.total()
        print(f"{label:<62} {counts.total():>5}  " + "  ".join(f"{status}: {counts[status]}" for status in sorted(counts)))
    problems = []
    for (label, status, title, message), command in found.failures.items():
        problems.append(f"{label}, {status}: {title}: {message}\n    {command}")
    problems += [f"not carried out: {causes(error)}" for error in errors]
    if cases < arguments.cases:
        problems.append(f"{cases} cases, at least {arguments.cases} are wanted")
    for label in makers:
        if (came := found.counts[label][200]) < arguments.pictures:
            problems.append(f"{label}: {came} answers of 200, at least {arguments.pictures} are wanted")
    print(f"{cases} cases in {time.monotonic() - begun:.0f} s, {len(problems)} problems")
    for problem in problems:
        print(f"\n{problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
