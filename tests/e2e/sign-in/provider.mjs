// A real OpenID provider (npm oidc-provider) with a few people, on a free loopback port.
//
//   node provider.mjs '{"people": {"ana": {"email": …, "name": …, "groups": […], "amr": […]}}, "idTokenTtl"?: seconds, "accessTokenTtl"?: seconds}'
//
// Prints {issuer} as one JSON line when it listens. Then each line of stdin is one command:
//   {"client": {client_id, client_secret, redirect_uris}}   registers a client
//   {"person": "ana", "set": {…}}                            changes a person
//   {"remove": "ana"}                                        forgets one
//   {"forget": "ana"}                                        ends all that was given for one: tokens, grants
//   {"asked": true}                                          tells what it was asked at its authorization endpoint
// and each is answered with {"done": true, …}. Ends with stdin. Any password is right. How a person signs in is `amr`
// and `acr`; `ages` is how many seconds ago that was, for each sign-in in turn (default 0).
import { createServer } from "node:http";
import { createInterface } from "node:readline";
import { createPublicKey, generateKeyPairSync, randomBytes, randomUUID, sign, verify } from "node:crypto";
import { pathToFileURL } from "node:url";
import { installed } from "../lib/drive.mjs";

const { Provider, errors } = await import(pathToFileURL(installed.resolve("oidc-provider")).href);
const wanted = JSON.parse(process.argv[2] ?? "{}");
const people = new Map(Object.entries(wanted.people ?? {}));
const clients = new Map();

/** Everything in memory, as the provider's own memory adapter, but clients come and go. */
class Memory {
  static rows = new Map();
  constructor(model) {
    this.model = model;
  }
  key(id) {
    return `${this.model}:${id}`;
  }
  async upsert(id, payload, expiresIn) {
    const until = expiresIn ? Date.now() + expiresIn * 1000 : Infinity;
    Memory.rows.set(this.key(id), { payload, until });
    if (payload.uid) Memory.rows.set(`${this.model}:uid:${payload.uid}`, { payload: { id }, until });
    if (payload.grantId) {
      const list = Memory.rows.get(`grant:${payload.grantId}`)?.payload ?? [];
      Memory.rows.set(`grant:${payload.grantId}`, { payload: [...list, this.key(id)], until });
    }
  }
  row(key) {
    const row = Memory.rows.get(key);
    return row && row.until > Date.now() ? row.payload : undefined;
  }
  async find(id) {
    return this.model === "Client" ? clients.get(id) : this.row(this.key(id));
  }
  async findByUid(uid) {
    const found = this.row(`${this.model}:uid:${uid}`);
    return found && this.find(found.id);
  }
  async findByUserCode() {
    return undefined;
  }
  async consume(id) {
    const payload = this.row(this.key(id));
    if (payload) payload.consumed = Math.floor(Date.now() / 1000);
  }
  async destroy(id) {
    Memory.rows.delete(this.key(id));
  }
  async revokeByGrantId(grant) {
    for (const key of this.row(`grant:${grant}`) ?? []) Memory.rows.delete(key);
  }
}

const EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange";
const ID_JAG = "urn:ietf:params:oauth:token-type:id-jag";
const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
const server = createServer();
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
const issuer = `http://127.0.0.1:${server.address().port}`;
const provider = new Provider(issuer, {
  adapter: Memory,
  clientDefaults: { grant_types: ["authorization_code", "refresh_token", EXCHANGE], response_types: ["code"] },
  claims: { openid: ["sub", "amr", "acr", "auth_time"], email: ["email", "email_verified"], profile: ["name"], groups: ["groups"] },
  // As Entra ID and Okta do: the claims are in the id_token.
  conformIdTokenClaims: false,
  scopes: ["openid", "email", "profile", "groups", "offline_access"],
  async findAccount(_, id) {
    const person = people.get(id);
    return person && { accountId: id, claims: async () => ({ sub: id, email_verified: true, ...person, amr: undefined, acr: undefined, ages: undefined }) };
  },
  issueRefreshToken: async (_, client, code) => client.grantTypeAllowed("refresh_token") && code.scopes.has("openid"),
  jwks: { keys: [{ ...privateKey.export({ format: "jwk" }), alg: "RS256", use: "sig", kid: "one" }] },
  cookies: { keys: [randomBytes(24).toString("hex")] },
  pkce: { required: () => true },
  // Asked by whoever holds the ID token of the session, it does not ask the person again.
  features: {
    rpInitiatedLogout: {
      logoutSource(context, form) {
        const known = context.oidc.entities?.IdTokenHint;
        const go = known ? '<script>document.forms[0].append(Object.assign(document.createElement("input"), { type: "hidden", name: "logout", value: "yes" })); document.forms[0].submit()</script>' : "";
        context.body = `<!doctype html><title>Sign out</title>${form}<button type="submit" form="op.logoutForm" name="logout" value="yes">Yes</button>${go}`;
      },
    },
  },
  ttl: { IdToken: wanted.idTokenTtl ?? 3600, Session: 86400, Grant: 86400, Interaction: 3600, AccessToken: wanted.accessTokenTtl ?? 3600, RefreshToken: 86400 },
});

/** An ID token of this provider for this client, for an assertion to one other authorization server. */
async function exchange(context) {
  const { client, params } = context.oidc;
  const parse = (part) => JSON.parse(Buffer.from(part ?? "", "base64url"));
  const [head, body, signature] = (params.subject_token ?? "").split(".");
  const good = verify("RSA-SHA256", Buffer.from(`${head}.${body}`), createPublicKey(privateKey), Buffer.from(signature ?? "", "base64url"));
  const claims = good ? parse(body) : {};
  const now = Math.floor(Date.now() / 1000);
  if (claims.iss !== issuer || claims.aud !== client.clientId || claims.exp <= now) throw new errors.InvalidGrant("subject_token");
  if (params.requested_token_type !== ID_JAG || !params.audience || !params.resource) throw new errors.InvalidRequest("not an ID-JAG");
  if (params.subject_token_type !== "urn:ietf:params:oauth:token-type:id_token") throw new errors.InvalidRequest("subject_token_type");
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const said = { iss: issuer, sub: claims.sub, aud: params.audience, resource: params.resource, client_id: client.clientId, jti: randomUUID(), iat: now, exp: now + 300 };
  const text = `${part({ alg: "RS256", typ: "oauth-id-jag+jwt", kid: "one" })}.${part(said)}`;
  const assertion = `${text}.${sign("RSA-SHA256", Buffer.from(text), privateKey).toString("base64url")}`;
  context.body = { access_token: assertion, issued_token_type: ID_JAG, token_type: "N_A", expires_in: 300 };
}
const known = ["subject_token", "subject_token_type", "requested_token_type", "audience", "resource", "scope"];
provider.registerGrantType(EXCHANGE, exchange, known);
// The pages of the provider only say who; this adds how and when.
const finish = provider.interactionFinished;
provider.interactionFinished = function finished(request, response, result, options) {
  const person = result.login && people.get(result.login.accountId);
  const how = person && { amr: person.amr, acr: person.acr, ts: Math.floor(Date.now() / 1000) - (person.ages?.shift() ?? 0) };
  return finish.call(this, request, response, how ? { ...result, login: { ...result.login, ...how } } : result, options);
};
const asked = [];
server.on("request", (request) => {
  const target = new URL(request.url, issuer);
  if (target.pathname === "/auth") asked.push(Object.fromEntries(target.searchParams));
});
server.on("request", provider.callback());
console.log(JSON.stringify({ issuer }));

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  if (command.client) clients.set(command.client.client_id, command.client);
  if (command.remove) people.delete(command.remove);
  if (command.forget) {
    for (const [key, { payload }] of Memory.rows) {
      if (payload.accountId === command.forget && /^(AccessToken|RefreshToken|Grant):/.test(key)) Memory.rows.delete(key);
    }
  }
  if (command.person) people.set(command.person, { ...people.get(command.person), ...command.set });
  console.log(JSON.stringify({ done: true, ...(command.asked && { asked }) }));
}
process.exit(0);
