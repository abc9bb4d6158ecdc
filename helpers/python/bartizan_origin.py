"""Lets requests in that came through the gateway, and no others.

Each has an assertion of its own in ``Cf-Access-Jwt-Assertion``, signed by the gateway, for this server, a minute old
at most, and used once::

    guard = Guard(issuer="https://mcp.example.com", audience="…")
    app = guard.asgi(app)    # Starlette, FastAPI, FastMCP; the claims are scope["bartizan.assertion"]
    app = guard.wsgi(app)    # Flask, Django; the claims are environ["bartizan.assertion"]

``python -m bartizan_origin ISSUER AUDIENCE PORT`` answers 204 or 401, for the ``auth_request`` of a reverse proxy.
"""

import asyncio
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import jwt

HEADER = "cf-access-jwt-assertion"

LIFE = 60
"""Longest life that the gateway gives, seconds."""
LONGEST = 16_384
"""Longest assertion that is looked at, characters."""
COOLDOWN = 10
"""Unknown keys make the set be fetched again, this long after the last fetch ended at the earliest, seconds."""
KEPT = 600
"""A key that the gateway withdrew is forgotten after this, seconds."""

ALGORITHMS = {"ES256": "EC", "EdDSA": "OKP"}
BODY = b'{"error":"assertion_required"}'


class Refused(Exception):
    """The request did not come through the gateway."""


class Guard:
    """Verifies assertions. One per process: it remembers which were used."""

    def __init__(self, issuer, audience, jwks=None, leeway=5, remembered=100_000, on_refused=None):
        if not issuer or not audience:
            raise ValueError("issuer and audience are needed")
        self.issuer, self.audience, self.leeway, self.remembered = issuer, audience, leeway, remembered
        self.on_refused = on_refused or (lambda why: None)
        url = jwks or issuer.rstrip("/") + "/.well-known/jwks.json"
        self._client = jwt.PyJWKClient(url, cache_keys=False, cache_jwk_set=False, timeout=5)
        self._lock, self._fetching = threading.Lock(), threading.Lock()
        self._kept, self._seen = ({}, float("-inf")), {}
        self._next_look = float("-inf")
        # Of its own: requests that wait for keys do not fill the pool that the application works in.
        self._pool = ThreadPoolExecutor(1, "bartizan-keys")

    def verify(self, assertion):
        """The claims of an assertion; Refused for any that is not good, and for a good one the second time."""
        if not isinstance(assertion, str) or not assertion or len(assertion) > LONGEST:
            raise Refused("none")
        try:
            header = jwt.get_unverified_header(assertion)
            key = self._key(header.get("kid"))
            kind = ALGORITHMS.get(header.get("alg"))
            # The algorithm is the key's, whatever the assertion says.
            if kind is None or key.key_type != kind:
                raise Refused("algorithm")
            claims = jwt.decode(
                assertion,
                key.key,
                algorithms=[header["alg"]],
                issuer=self.issuer,
                audience=self.audience,
                leeway=self.leeway,
                options={"require": ["exp", "iat", "iss", "aud", "sub", "jti"]},
            )
        except jwt.PyJWTError as error:
            raise Refused(type(error).__name__) from error
        now = time.time()
        if claims["exp"] - now > LIFE + self.leeway:
            raise Refused("too long a life")
        if not isinstance(claims["jti"], str) or not claims["jti"]:
            raise Refused("no id")
        if not self._first(claims["jti"], claims["exp"], now):
            raise Refused("used before")
        return claims

    def _key(self, kid):
        if not isinstance(kid, str) or not kid:
            raise Refused("no key id")
        key = self._known(kid)
        if key is not None:
            # Who has a known key waits for nobody, least of all for a fetch that somebody's invented key began.
            return key
        with self._fetching:
            # A flood of unknown keys is not passed on to the gateway.
            if self._known(kid) is None and time.monotonic() >= self._next_look:
                try:
                    found = self._client.get_jwk_set(refresh=True).keys
                    keys = {key.key_id: key for key in found if key.key_id}
                    self._kept = (keys, time.monotonic() + KEPT)
                finally:
                    # From its end: who waited for a slow fetch does not begin the next.
                    self._next_look = time.monotonic() + COOLDOWN
            key = self._known(kid)
        if key is None:
            raise Refused("unknown key")
        return key

    def _known(self, kid):
        # One read of the pair: another thread may put a new one in its place.
        keys, good_until = self._kept
        return keys.get(kid) if time.monotonic() <= good_until else None

    def _waits(self, assertion):
        """Whether keys have to be fetched for it."""
        try:
            return self._known(jwt.get_unverified_header(assertion).get("kid")) is None
        except Exception:  # verify says what is wrong with it
            return False

    def _first(self, jti, exp, now):
        with self._lock:
            # In order of arrival, which is nearly that of expiry.
            for old in list(self._seen):
                if self._seen[old] >= now:
                    break
                del self._seen[old]
            if jti in self._seen or len(self._seen) >= self.remembered:
                return False
            self._seen[jti] = exp + self.leeway
            return True

    def judge(self, assertion):
        """The claims, or None."""
        try:
            return self.verify(assertion)
        except Exception as error:  # whatever it is, nobody is let in by it
            self.on_refused(str(error) if isinstance(error, Refused) else type(error).__name__)
            return None

    def asgi(self, app):
        """ASGI middleware. What is neither HTTP nor a websocket passes (lifespan)."""
        name = HEADER.encode()

        async def guarded(scope, receive, send):
            if scope["type"] == "lifespan":
                await app(scope, receive, send)
                return
            found = [value for header, value in scope.get("headers", []) if header.lower() == name]
            claims = None
            if len(found) == 1:
                assertion = found[0].decode("latin-1")
                if len(assertion) <= LONGEST and self._waits(assertion):
                    claims = await asyncio.get_running_loop().run_in_executor(self._pool, self.judge, assertion)
                else:
                    claims = self.judge(assertion)
            else:
                self.on_refused("none" if not found else "several")
            if claims is not None:
                scope["bartizan.assertion"] = claims
                await app(scope, receive, send)
            elif scope["type"] == "http":
                headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
                await send({"type": "http.response.start", "status": 401, "headers": headers})
                await send({"type": "http.response.body", "body": BODY})
            else:
                await send({"type": "websocket.close", "code": 1008})

        return guarded

    def wsgi(self, app):
        """WSGI middleware."""
        name = "HTTP_" + HEADER.upper().replace("-", "_")

        def guarded(environ, start_response):
            # A server joins repeated headers with commas, and no assertion has one.
            claims = self.judge(environ.get(name))
            if claims is None:
                headers = [("Content-Type", "application/json"), ("Cache-Control", "no-store")]
                start_response("401 Unauthorized", headers)
                return [BODY]
            environ["bartizan.assertion"] = claims
            return app(environ, start_response)

        return guarded


def main():
    """A place for the `auth_request` of a reverse proxy."""
    from socketserver import ThreadingMixIn
    from wsgiref.simple_server import WSGIServer, make_server

    class Threaded(ThreadingMixIn, WSGIServer):
        daemon_threads = True

    def good(_environ, start_response):
        start_response("204 No Content", [])
        return []

    issuer, audience, port = sys.argv[1:4]
    server = make_server("127.0.0.1", int(port), Guard(issuer, audience).wsgi(good), server_class=Threaded)
    print(f"listening on 127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
