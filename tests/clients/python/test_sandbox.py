"""The official Python SDK against a sandbox, in all the ways it can ask for pictures."""

import asyncio
import base64
import io
import json
import urllib.request

import openai
import pytest
from conftest import MASK, PHOTO, SECOND, opened, picture_of, prompt, setting

MODEL = "gpt-image-1.5"
# Small and cheap, so that the suite is quick.
SMALL = {"model": MODEL, "size": "256x256", "quality": "low"}


@pytest.mark.cell("edit")
def test_edit_with_a_file_object(client):
    with PHOTO.open("rb") as file:
        answer = client.images.edit(image=file, prompt=prompt(), **SMALL)
    assert len(answer.data) == 1
    picture_of(answer.data[0], "256x256")
    assert isinstance(answer.created, int)


@pytest.mark.cell("edit")
def test_edit_with_a_path(client):
    answer = client.images.edit(image=PHOTO, prompt=prompt(), **SMALL)
    picture_of(answer.data[0], "256x256")


@pytest.mark.cell("bytes")
def test_edit_with_a_buffer_that_has_a_name(client):
    """As Dify's plugin does."""
    buffer = io.BytesIO(PHOTO.read_bytes())
    buffer.name = "photo.png"
    answer = client.images.edit(image=buffer, prompt=prompt(), **SMALL)
    picture_of(answer.data[0], "256x256")


@pytest.mark.cell("list")
def test_edit_with_a_list_of_images(client):
    answer = client.images.edit(image=[PHOTO, SECOND], prompt=prompt(), **SMALL)
    picture_of(answer.data[0], "256x256")


@pytest.mark.cell("list")
def test_edit_with_a_list_of_one_image(client):
    answer = client.images.edit(image=[PHOTO], prompt=prompt(), **SMALL)
    picture_of(answer.data[0], "256x256")


@pytest.mark.cell("bytes")
def test_edit_with_raw_bytes_of_unnamed_type(client):
    answer = client.images.edit(image=PHOTO.read_bytes(), prompt=prompt(), **SMALL)
    picture_of(answer.data[0], "256x256")


def test_edit_with_a_jpeg_that_is_called_png(client):
    buffer = io.BytesIO()
    opened(PHOTO.read_bytes()).save(buffer, "JPEG")
    answer = client.images.edit(image=("image.png", buffer.getvalue(), "image/png"), prompt=prompt(), **SMALL)
    picture_of(answer.data[0], "256x256")


@pytest.mark.cell("mask")
def test_edit_with_a_mask(client):
    answer = client.images.edit(image=PHOTO, mask=MASK, prompt=prompt(), **SMALL)
    picture_of(answer.data[0], "256x256")


