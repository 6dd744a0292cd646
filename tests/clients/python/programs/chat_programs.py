"""Chat programs that cannot run here, by the bytes they send.

Each file of tests/clients/chat is a request of one program, and its first lines say where it comes from. In it,
`{{prompt}}`, `{{earlier}}` and `{{answer}}` stand for texts of a conversation, and `{{photo}}` for a picture in
base64. The classes read an answer as the programs do, and return what a user of the program sees.
"""

import base64
import dataclasses
import json
import pathlib
import re
import socket
import urllib.parse

REQUESTS = pathlib.Path(__file__).parents[2] / "chat"


@dataclasses.dataclass
class Answer:
    status: int
    headers: dict
    body: str


@dataclasses.dataclass
class Shown:
    """What a program shows of an answer. `pictures` are addresses and data URLs, in their order."""

    text: str = ""
    pictures: list = dataclasses.field(default_factory=list)
    # Of the prompt, of the answer, and both.
    tokens: tuple | None = None
    # What the user reads in place of an answer, or below it.
    error: str | None = None
    has_ended: bool = False


def request_of(program, name, **values):
    """The bytes of a request: head and body, with the values in their places."""
    lines = (REQUESTS / program / f"{name}.http").read_text(encoding="utf-8").splitlines()
    lines = [line for line in lines if not line.startswith("# ")]
    end = lines.index("")
    (body,) = lines[end + 1 :]
    key, host = values.pop("key"), values.pop("host")
    for place, value in values.items():
        # A text within JSON; within a text that is JSON itself it would have to be quoted twice.
        assert not set(value) & set('"\\\n'), value
        body = body.replace("{{" + place + "}}", value)
    head = "\r\n".join(lines[:end]) + "\r\n\r\n"
    body = body.encode()
    for place, value in {"key": key, "host": host, "length": str(len(body))}.items():
        head = head.replace("{{" + place + "}}", value)
    assert "{{" not in head and b"{{" not in body
    return head.encode() + body


def sent(address, program, name, **values):
    """Sends a request as it is, and gives the answer with all its bytes."""
    at = urllib.parse.urlsplit(address)
    request = request_of(program, name, host=at.netloc, **values)
    with socket.create_connection((at.hostname, at.port), timeout=30) as connection:
        connection.sendall(request)
        return answer_of(connection.makefile("rb"))


def answer_of(stream):
    status = int(stream.readline().split(b" ")[1])
    headers = {}
    while line := stream.readline().strip():
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    if headers.get("transfer-encoding") != "chunked":
        return Answer(status, headers, stream.read(int(headers["content-length"])).decode())
    body = b""
    while size := int(stream.readline(), 16):
        body += stream.read(size)
        stream.readline()
    return Answer(status, headers, body.decode())


