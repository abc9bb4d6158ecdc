"""A WSGI origin, guarded by helpers/python: wsgi.py ISSUER AUDIENCE JWKS_URL"""

import json
import os
import sys
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../../../helpers/python"))

from bartizan_origin import Guard
from mcp_answer import answer


class Threaded(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class Quiet(WSGIRequestHandler):
    def log_message(self, *_):
        pass


def app(environ, start_response):
    if environ["REQUEST_METHOD"] != "POST":
        start_response("405 Method Not Allowed", [])
        return []
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    said = answer(json.loads(body), environ["bartizan.assertion"]["sub"])
    if said is None:
        start_response("202 Accepted", [])
        return []
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(said).encode()]


issuer, audience, jwks = sys.argv[1:4]
server = make_server("127.0.0.1", 0, Guard(issuer, audience, jwks).wsgi(app), Threaded, Quiet)
print(server.server_port, flush=True)
server.serve_forever()
