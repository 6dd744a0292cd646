"""What both Python suites share. `run.sh python` starts the gateways and names them in the environment."""

import base64
import io
import json
import os
import pathlib
import sys
import urllib.request
import uuid

import pytest

try:
    import openai
    from PIL import Image
except ImportError as error:
    sys.exit(f"{error.name} is missing: pip install -r tests/clients/requirements.txt")


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


def picture_of(item, size=None, kind="PNG"):
    """The picture of one item of an answer in base64."""
    assert item.url is None
    picture = opened(base64.b64decode(item.b64_json, validate=True), size)
    assert picture.format == kind
    return picture


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
