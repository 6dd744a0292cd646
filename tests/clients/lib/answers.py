"""Holds every answer that passed the recorder against the schemas of OpenAI's public OpenAPI document.

    python3 answers.py FILE...

What is checked is what clients rely on: the shape of answers, of errors and of each event of a stream, and the headers
that every answer carries. An answer that was cut off, by the client or by a fault, is counted and not checked.
"""

import collections
import json
import pathlib
import re
import sys

import jsonschema

SCHEMAS = {
    path.stem: jsonschema.Draft202012Validator(
        json.loads(path.read_text()), format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )
    for path in (pathlib.Path(__file__).parent / "schemas").glob("*.json")
}
SHOWN_MAX = 10
# What must be among the answers when a lane has run: else nothing was recorded. The sandbox stands beside every lane.
NEEDED = {
    "python_newest": {"images_response", "error_response", "list_models_response", "model"},
    "node_newest": {"images_response", "error_response"},
    "programs_in_python": {"images_response", "error_response"},
    "chat_programs": {"chat_completion", "chat_completion_chunk", "error_response"},
    "curl_alone": {"images_response", "error_response"},
}


def events_of(body):
    """The (event, data) pairs of a whole stream; comments are left out."""
    for block in re.split(r"\r?\n\r?\n", body):
        fields = collections.defaultdict(list)
        for line in block.splitlines():
            name, _, value = line.partition(":")
            fields[name].append(value.removeprefix(" "))
        if fields["event"] or fields["data"]:
            yield "".join(fields["event"]), "\n".join(fields["data"])


def path_of(said):
    return re.sub(r"^/v1(?=/)|^/openai(/deployments/[^/]+|/v1)?(?=/)", "", said["path"].partition("?")[0]).rstrip("/")


def schema_of(said):
    """Returns the schema that the body must follow; None for routes that OpenAI does not have."""
    path = path_of(said)
    if said["status"] >= 400:
        return "error_response"
    if said["status"] == 200 and re.search(r"/images/(edits|generations)$", path):
        return "images_response"
    if said["status"] == 200 and path == "/chat/completions":
        return "chat_completion"
    if said["status"] == 202 or said["status"] == 200 and path.startswith("/predictions/"):
        return "prediction"
    if said["status"] == 200 and path == "/models":
        return "list_models_response"
    if said["status"] == 200 and path.startswith("/models/"):
        return "model"
    return None


def faults_of(name, value):
    for error in SCHEMAS[name].iter_errors(value):
        yield f"{name}: {error.json_path}: {error.message[:200]}"


def check_chunks(said, counts):
    """A stream of a chat ends with [DONE], or with an error."""
    end, first = None, None
    for event, data in events_of(said["body"]):
        if event:
            yield f"a chunk is the event {event!r}"
        if end:
            yield f"after {end}: {data[:100]}"
        if data == "[DONE]":
            end = data
            continue
        value = json.loads(data)
        name = "error_response" if "error" in value else "chat_completion_chunk"
        counts[name] += 1
        yield from faults_of(name, value)
        if name == "error_response":
            end = "an error"
            continue
        same = {key: value.get(key) for key in ("id", "created", "model")}
        first = first or same
        if same != first:
            yield f"chat_completion_chunk: {same} follows {first}"
    if not end:
        yield "a chat ends without [DONE] or an error"


def check_events(said, counts):
    for event, data in events_of(said["body"]):
        value = json.loads(data)
        if event == "prediction.status":
            counts["prediction"] += 1
            yield from faults_of("prediction", value)
            continue
        if event != value.get("type"):
            yield f"the event {event!r} is of type {value.get('type')!r}"
        name = "error_event" if event == "error" else event.replace(".", "_")
        if name in SCHEMAS:
            counts[name] += 1
            yield from faults_of(name, value)
        else:
            yield f"no event of OpenAI's is called {event!r}"


def check(said, counts):
    headers = said["headers"]
    if not re.fullmatch(r"req_[0-9a-zA-Z]+", headers.get("x-request-id", "")):
        yield f"x-request-id is {headers.get('x-request-id')!r}"
    if not headers.get("openai-processing-ms", "").isdecimal():
        yield f"openai-processing-ms is {headers.get('openai-processing-ms')!r}"
    if headers.get("content-type", "").startswith("text/event-stream"):
        is_chat = path_of(said) == "/chat/completions"
        yield from (check_chunks if is_chat else check_events)(said, counts)
        return
    name = schema_of(said)
    if not name:
        counts["of another kind"] += 1
        return
    counts[name] += 1
    if not headers.get("content-type", "").startswith("application/json"):
        yield f"{name}: the content type is {headers.get('content-type')!r}"
        return
    yield from faults_of(name, json.loads(said["body"]))


def main(files):
    counts, wrong, needed = collections.Counter(), [], set()
    for file in files:
        needed |= NEEDED.get(pathlib.Path(file).stem, set())
        for line in pathlib.Path(file).read_text().splitlines():
            said = json.loads(line)
            if not said["whole"]:
                counts["cut off"] += 1
                continue
            for fault in check(said, counts):
                wrong.append(f"{said['method']} {said['path']} {said['status']}: {fault}")
    print("answers and events by schema: " + ", ".join(f"{count} {name}" for name, count in sorted(counts.items())))
    for name in sorted(needed):
        if not counts[name]:
            wrong.append(f"no {name} was seen: nothing was recorded")
    for fault in wrong[:SHOWN_MAX]:
        print(f"FAILED  {fault}")
    if len(wrong) > SHOWN_MAX:
        print(f"FAILED  and {len(wrong) - SHOWN_MAX} more")
    sys.exit(bool(wrong))


main(sys.argv[1:])