class Program:
    """A chat program, named as its folder of requests."""

    name = None
    # The addresses that it shows as pictures.
    schemes = ("http://", "https://", "data:image/")

    def shown(self, answer):
        """Reads an answer as the program does."""
        shown = Shown()
        if answer.status >= 400:
            shown.error = self.refusal(answer)
        elif answer.headers["content-type"].startswith("text/event-stream"):
            self.read_stream(answer.body, shown)
        else:
            self.read_whole(json.loads(answer.body), shown)
            shown.has_ended = True
        shown.pictures = [*self.markdown(shown.text), *shown.pictures]
        return shown

    def markdown(self, text):
        found = re.findall(r"!\[[^\]]*\]\(([^)\s]+)\)", text)
        return [address for address in found if address.startswith(self.schemes)]

    def refusal(self, answer):
        raise NotImplementedError

    def read_stream(self, body, shown):
        raise NotImplementedError

    def read_whole(self, body, shown):
        raise NotImplementedError

    def count(self, usage, shown):
        if usage:
            shown.tokens = (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"])

    def __repr__(self):
        return self.name


class OpenWebui(Program):
    """The module open_webui.utils.middleware: a line at a time; pictures of `delta.images` stand behind the text."""

    name = "open-webui"

    def refusal(self, answer):
        error = json.loads(answer.body)["error"]
        return error.get("detail", error)["message"]

    def read_stream(self, body, shown):
        for line in body.split("\n"):
            # It passes over everything else, comments included.
            if not line.startswith("data:"):
                continue
            data = line.removeprefix("data:").strip()
            if data == "[DONE]":
                shown.has_ended = True
                continue
            data = json.loads(data)
            if data.get("error"):
                shown.error = data["error"]["message"]
            self.count(data.get("usage"), shown)
            choices = data.get("choices", [])
            if not choices:
                continue
            delta = choices[0].get("delta", {})
            for image in delta.get("images") or []:
                if image.get("type") == "image_url" and image.get("image_url", {}).get("url"):
                    shown.pictures.append(image["image_url"]["url"])
            shown.text += delta.get("content") or ""

    def read_whole(self, body, shown):
        # `images` of a whole answer are not looked at.
        shown.text = body["choices"][0]["message"].get("content", "")
        self.count(body.get("usage"), shown)


class LibreChat(Program):
    """The openai package within @langchain/openai (completions.ts), and react-markdown, which shows no data URLs."""

    name = "librechat"
    schemes = ("http://", "https://")

    def refusal(self, answer):
        error = json.loads(answer.body)["error"]
        assert answer.headers["x-should-retry"] in ("true", "false")
        return f"{answer.status} {error['message']}"

    def read_stream(self, body, shown):
        for event in re.split(r"\r\n\r\n|\n\n|\r\r", body):
            lines = [line for line in event.splitlines() if line and not line.startswith(":")]
            data = "\n".join(line.removeprefix("data:").removeprefix(" ") for line in lines if line.startswith("data:"))
            if not data:
                continue
            if data.startswith("[DONE]"):
                shown.has_ended = True
                return
            data = json.loads(data)
            if data.get("error"):
                # Raised: what follows is not read.
                shown.error = data["error"]["message"]
                return
            self.count(data.get("usage"), shown)
            choice = next(iter(data.get("choices") or []), None)
            if choice and choice.get("delta"):
                shown.text += choice["delta"].get("content") or ""

    def read_whole(self, body, shown):
        (message,) = (choice["message"] for choice in body["choices"])
        shown.text = message["content"]
        self.count(body.get("usage"), shown)


class CherryStudio(Program):
    """The AI SDK's openai-compatible provider with the patch of its repository, by which `images` become files, and
    AiSdkToChunkAdapter.ts, which shows a file as data in base64, whatever it is."""

    name = "cherry-studio"

    def refusal(self, answer):
        return json.loads(answer.body)["error"]["message"]

    def read_stream(self, body, shown):
        for event in body.split("\n\n"):
            data = "\n".join(line[5:].strip() for line in event.split("\n") if line.startswith("data:"))
            if not data:
                continue
            if data == "[DONE]":
                shown.has_ended = True
                continue
            data = json.loads(data)
            if "error" in data:
                shown.error = data["error"]["message"]
                continue
            self.count(data.get("usage"), shown)
            for choice in data["choices"][:1]:
                self.take(choice.get("delta") or {}, shown)

    def read_whole(self, body, shown):
        self.take(body["choices"][0]["message"], shown)
        self.count(body.get("usage"), shown)

    def take(self, message, shown):
        shown.text += message.get("content") or ""
        for image in message.get("images") or []:
            assert image["type"] == "image_url"
            url = image["image_url"]["url"]
            kind = re.match(r"data:([^;]+)", url)
            data = re.match(r"data:[^;]*;base64,(.+)$", url)
            kind, data = kind.group(1) if kind else "image/jpeg", data.group(1) if data else url
            shown.pictures.append(f"data:{kind};base64,{data}")


def bytes_of(picture, get):
    """The bytes behind a picture that is shown; `get` fetches an address."""
    if picture.startswith("data:"):
        return base64.b64decode(picture.partition(";base64,")[2], validate=True)
    return get(picture)


PROGRAMS = [OpenWebui(), LibreChat(), CherryStudio()]