def test_edit_as_json_by_plain_http(client):
    image = "data:image/png;base64," + base64.b64encode(PHOTO.read_bytes()).decode()
    body = {"prompt": prompt(), "images": [{"image_url": image}], **SMALL}
    request = urllib.request.Request(
        setting("SUITE_GATEWAY") + "/v1/images/edits",
        json.dumps(body).encode(),
        {"content-type": "application/json", "authorization": "Bearer " + setting("SUITE_SANDBOX_KEY")},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.headers["content-type"].startswith("application/json")
        item = json.load(answer)["data"][0]
    opened(base64.b64decode(item["b64_json"], validate=True), "256x256")


def test_edit_with_the_defaults_of_the_sdk(client):
    answer = client.images.edit(image=PHOTO, prompt=prompt())
    picture_of(answer.data[0], answer.size)
    assert answer.quality in ("low", "medium", "high")
    assert answer.background in ("opaque", "transparent")
    assert answer.output_format == "png"


@pytest.mark.cell("edit")
@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_another_format_of_the_same_picture(client, kind):
    same = prompt()
    plain = picture_of(client.images.edit(image=PHOTO, prompt=same, **SMALL).data[0], "256x256")
    answer = client.images.with_raw_response.edit(image=PHOTO, prompt=same, output_format=kind, **SMALL)
    assert answer.headers["x-gateway-cache"] == "hit"
    answer = answer.parse()
    assert answer.output_format == kind
    converted = picture_of(answer.data[0], "256x256", kind.upper())
    if kind == "png":
        assert converted.tobytes() == plain.tobytes()


def test_less_quality_is_fewer_bytes(client):
    same = prompt()

    def size(compression):
        answer = client.images.generate(prompt=same, output_format="webp", output_compression=compression, **SMALL)
        picture_of(answer.data[0], "256x256", "WEBP")
        return len(answer.data[0].b64_json)

    assert size(10) < size(60) < size(100)


@pytest.mark.cell("generate")
def test_generate(client):
    answer = client.images.generate(prompt=prompt("a harbour"), **SMALL)
    picture_of(answer.data[0], "256x256")


def test_two_pictures_at_once(client):
    answer = client.images.edit(image=PHOTO, prompt=prompt(), n=2, **SMALL)
    pictures = [picture_of(item, "256x256").tobytes() for item in answer.data]
    assert len(pictures) == 2
    assert pictures[0] != pictures[1]


def test_two_pictures_of_a_model_that_makes_one_at_a_time(client):
    answer = client.images.edit(image=PHOTO, prompt=prompt(), n=2, model="gpt-image-2-plus", size="941x1672")
    assert [picture_of(item, "941x1672").format for item in answer.data] == ["PNG", "PNG"]


def test_size_and_quality_are_as_asked(client):
    answer = client.images.edit(image=PHOTO, prompt=prompt(), model=MODEL, size="1024x1536", quality="low")
    picture_of(answer.data[0], "1024x1536")
    assert answer.size == "1024x1536"
    assert answer.quality == "low"


@pytest.mark.parametrize("kind", ["jpeg", "webp"])
def test_an_event_has_the_format_as_asked(client, kind):
    (event,) = client.images.edit(image=PHOTO, prompt=prompt(), stream=True, output_format=kind, **SMALL)
    assert event.output_format == kind
    assert opened(base64.b64decode(event.b64_json, validate=True), "256x256").format == kind.upper()


def test_an_address_leads_to_the_format(client):
    answer = client.images.edit(image=PHOTO, prompt=prompt(), output_format="webp", response_format="url", **SMALL)
    with urllib.request.urlopen(answer.data[0].url, timeout=10) as download:
        assert download.headers["content-type"] == "image/webp"
        assert opened(download.read(), "256x256").format == "WEBP"


@pytest.mark.cell("edit")
def test_a_transparent_background(client):
    answer = client.images.edit(
        image=PHOTO,
        prompt=prompt(),
        model="gpt-image-1",
        size="1024x1024",
        quality="low",
        background="transparent",
        input_fidelity="high",
    )
    assert picture_of(answer.data[0], "1024x1024").mode == "RGBA"
    assert answer.background == "transparent"


@pytest.mark.cell("mask")
def test_a_mask_for_a_model_that_has_it_on_another_route(client):
    answer = client.images.edit(
        image=PHOTO, mask=MASK, prompt=prompt(), model="gpt-image-2", size="1024x1024", quality="low"
    )
    picture_of(answer.data[0], "1024x1024")


def test_usage_is_complete(client):
    usage = client.images.edit(image=PHOTO, prompt=prompt(), **SMALL).usage
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens
    assert usage.output_tokens > 0
    assert usage.input_tokens_details.image_tokens + usage.input_tokens_details.text_tokens == usage.input_tokens


@pytest.mark.cell("url")
def test_an_address_instead_of_base64(client):
    answer = client.images.edit(image=PHOTO, prompt=prompt(), response_format="url", **SMALL)
    item = answer.data[0]
    assert item.b64_json is None
    assert item.url.startswith(setting("SUITE_GATEWAY") + "/")
    # Without a key: the address is signed.
    with urllib.request.urlopen(item.url, timeout=10) as answer:
        assert answer.headers["content-type"] == "image/png"
        opened(answer.read(), "256x256")


def test_models_are_listed(client):
    models = {model.id: model for model in client.models.list()}
    assert {"gpt-image-1.5", "gpt-image-2"} <= models.keys()
    assert all(model.object == "model" and model.created > 0 for model in models.values())


def test_a_model_is_retrieved(client):
    assert client.models.retrieve(MODEL).id == MODEL


def test_it_says_that_it_is_a_sandbox(client):
    answer = client.images.with_raw_response.edit(image=PHOTO, prompt=prompt(), **SMALL)
    assert answer.headers["x-gateway-sandbox"] == "true"


def test_the_answers_pass_strict_validation(client):
    strict = openai.OpenAI(base_url=client.base_url, api_key=client.api_key, _strict_response_validation=True)
    answer = strict.images.edit(image=PHOTO, prompt=prompt(), **SMALL)
    picture_of(answer.data[0], "256x256")
    assert strict.models.retrieve(MODEL).id == MODEL


def test_three_at_once_with_the_asynchronous_client(client):
    async def ask():
        async with openai.AsyncOpenAI(base_url=client.base_url, api_key=client.api_key) as together:
            edits = (together.images.edit(image=PHOTO, prompt=prompt(), **SMALL) for _ in range(3))
            return await asyncio.gather(*edits)

    pictures = {picture_of(answer.data[0], "256x256").tobytes() for answer in asyncio.run(ask())}
    assert len(pictures) == 3
