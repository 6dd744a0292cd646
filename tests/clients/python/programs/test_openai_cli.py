"""The command `openai api images.edit`, which the official Python SDK brought up to its first major version."""

import json
import os
import pathlib
import subprocess
import sys

import openai
import pytest
from conftest import MASK, PHOTO, prompt, setting

os.environ["SUITE_VERSION"] = openai.__version__

# Nothing that a test before ordered is left.
pytestmark = pytest.mark.usefixtures("simulator")


def command(action, *arguments, words="paint it blue"):
    # Its option for the address forgets the slash before the path.
    environment = {
        "OPENAI_BASE_URL": setting("SUITE_FAULTY") + "/v1",
        "OPENAI_API_KEY": setting("SUITE_KEY"),
        "PATH": os.environ["PATH"],
    }
    program = pathlib.Path(sys.executable).parent / "openai"
    common = ["-m", "gpt-image-1.5", "-p", prompt(words), "-s", "256x256"]
    return subprocess.run(
        [program, "api", f"images.{action}", *common, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def item_of(done):
    assert done.returncode == 0, done.stderr
    (item,) = json.loads(done.stdout)["data"]
    return item


@pytest.mark.cell("edit")
def test_edit():
    assert item_of(command("edit", "-I", str(PHOTO), "--response-format", "b64_json"))["b64_json"]


@pytest.mark.cell("mask")
def test_edit_with_a_mask():
    assert item_of(command("edit", "-I", str(PHOTO), "-M", str(MASK), "--response-format", "b64_json"))["b64_json"]


@pytest.mark.cell("url")
def test_an_address_instead_of_base64():
    item = item_of(command("edit", "-I", str(PHOTO), "--response-format", "url"))
    assert item["url"].startswith(setting("SUITE_FAULTY") + "/")


@pytest.mark.cell("generate")
def test_generate():
    assert item_of(command("generate", "--response-format", "b64_json"))["b64_json"]


@pytest.mark.cell("errors")
def test_a_forbidden_prompt(simulator):
    done = command("edit", "-I", str(PHOTO), words="forbidden-picture")
    assert done.returncode != 0
    assert "moderation_blocked" in done.stderr
