"""An origin with Starlette and uvicorn, guarded by helpers/python: asgi.py ISSUER AUDIENCE JWKS_URL"""

import os
import socket
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../../../helpers/python"))

import uvicorn
from bartizan_origin import Guard
from mcp_answer import answer
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


async def mcp(request):
    said = answer(await request.json(), request.scope["bartizan.assertion"]["sub"])
    return Response(status_code=202) if said is None else JSONResponse(said)


issuer, audience, jwks = sys.argv[1:4]
app = Starlette(routes=[Route("/mcp", mcp, methods=["POST"])])
listener = socket.socket()
listener.bind(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
server = uvicorn.Server(uvicorn.Config(Guard(issuer, audience, jwks).asgi(app), log_level="error"))
server.run(sockets=[listener])
