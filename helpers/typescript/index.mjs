// Lets requests in that came through the gateway, and no others: each has an assertion of its own, signed by the
// gateway, for this server, a minute old at most, and used once.
import { createRemoteJWKSet, decodeProtectedHeader, jwtVerify } from "jose";

export const HEADER = "cf-access-jwt-assertion";

/** Longest life that the gateway gives, seconds. */
const LIFE = 60;
/** Longest assertion that is looked at, characters. */
const LONGEST = 16_384;
/** Unknown keys make the set be fetched again, this often at most, milliseconds. */
const COOLDOWN = 10_000;
/** A key that the gateway withdrew is forgotten after this, milliseconds. */
const KEPT = 600_000;

const BODY = JSON.stringify({ error: "assertion_required" });

export function guard({ issuer, audience, jwks, leeway = 5, remembered = 100_000, onRefused = () => {} }) {
  if (!issuer || !audience) throw new TypeError("issuer and audience are needed");
  const url = new URL(jwks ?? `${issuer.replace(/\/$/, "")}/.well-known/jwks.json`);
  const keys = createRemoteJWKSet(url, { cooldownDuration: COOLDOWN, cacheMaxAge: KEPT, timeoutDuration: 5_000 });
  const seen = new Map();

  /** Notes an id; false for one that was used. In order of arrival, which is nearly that of expiry. */
  function first(jti, exp, now) {
    for (const [old, end] of seen) {
      if (end >= now) break;
      seen.delete(old);
    }
    if (seen.has(jti) || seen.size >= remembered) return false;
    seen.set(jti, exp + leeway);
    return true;
  }

  async function verify(assertion) {
    if (typeof assertion !== "string" || assertion === "" || assertion.length > LONGEST) throw new Error("none");
    // Keys come from the gateway, never from what the assertion names.
    if (!decodeProtectedHeader(assertion).kid) throw new Error("no key id");
    const { payload } = await jwtVerify(assertion, keys, {
      issuer,
      audience,
      algorithms: ["ES256", "EdDSA", "Ed25519"],
      clockTolerance: leeway,
      requiredClaims: ["exp", "iat", "sub", "jti"],
    });
    const now = Date.now() / 1000;
    if (payload.exp - now > LIFE + leeway) throw new Error("too long a life");
    if (typeof payload.jti !== "string" || payload.jti === "") throw new Error("no id");
    if (!first(payload.jti, payload.exp, now)) throw new Error("used before");
    return payload;
  }

  async function judge(assertion) {
    try {
      return await verify(assertion);
    } catch (error) {
      onRefused(String(error?.code ?? error?.message ?? error));
      return undefined;
    }
  }

  return {
    verify,
    express: () => async (request, response, next) => {
      const claims = await judge(request.headers[HEADER]);
      if (claims === undefined) {
        response.writeHead(401, { "content-type": "application/json", "cache-control": "no-store" }).end(BODY);
        return;
      }
      request.assertion = claims;
      next();
    },
    fetch: (handler) => async (request, ...rest) => {
      const claims = await judge(request.headers.get(HEADER));
      if (claims === undefined) {
        const headers = { "content-type": "application/json", "cache-control": "no-store" };
        return new Response(BODY, { status: 401, headers });
      }
      return handler(request, claims, ...rest);
    },
  };
}
