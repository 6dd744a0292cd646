"""GPTProto's own SDK against the simulator. `vendor_sdk.sh` starts the one and installs the other."""

import base64
import json
import os
import pathlib
import struct
import sys
import urllib.request

try:
    from gptproto import GptprotoClient, TaskFailedError, TaskTimeoutError
    from gptproto.api.image import create_image
    from gptproto.client import AuthenticatedClient
    from gptproto.models import (
        ImageReference,
        ImageReferenceType,
        ImageUrl,
        UnifiedErrorResponse,
        UnifiedImageRequest,
        UnifiedImageRequestOutputFormat,
        UnifiedImageRequestQuality,
        UnifiedTaskResultStatus,
    )
except ImportError as error:
    sys.exit(f"{error.name} is missing: pip install -r tests/clients/python/requirements/vendor.txt")


def setting(name):
    value = os.environ.get(name)
    if not value:
        sys.exit(f"{name} is not set: start this with tests/clients/vendor_sdk.sh")
    return value


SIMULATOR = setting("SUITE_SIMULATOR")
KEY = setting("SUITE_KEY")
PICTURES = pathlib.Path(setting("SUITE_PICTURES"))
PHOTO, SECOND = (PICTURES / name for name in ("photo.png", "second.png"))
MODEL = "openai/gpt-image-2"


def control(route, above=None):
    """Reads a control route of the simulator, or lays an object over its scenario."""
    body = None if above is None else json.dumps(above).encode()
    request = urllib.request.Request(
        f"{SIMULATOR}/_simulator/{route}", data=body, method="GET" if body is None else "PUT"
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def fetched(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.headers["content-type"], answer.read()


def check_png(picture, width, height):
    assert picture.startswith(b"\x89PNG\r\n\x1a\n"), picture[:16]
    assert struct.unpack(">II", picture[16:24]) == (width, height)


def sdk(key=KEY):
    return GptprotoClient(api_key=key, base_url=SIMULATOR)


def asked(prompt, **more):
    body = {"model": MODEL, "prompt": prompt, "quality": UnifiedImageRequestQuality.LOW, **more}
    return UnifiedImageRequest(**body)


def run(body, **more):
    return sdk().run("image", body, poll_interval=0.05, **{"timeout": 30, **more})


def reference(url):
    return ImageReference(type_=ImageReferenceType.IMAGE_URL, image_url=ImageUrl(url=url))


def data_uri(path):
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def error_of(call, *expected):
    """The exception of a call, which must be of exactly this class."""
    try:
        result = call()
    except expected as error:
        assert type(error) in expected, type(error)
        return error
    raise AssertionError(f"no error, but {result}")


def test_a_picture_is_made_awaited_and_downloaded():
    words = []
    body = asked("a fox", size="1024x1536", n=2)
    result = run(body, on_status=lambda _, word: words.append(word))
    assert result.status is UnifiedTaskResultStatus.COMPLETED and words[-1] == "completed"
    assert set(words) <= {"pending", "in_progress", "completed"} and len(words) > 1, words
    assert result.polling_url == f"{SIMULATOR}/api/v3/tasks/result/{result.id}"
    assert result.model == MODEL and result.usage["output_tokens"] > 0
    assert result.created_at < result.completed_at
    assert len(result.unsigned_urls) == 2
    kind, picture = fetched(result.unsigned_urls[0])
    assert kind == "image/png"
    check_png(picture, 1024, 1536)


def test_an_edit_takes_two_pictures_in_order():
    seen = []
    for paths in ((PHOTO, SECOND), (SECOND, PHOTO)):
        references = [reference(data_uri(path)) for path in paths]
        result = run(asked("blend them", input_references=references))
        check_png(fetched(result.unsigned_urls[0])[1], 1024, 1024)
        bought = control("predictions")[-1]
        assert (bought["id"], bought["api"], bought["capability"]) == (result.id, "unified", "image-edit")
        sent = [one["image_url"]["url"]["bytes"] for one in bought["parameters"]["input_references"]]
        assert sent == [path.stat().st_size for path in paths]
        seen.append([one["digest"] for one in bought["inputs"]])
    assert seen[0] == seen[1][::-1] and len(set(seen[0])) == 2


def test_a_link_is_fetched():
    first = run(asked("a sun"))
    before = control("counters")["links_fetched"]
    second = run(asked("the same at night", input_references=[reference(first.unsigned_urls[0])]))
    assert second.status is UnifiedTaskResultStatus.COMPLETED
    assert control("counters")["links_fetched"] == before + 1
    gone = reference(f"{SIMULATOR}/files/nothing/0.png")
    error = error_of(lambda: run(asked("the same", input_references=[gone])), TaskFailedError)
    assert "image url" in error.error


def test_the_format_is_as_asked():
    result = run(asked("a fox", output_format=UnifiedImageRequestOutputFormat.WEBP))
    kind, picture = fetched(result.unsigned_urls[0])
    assert kind == "image/webp" and picture[:4] == b"RIFF" and picture[8:12] == b"WEBP"


def test_a_bad_key_an_unknown_model_and_policy_are_rejected():
    before = control("counters")["submits_accepted"]
    # The SDK has no class of its own for what the service rejects.
    for call, text in (
        (lambda: sdk("sk-wrong").create("image", asked("a fox")), "code=401 message=Invalid signature"),
        (lambda: sdk("sk-wrong").get("0" * 32, "image"), "code=401 message=Invalid signature"),
        (lambda: run(asked("a fox", model="openai/gpt-image-9")), "code=400 message=Invalid model"),
        (lambda: run(asked("a forbidden-picture")), "message=Input may not meet the guidelines"),
    ):
        error = error_of(call, RuntimeError)
        assert str(error).startswith("request rejected: ") and text in str(error), error
    assert control("counters")["submits_accepted"] == before
    client = AuthenticatedClient(base_url=SIMULATOR, token="sk-wrong")
    parsed = create_image.sync(client=client, body=asked("a fox"))
    assert isinstance(parsed, UnifiedErrorResponse) and parsed.error.code == 401


def test_policy_in_the_task_is_a_failed_task():
    control("scenario", {"policy": {"answer": "task"}})
    error = error_of(lambda: run(asked("a forbidden-picture")), TaskFailedError)
    assert error.status == "failed" and "guidelines" in error.error
    control("scenario", {"policy": {"answer": "submit400"}})


def test_a_task_that_does_not_end_times_out():
    control("scenario", {"life": {"outcome": "stuck"}})
    error_of(lambda: run(asked("a fox"), timeout=0.3), TaskTimeoutError)
    control("scenario", {"life": {"outcome": "completed"}})


def main():
    passed, failed = 0, 0
    for name, test in list(globals().items()):
        if not name.startswith("test_"):
            continue
        words = name.removeprefix("test_").replace("_", " ")
        try:
            test()
        except Exception as error:
            failed += 1
            print(f"FAILED  {words}: {type(error).__name__}: {error}")
        else:
            passed += 1
            print(f"ok      {words}")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


sys.exit(main())
