// An OpenID provider that signs one person in without asking, for tests that are about
// something else. With `exchange`, the id_token it gave is exchanged there for another assertion.
import { createServer } from "node:http";
import { createHash, generateKeyPairSync, randomUUID, sign } from "node:crypto";

const base64 = (value) => Buffer.from(typeof value === "string" ? value : JSON.stringify(value)).toString("base64url");
const GRANT = "urn:ietf:params:oauth:grant-type:token-exchange";

/** {issuer, close}; `exchange` is {url, idToken}. */
export async function instantProvider(clientId, exchange) {
  const { privateKey, publicKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  const codes = new Map();
  const given = new Set();
  let issuer;
  const token = (claims) => {
    const now = Math.floor(Date.now() / 1000);
    const all = { iss: issuer, aud: clientId, iat: now, exp: now + 3600, auth_time: now, ...claims };
    const signed = `${base64({ alg: "RS256", typ: "JWT", kid: "one" })}.${base64(all)}`;
    return `${signed}.${sign("sha256", Buffer.from(signed), privateKey).toString("base64url")}`;
  };
  const person = { sub: "ana", email: "ana@corp.example", email_verified: true, name: "Ana Lovelace", groups: ["engineering"] };

  async function redeem(form) {
    if (form.get("grant_type") === GRANT && exchange) {
      if (!given.has(form.get("subject_token"))) return [400, { error: "invalid_grant" }];
      form.set("subject_token", exchange.idToken);
      const answer = await fetch(exchange.url, { method: "POST", body: form });
      return [answer.status, await answer.json()];
    }
    const asked = codes.get(form.get("code"));
    const proof = createHash("sha256").update(form.get("code_verifier") ?? "").digest("base64url");
    if (!asked || proof !== asked.get("code_challenge")) return [400, { error: "invalid_grant" }];
    codes.delete(form.get("code"));
    const id_token = token({ ...person, nonce: asked.get("nonce") ?? undefined });
    given.add(id_token);
    return [200, { access_token: randomUUID(), id_token, token_type: "Bearer", expires_in: 3600, scope: asked.get("scope") }];
  }

  const server = createServer(async (request, response) => {
    const url = new URL(request.url, issuer);
    const say = (status, body) => response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
    if (url.pathname === "/auth") {
      const code = randomUUID();
      codes.set(code, url.searchParams);
      const back = new URL(url.searchParams.get("redirect_uri"));
      for (const [name, value] of Object.entries({ code, state: url.searchParams.get("state"), iss: issuer })) back.searchParams.set(name, value);
      response.writeHead(303, { location: String(back) }).end();
    } else if (url.pathname === "/token") {
      let body = "";
      for await (const chunk of request) body += chunk;
      say(...(await redeem(new URLSearchParams(body))));
    } else if (url.pathname === "/keys") {
      say(200, { keys: [{ ...publicKey.export({ format: "jwk" }), alg: "RS256", use: "sig", kid: "one" }] });
    } else if (url.pathname === "/.well-known/openid-configuration") {
      say(200, {
        issuer,
        authorization_endpoint: `${issuer}/auth`,
        token_endpoint: `${issuer}/token`,
        jwks_uri: `${issuer}/keys`,
        response_types_supported: ["code"],
        subject_types_supported: ["public"],
        id_token_signing_alg_values_supported: ["RS256"],
        code_challenge_methods_supported: ["S256"],
        authorization_response_iss_parameter_supported: true,
        token_endpoint_auth_methods_supported: ["client_secret_basic", "none"],
      });
    } else say(404, {});
  });
  await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
  issuer = `http://127.0.0.1:${server.address().port}`;
  return { issuer, close: () => (server.closeAllConnections(), server.close()) };
}
