"""A server on this machine that speaks OpenAI's protocol: chats and completions, faults by script."""

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = "sk-test-0123456789"


def echo(body: dict) -> str:
    """What is said unless a test says otherwise."""
    return f"echo: {body['messages'][-1]['content'] if 'messages' in body else body['prompt']}"


def chat(text, reason: str = "stop", **more) -> dict:
    """A chat completion that says `text`."""
    choice = {"index": 0, "finish_reason": reason, "message": {"role": "assistant", "content": text}}
    return {"id": "c", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], **more}


def completion(text, reason: str | None = "stop", tokens: int | None = 3) -> dict:
    """A completion of `text`, with the server's count of its tokens."""
    choice = {"index": 0, "text": text, "finish_reason": reason}
    usage = {"prompt_tokens": 1, "completion_tokens": tokens, "total_tokens": (tokens or 0) + 1}
    reply = {"id": "c", "object": "text_completion", "created": 0, "model": "tiny", "choices": [choice]}
    return reply | ({} if tokens is None else {"usage": usage})


class Server(ThreadingHTTPServer):
    """Answers with `reply(body)`; `script` says otherwise, `seen` holds what it was asked."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, reply: Callable[[dict], str] = echo, handler: type | None = None):
        super().__init__(("127.0.0.1", 0), handler or Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/v1"
        self.reply = reply
        self.script: list = []  # (status, body) taken one a request; body None replies as ever
        self.seen: list[dict] = []
        self.times: list[float] = []  # when each request came
        self.cards = [
            {"id": "tiny", "object": "model", "owned_by": "vllm", "root": "/weights/tiny", "max_model_len": 512}
        ]
        self.retry_after, self.slow = "0", 0.0
        self.hold = threading.Event()  # a request waits until it is set
        self.hold.set()
        self.at_once = self.most = 0
        self.lock = threading.Lock()


class Handler(BaseHTTPRequestHandler):
    """One request."""

    def body(self) -> dict:
        return json.loads(self.rfile.read(int(self.headers["Content-Length"])))

    def do_GET(self):
        self.send(200, {"object": "list", "data": self.server.cards})

    def do_POST(self):
        server, body = self.server, self.body()
        with server.lock:
            server.seen.append(body | {"path": self.path, "authorization": self.headers["Authorization"]})
            server.times.append(time.monotonic())
            status, reply = server.script.pop(0) if server.script else (200, None)
            server.at_once += 1
            server.most = max(server.most, server.at_once)
        server.hold.wait(20)
        time.sleep(server.slow)
        with server.lock:
            server.at_once -= 1
        if reply is None and status == 200:
            reply = (chat if "messages" in body else completion)(server.reply(body))
        self.send(status, {"error": {"message": f"no, {KEY}"}} if reply is None else reply)

    def head(self, status: int, length: int) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(length))
        if status >= 400 and self.server.retry_after:
            self.send_header("Retry-After", self.server.retry_after)
        self.end_headers()

    def send(self, status: int, reply: object) -> None:
        data = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
        self.head(status, len(data))
        self.wfile.write(data)

    def log_message(self, *_):
        pass
