"""What the Python suites share. `run.sh python` starts the gateways and names them in the environment.

The mark `cell(column)` leads to the table that run.sh prints: it says which cell of its client's row a test fills.
"""

import base64
import http.client
import io
import json
import os
import pathlib
import sys
import urllib.parse
import urllib.request
import uuid

import pytest

try:
    import openai
    from PIL import Image
except ImportError as error:
    sys.exit(f"{error.name} is missing: pip install -r tests/clients/python/requirements/newest.txt")


def setting(name):
    value = os.environ.get(name)
    if not value:
        sys.exit(f"{name} is not set: start the suite with tests/clients/run.sh python")
    return value


PICTURES = pathlib.Path(setting("SUITE_PICTURES"))
PHOTO = PICTURES / "photo.png"
SECOND = PICTURES / "second.png"
MASK = PICTURES / "mask.png"
LARGE = PICTURES / "large.png"
HUGE = PICTURES / "huge.png"


def prompt(words="paint it blue"):
    """A prompt that no other test uses, so that nothing is answered from the cache by accident."""
    return f"{words} {uuid.uuid4().hex}"


def opened(data, size=None):
    """The picture, decoded whole; `size` is checked when given."""
    picture = Image.open(io.BytesIO(data))
    picture.load()
    if size:
        assert f"{picture.width}x{picture.height}" == size
    return picture


def raw_edit(gateway, **fields):
    """An edit as JSON, as an HTTP connection whose answer is to be read, past any client's own ideas."""
    at = urllib.parse.urlsplit(setting(gateway))
    connection = http.client.HTTPConnection(at.hostname, at.port, timeout=30)
    image = "data:image/png;base64," + base64.b64encode(PHOTO.read_bytes()).decode()
    body = {"prompt": prompt(), "images": [{"image_url": image}], **fields}
    headers = {"content-type": "application/json", "authorization": "Bearer " + setting("SUITE_KEY")}
    connection.request("POST", "/v1/images/edits", json.dumps(body), headers)
    return connection


def picture_of(item, size=None, kind="PNG"):
    """The picture of one item of an answer in base64."""
    assert item.url is None
    picture = opened(base64.b64decode(item.b64_json, validate=True), size)
    assert picture.format == kind
    return picture


# Reasons, by the test that they are about: what differs with this profile of the simulator.
DIFFERENCES = json.loads((pathlib.Path(__file__).parent.parent / "lib" / "differences.json").read_text())
LEFT_OUT = {name: reason for reason, names in DIFFERENCES.get(setting("SUITE_PROFILE"), {}).items() for name in names}


def pytest_collection_modifyitems(items):
    for item in items:
        if item.name in LEFT_OUT:
            item.add_marker(pytest.mark.skip(reason=LEFT_OUT[item.name]))


def pytest_configure(config):
    config.addinivalue_line("markers", "cell(column): the cell of the table that the test fills")


def client_of_row(item):
    """The client whose row a test belongs to: that of its parameter, or the one the whole run is for."""
    sender = getattr(item, "callspec", None) and item.callspec.params.get("sender")
    if sender:
        return sender.name, sender.version
    return setting("SUITE_CLIENT"), os.environ.get("SUITE_VERSION", openai.__version__)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.failed or report.when == "call" and report.passed:
        client, version = client_of_row(item)
        with open(setting("SUITE_RESULTS"), "a", encoding="utf-8") as results:
            for mark in item.iter_markers("cell"):
                line = {"client": client, "version": version, "cell": mark.args[0], "verdict": report.outcome}
                results.write(json.dumps({**line, "test": item.nodeid}) + "\n")
    return report


class Simulator:
    """The control routes of the simulator."""

    def __init__(self, address):
        self.address = address

    def ask(self, method, route, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.address}/_simulator/{route}", data, method=method)
        with urllib.request.urlopen(request, timeout=5) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    @property
    def counters(self):
        return self.ask("GET", "counters")

    @property
    def submits(self):
        return self.counters["submits"]

    def scenario(self, **sections):
        self.ask("PUT", "scenario", sections)

    def slow(self, seconds, **life):
        """Sets how long every picture takes; the simulator runs a hundred times as fast as its clock."""
        self.scenario(life={"low_ms": [int(seconds * 100_000)] * 2, "size_counts": "no", **life})

    def fault(self, on, fault, **more):
        self.ask("POST", "faults", {"on": on, "fault": fault, **more})

    def reset(self):
        self.ask("POST", "reset")


@pytest.fixture
def client():
    """A client of the sandbox, as its banner tells a newcomer to make one."""
    with openai.OpenAI(base_url=setting("SUITE_GATEWAY") + "/v1", api_key=setting("SUITE_SANDBOX_KEY")) as client:
        yield client


@pytest.fixture
def simulator():
    simulator = Simulator(setting("SUITE_SIMULATOR"))
    simulator.reset()
    yield simulator
    simulator.reset()


def client_of(name, **options):
    return openai.OpenAI(base_url=setting(name) + "/v1", api_key=setting("SUITE_KEY"), **options)


@pytest.fixture
def once():
    """A client that never asks again by itself."""
    with client_of("SUITE_FAULTY", max_retries=0) as client:
        yield client


@pytest.fixture
def usual():
    """A client as it is made by default: it retries twice."""
    with client_of("SUITE_FAULTY") as client:
        yield client
