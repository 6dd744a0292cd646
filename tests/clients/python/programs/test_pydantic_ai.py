"""pydantic-ai itself, through openai-python: always `image[]`, and careful about what comes back."""

import importlib.metadata
import os

import openai
import pytest
from conftest import PHOTO, SECOND, opened, prompt, setting
from pydantic_ai import BinaryImage
from pydantic_ai.exceptions import ContentFilterError, ModelHTTPError
from pydantic_ai.images import ImageGenerator
from pydantic_ai.images.openai import OpenAIImageGenerationModel
from pydantic_ai.providers.openai import OpenAIProvider

os.environ["SUITE_VERSION"] = importlib.metadata.version("pydantic-ai-slim")
# Nothing that a test before ordered is left.
pytestmark = pytest.mark.usefixtures("simulator")
SMALL = {"openai_size": "256x256", "openai_quality": "low"}


def generator(gateway="SUITE_FAULTY", key=None, **options):
    key = key or setting("SUITE_KEY")
    client = openai.AsyncOpenAI(base_url=setting(gateway) + "/v1", api_key=key, **options)
    return ImageGenerator(OpenAIImageGenerationModel("gpt-image-1.5", provider=OpenAIProvider(openai_client=client)))


def binary(path):
    return BinaryImage(path.read_bytes(), media_type="image/png")


def edit(words="paint it blue", images=(PHOTO,), **options):
    made = generator(**options).generate_sync(prompt(words), images=[binary(path) for path in images], settings=SMALL)
    (image,) = made.images
    return opened(image.content.data, "256x256")


@pytest.mark.cell("edit")
def test_edit():
    edit()


@pytest.mark.cell("list")
def test_edit_of_a_list():
    edit(images=(PHOTO, SECOND))


@pytest.mark.cell("generate")
def test_generate():
    made = generator().generate_sync(prompt("a harbour"), settings=SMALL)
    opened(made.images[0].content.data, "256x256")


@pytest.mark.cell("errors")
def test_a_forbidden_prompt_is_its_content_filter(simulator):
    with pytest.raises(ContentFilterError):
        edit("forbidden-picture")


@pytest.mark.cell("errors")
def test_a_wrong_key(simulator):
    with pytest.raises(ModelHTTPError) as caught:
        edit(key="sk-nobody-knows-this-one")
    assert caught.value.status_code == 401
    assert caught.value.body["code"] == "invalid_api_key"


@pytest.mark.cell("retry")
def test_a_retry_after_a_time_out_joins_what_it_began(simulator):
    simulator.slow(seconds=2)
    edit(timeout=1.2, default_headers={"x-stainless-read-timeout": "600"})
    assert simulator.submits == 1


@pytest.mark.cell("waits")
@pytest.mark.parametrize("kept_by", ["SUITE_INTERIM", "SUITE_WHITESPACE"])
def test_it_waits_for_a_slow_picture(simulator, kept_by):
    simulator.slow(seconds=4)
    edit(gateway=kept_by, timeout=3, max_retries=0)
    assert simulator.submits == 1
