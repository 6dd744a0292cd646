"""LiteLLM itself: it always sends `image[]`, calls every file image.png, and never asks again by itself."""

import base64
import importlib.metadata
import io
import os

import pytest
from conftest import MASK, PHOTO, SECOND, opened, prompt, setting

# Its model list would be fetched from the network.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
import litellm  # noqa: E402  (the variable is read on import)

os.environ["SUITE_VERSION"] = importlib.metadata.version("litellm")
litellm.telemetry = False
# Nothing that a test before ordered is left.
pytestmark = pytest.mark.usefixtures("simulator")
SMALL = {"model": "openai/gpt-image-1.5", "size": "256x256", "quality": "low"}


def gateway():
    return {"api_base": setting("SUITE_FAULTY") + "/v1", "api_key": setting("SUITE_KEY")}


def checked(answer):
    (item,) = answer.data
    return opened(base64.b64decode(item.b64_json, validate=True), "256x256")


@pytest.mark.cell("edit")
def test_edit():
    with PHOTO.open("rb") as photo:
        checked(litellm.image_edit(image=photo, prompt=prompt(), **SMALL, **gateway()))


@pytest.mark.cell("list")
def test_edit_of_a_list():
    images = [PHOTO.read_bytes(), SECOND.read_bytes()]
    checked(litellm.image_edit(image=images, prompt=prompt(), **SMALL, **gateway()))


@pytest.mark.cell("bytes")
def test_edit_of_a_jpeg_that_it_calls_png():
    jpeg = io.BytesIO()
    opened(PHOTO.read_bytes()).save(jpeg, "JPEG")
    checked(litellm.image_edit(image=jpeg.getvalue(), prompt=prompt(), **SMALL, **gateway()))


@pytest.mark.cell("mask")
def test_edit_with_a_mask():
    with PHOTO.open("rb") as photo, MASK.open("rb") as mask:
        checked(litellm.image_edit(image=photo, mask=mask, prompt=prompt(), **SMALL, **gateway()))


@pytest.mark.cell("generate")
def test_generate():
    checked(litellm.image_generation(prompt=prompt("a harbour"), **SMALL, **gateway()))


@pytest.mark.cell("url")
def test_an_address_instead_of_base64():
    answer = litellm.image_edit(image=PHOTO.read_bytes(), prompt=prompt(), response_format="url", **SMALL, **gateway())
    assert answer.data[0].url.startswith(setting("SUITE_FAULTY") + "/")


@pytest.mark.cell("errors")
@pytest.mark.parametrize(
    ("asked", "kind", "code"),
    [
        ({"api_key": "sk-nobody-knows-this-one"}, litellm.AuthenticationError, "invalid_api_key"),
        ({"prompt": "forbidden-picture"}, litellm.BadRequestError, "moderation_blocked"),
        ({"size": "257x259"}, litellm.BadRequestError, "invalid_value"),
    ],
)
def test_a_refusal(simulator, asked, kind, code):
    with pytest.raises(kind) as caught:
        litellm.image_edit(**{"image": PHOTO.read_bytes(), "prompt": prompt(), **SMALL, **gateway(), **asked})
    # It puts the whole body into its message.
    assert code in str(caught.value)


@pytest.mark.cell("errors")
def test_an_exhausted_balance(simulator):
    simulator.scenario(balance={"usd": 0.0})
    with pytest.raises(litellm.RateLimitError) as caught:
        litellm.image_edit(image=PHOTO.read_bytes(), prompt=prompt(), **SMALL, **gateway())
    assert "insufficient_quota" in str(caught.value)


@pytest.mark.cell("retry")
def test_what_is_asked_again_after_a_time_out_is_bought_once(simulator):
    simulator.slow(seconds=2)
    asked = {"image": PHOTO.read_bytes(), "prompt": prompt(), **SMALL, **gateway()}
    with pytest.raises(litellm.Timeout):
        litellm.image_edit(timeout=1, **asked)
    checked(litellm.image_edit(**asked))
    assert simulator.submits == 1


@pytest.mark.cell("waits")
@pytest.mark.parametrize("kept_by", ["SUITE_INTERIM", "SUITE_WHITESPACE"])
def test_it_waits_for_a_slow_picture(simulator, kept_by):
    simulator.slow(seconds=3)
    asked = {**SMALL, **gateway(), "api_base": setting(kept_by) + "/v1"}
    checked(litellm.image_edit(image=PHOTO.read_bytes(), prompt=prompt(), timeout=2, **asked))
