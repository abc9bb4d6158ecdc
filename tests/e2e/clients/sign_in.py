"""Sign-in of the Python client: storage in memory, a loopback listener, the system's browser."""

import asyncio
import os
import subprocess
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from urllib.parse import parse_qs, urlsplit

from mcp.shared.auth import AuthorizationCodeResult


class Kept:
    """Tokens and registration in memory; `told` goes into the report."""

    def __init__(self):
        self.tokens = self.client = None
        self.told = {"registered": 0, "redirected": 0, "saved": 0, "tokens": None, "client": None}

    async def get_tokens(self):
        return self.tokens

    async def set_tokens(self, tokens):
        self.tokens = tokens
        self.told["saved"] += 1
        self.told["tokens"] = tokens.model_dump(mode="json")

    async def get_client_info(self):
        return self.client

    async def set_client_info(self, client_info):
        self.client = client_info
        self.told["registered"] += 1
        self.told["client"] = client_info.model_dump(mode="json")


class Returning:
    """Listens for the redirect."""

    def __init__(self):
        self.parameters = None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                target = urlsplit(self.path)
                if target.path == "/callback":
                    outer.parameters = {name: values[0] for name, values in parse_qs(target.query).items()}
                self.send_response(200)
                self.send_header("content-type", "text/html")
                self.end_headers()
                self.wfile.write(b"<h1>You may close this page</h1>")

            def log_message(self, *_):
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/callback"
        Thread(target=self.server.serve_forever, daemon=True).start()

    async def answer(self):
        for _ in range(600):
            if self.parameters is not None:
                break
            await asyncio.sleep(0.1)
        if not self.parameters or "code" not in self.parameters:
            raise RuntimeError(f"the redirect says {self.parameters}")
        found = self.parameters
        return AuthorizationCodeResult(code=found["code"], state=found.get("state"), iss=found.get("iss"))


async def open_browser(url, told):
    """What the environment calls the browser, not waited for."""
    told["redirected"] += 1
    told["url"] = url
    subprocess.Popen([os.environ["BROWSER"], url], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
