// A server of another company whose token endpoint exchanges people's own tokens of their
// provider for tokens of its own (row P17), and a door before an MCP server that wants those.
//
//   node exchange.mjs '{"behind": "http://127.0.0.1:PORT", "provider": ISSUER, "strategy": STRATEGY, "ttl"?: seconds}'
//
// STRATEGY is token_exchange, entra_obo or id_jag. Prints {issuer, url, token} as one JSON line.
// Each line of stdin is answered by one line {seen: {who: calls}, mixed, exchanged: {who: times},
// refused: [why], secrets: [every token that came or went]}. Ends with stdin.
//
// What arrives is checked as the strategy's document wants it; anything else is refused, and why is
// noted.
import { createServer } from "node:http";
import { createInterface } from "node:readline";
import { createPublicKey, randomBytes, verify } from "node:crypto";
import { listen, openDoor } from "../lib/door.mjs";

const wanted = JSON.parse(process.argv[2] ?? "{}");
const ttl = wanted.ttl ?? 3600;
const TYPE = "urn:ietf:params:oauth:token-type";
const EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange";
const BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const [CLIENT, SECRET] = ["gateway", "the-endpoint-knows-this-secret"];
const tokens = new Map();
const exchanged = {};
const refused = [];
const secrets = new Set();

const authority = createServer();
const issuer = await listen(authority);
const about = () => ({ authorization_servers: [issuer], scopes_supported: ["notes.read"] });
const door = await openDoor(
  new URL(wanted.behind),
  async (token) => {
    const known = tokens.get(token);
    return known && known.until > Date.now() ? known.who : undefined;
  },
  about,
);

function must(good, why) {
  if (!good) throw new Error(why);
}

const json = (url, options) => fetch(url, options).then((answer) => (must(answer.ok, `${url}: ${answer.status}`), answer.json()));
const provider = await json(`${wanted.provider}/.well-known/openid-configuration`);

/** The claims of a token that the provider signed, if it is not over. */
async function signed(token, typ, audience) {
  const [head, body, signature] = token.split(".");
  const header = JSON.parse(Buffer.from(head, "base64url"));
  must(header.alg === "RS256" && (typ === undefined || header.typ === typ), `header ${JSON.stringify(header)}`);
  const { keys } = await json(provider.jwks_uri);
  const key = createPublicKey({ key: keys.find(({ kid }) => kid === header.kid), format: "jwk" });
  must(verify("RSA-SHA256", Buffer.from(`${head}.${body}`), key, Buffer.from(signature, "base64url")), "signature");
  const claims = JSON.parse(Buffer.from(body, "base64url"));
  must(claims.iss === wanted.provider && claims.aud === audience, `issuer ${claims.iss}, audience ${claims.aud}`);
  must(claims.exp > Date.now() / 1000, "the token is over");
  return claims;
}

/** How the client proves itself: `basic`, `post` or `none`. */
function proof(headers, form) {
  const basic = `Basic ${Buffer.from(`${CLIENT}:${SECRET}`).toString("base64")}`;
  if (headers.authorization !== undefined) return headers.authorization === basic ? "basic" : "wrong";
  if (form.get("client_id") !== CLIENT) return "wrong";
  return form.get("client_secret") === SECRET ? "post" : "none";
}

const strategies = {
  // RFC 8693, section 2.1.
  async token_exchange(form, headers) {
    must(proof(headers, form) === "basic", "client");
    must(form.get("grant_type") === EXCHANGE, "grant_type");
    must(form.get("subject_token_type") === `${TYPE}:id_token`, "subject_token_type");
    must(form.get("resource") === door.resource, `resource ${form.get("resource")}`);
    must(form.get("audience") === "notes", "audience");
    return (await signed(form.get("subject_token"), undefined, "bartizan")).sub;
  },
  // Microsoft identity platform, on-behalf-of flow. The access token is opaque here: its issuer knows it.
  async entra_obo(form, headers) {
    must(proof(headers, form) === "post", "client");
    must(form.get("grant_type") === BEARER, "grant_type");
    must(form.get("requested_token_use") === "on_behalf_of", "requested_token_use");
    must(form.get("scope") === "api://notes/.default", "scope");
    const authorization = `Bearer ${form.get("assertion")}`;
    return (await json(provider.userinfo_endpoint, { headers: { authorization } })).sub;
  },
  // draft-ietf-oauth-identity-assertion-authz-grant.
  async id_jag(form, headers) {
    must(proof(headers, form) === "basic", "client");
    must(form.get("grant_type") === BEARER, "grant_type");
    const claims = await signed(form.get("assertion"), "oauth-id-jag+jwt", issuer);
    must(claims.resource === door.resource, `resource ${claims.resource}`);
    must(claims.exp - claims.iat <= 300 && claims.jti, "life");
    return claims.sub;
  },
};

authority.on("request", async (request, response) => {
  const say = (status, body) => response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
  if (request.url.startsWith("/.well-known/")) {
    return say(200, {
      issuer,
      token_endpoint: `${issuer}/token`,
      authorization_endpoint: `${issuer}/authorize`,
      response_types_supported: ["code"],
      code_challenge_methods_supported: ["S256"],
      token_endpoint_auth_methods_supported: ["client_secret_basic"],
    });
  }
  let body = "";
  for await (const chunk of request) body += chunk;
  const form = new URLSearchParams(body);
  for (const name of ["subject_token", "assertion"]) if (form.get(name)) secrets.add(form.get(name));
  try {
    const who = await strategies[wanted.strategy](form, request.headers);
    const token = randomBytes(24).toString("base64url");
    secrets.add(token);
    tokens.set(token, { who, until: Date.now() + ttl * 1000 });
    exchanged[who] = (exchanged[who] ?? 0) + 1;
    const issued_token_type = wanted.strategy === "token_exchange" ? `${TYPE}:access_token` : undefined;
    say(200, { access_token: token, issued_token_type, token_type: "Bearer", expires_in: ttl });
  } catch (error) {
    refused.push(error.message);
    say(400, { error: "invalid_grant" });
  }
});
console.log(JSON.stringify({ issuer, url: door.resource, token: `${issuer}/token` }));

for await (const line of createInterface({ input: process.stdin })) {
  JSON.parse(line);
  console.log(JSON.stringify({ seen: door.seen, ...door.count, exchanged, refused, secrets: [...secrets] }));
}
process.exit(0);
