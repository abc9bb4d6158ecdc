"""The same as verify.mjs with PyJWT: verify.py ISSUER JWKS_URL AUDIENCE."""

import json
import sys
import time

import jwt

issuer, url, audience = sys.argv[1:4]
keys = jwt.PyJWKClient(url, cache_jwk_set=False, cache_keys=False)
seen = {}


def accept(token):
    key = keys.get_signing_key_from_jwt(token)
    claims = jwt.decode(
        token,
        key.key,
        algorithms=["ES256", "EdDSA"],
        issuer=issuer,
        audience=audience,
        options={"require": ["exp", "iat", "iss", "aud", "sub", "jti"]},
    )
    now = time.time()
    for jti in [jti for jti, exp in seen.items() if exp < now]:
        del seen[jti]
    if claims["jti"] in seen:
        raise ValueError("replay")
    seen[claims["jti"]] = claims["exp"]
    return claims


for line in sys.stdin:
    try:
        answer = accept(line.strip())
    except Exception as error:
        answer = {"refused": str(error) if isinstance(error, ValueError) else type(error).__name__}
    print(json.dumps(answer), flush=True)
