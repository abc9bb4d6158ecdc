"""python -m unittest test_bartizan_origin"""

import threading
import time
import types
import unittest

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

from bartizan_origin import Guard, Refused

ISSUER = "https://mcp.example.com"


class Silent:
    """A gateway that answers once, then holds every fetch until it is told to fail."""

    def __init__(self, keys):
        self.keys, self.fetches = keys, 0
        self.asked, self.fail = threading.Event(), threading.Event()

    def get_jwk_set(self, refresh):
        self.fetches += 1
        if self.fetches > 1:
            self.asked.set()
            self.fail.wait(30)
            raise jwt.PyJWKClientError("no answer")
        return types.SimpleNamespace(keys=self.keys)


class Keys(unittest.TestCase):
    def test_p59_an_invented_key_holds_up_nobody_while_the_gateway_is_silent(self):
        private = ec.generate_private_key(ec.SECP256R1())
        public = jwt.algorithms.ECAlgorithm.to_jwk(private.public_key(), as_dict=True)
        guard = Guard(ISSUER, "tag")
        gateway = guard._client = Silent([jwt.PyJWK({**public, "kid": "one", "alg": "ES256"})])

        def token(kid, jti):
            now = int(time.time())
            claims = {"iss": ISSUER, "aud": "tag", "sub": "user:ana", "iat": now, "exp": now + 60, "jti": jti}
            return jwt.encode(claims, private, algorithm="ES256", headers={"kid": kid})

        def invented():
            with self.assertRaises(Refused):
                guard.verify(token("invented", "x"))

        guard.verify(token("one", "a"))
        guard._next_look = float("-inf")
        waiting = [threading.Thread(target=invented) for _ in range(8)]
        for one in waiting:
            one.start()
        self.assertTrue(gateway.asked.wait(30))
        # The fetch ends only after this one was let in.
        guard.verify(token("one", "b"))
        self.assertFalse(guard._waits(token("one", "c")))
        gateway.fail.set()
        for one in waiting:
            one.join()
        # One fetch for all who waited, and the pause begins at its end.
        self.assertEqual(gateway.fetches, 2)
        self.assertGreater(guard._next_look, time.monotonic() + 5)


if __name__ == "__main__":
    unittest.main()
