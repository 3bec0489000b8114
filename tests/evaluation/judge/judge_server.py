"""An OpenAI-compatible judge on this machine."""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def completion(text: str) -> bytes:
    """The body of a chat completion that says `text`."""
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    whole = {"id": "c", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
    return json.dumps(whole).encode()


class JudgeServer(ThreadingHTTPServer):
    """Answers each request with `reply(body)`, and counts them."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, reply: Callable[[dict], str] | None = None, handler: type | None = None):
        super().__init__(("127.0.0.1", 0), handler or Handler)
        self.reply, self.asked, self.lock = reply, 0, threading.Lock()


class Handler(BaseHTTPRequestHandler):
    """One request."""

    def body(self) -> dict:
        return json.loads(self.rfile.read(int(self.headers["Content-Length"])))

    def do_POST(self):
        body = self.body()
        with self.server.lock:
            self.server.asked += 1
        self.send(200, completion(self.server.reply(body)))

    def head(self, status: int, length: int) -> None:
        self.send_response(status)
        for name, value in (("Content-Type", "application/json"), ("Content-Length", length), ("Retry-After", 0)):
            self.send_header(name, str(value))
        self.end_headers()

    def send(self, status: int, data: bytes) -> None:
        self.head(status, len(data))
        self.wfile.write(data)

    def log_message(self, *_):
        pass
