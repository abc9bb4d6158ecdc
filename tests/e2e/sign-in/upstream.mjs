// An upstream of its own company: a real authorization server (npm oidc-provider: registration,
// resource indicators, rotating refresh tokens, revocation) and, in front of an MCP server,
// a door that lets in who shows a token for it.
//
//   node upstream.mjs '{"behind": "http://127.0.0.1:PORT", "host"?: "127.0.0.2", "ttl"?: seconds}'
//
// Prints {issuer, url} as one JSON line. Then each line of stdin is one command, answered by
// one line:
//   {"expire": "ana"}    her access tokens are worthless from now on, refreshing works
//   {"forget": "ana"}    all she granted is gone: tokens, refresh tokens, grants
//   {"clients": "drop"}  no registered client is known any more
//   {"stats": true}      {seen: {who: calls}, mixed, refreshed, revoked: [..], registered, refused}
// Ends with stdin. Any name and password are right. A call whose argument `value.tag` is not
// who the token is for counts as mixed; the text @@who@@ in an answer becomes who was seen.
import { createServer } from "node:http";
import { createInterface } from "node:readline";
import { generateKeyPairSync, randomBytes } from "node:crypto";
import { pathToFileURL } from "node:url";
import { listen, openDoor } from "../lib/door.mjs";
import { installed } from "../lib/drive.mjs";

const { Provider } = await import(pathToFileURL(installed.resolve("oidc-provider")).href);
const wanted = JSON.parse(process.argv[2] ?? "{}");
const behind = new URL(wanted.behind);
const ttl = wanted.ttl ?? 3600;
const count = { refreshed: 0, revoked: [], registered: 0, refused: 0 };
const rows = new Map();

/** Everything in memory, and tokens can be found by whose they are. */
class Memory {
  constructor(model) {
    this.model = model;
  }
  async upsert(id, payload, expiresIn) {
    const until = expiresIn ? Date.now() + expiresIn * 1000 : Infinity;
    if (this.model === "Client" && !rows.has(`Client:${id}`)) count.registered += 1;
    rows.set(`${this.model}:${id}`, { model: this.model, payload, until });
  }
  async find(id) {
    const row = rows.get(`${this.model}:${id}`);
    return row && row.until > Date.now() ? row.payload : undefined;
  }
  async findByUid(uid) {
    return [...rows.values()].find((row) => row.model === this.model && row.payload.uid === uid)?.payload;
  }
  async findByUserCode() {
    return undefined;
  }
  async consume(id) {
    const payload = await this.find(id);
    if (payload) payload.consumed = Math.floor(Date.now() / 1000);
  }
  async destroy(id) {
    rows.delete(`${this.model}:${id}`);
  }
  async revokeByGrantId(grant) {
    drop((row) => row.payload.grantId === grant);
  }
}

function drop(which) {
  for (const [key, row] of rows) if (which(row)) rows.delete(key);
}

const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
const authority = createServer();
const issuer = await listen(authority, wanted.host ?? "127.0.0.2");
/** Whose token it is, if it is good here. */
const holder = async (value) => {
  const token = await provider.AccessToken.find(value);
  return token && token.aud === resource ? token.accountId : undefined;
};
const about = () => ({ authorization_servers: [issuer], scopes_supported: ["openid", "email", "notes.read"] });
const door = await openDoor(behind, holder, about);
const { resource } = door;

const provider = new Provider(issuer, {
  adapter: Memory,
  claims: { openid: ["sub"], email: ["email", "email_verified"] },
  conformIdTokenClaims: false,
  scopes: ["openid", "email", "offline_access"],
  async findAccount(_, id) {
    return { accountId: id, claims: async () => ({ sub: id, email: `${id}@upstream.example`, email_verified: true }) };
  },
  features: {
    registration: { enabled: true },
    revocation: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => resource,
      useGrantedResource: () => true,
      getResourceServerInfo: (_, indicator) => {
        if (indicator !== resource) throw new Error("no such resource");
        return { scope: "notes.read", audience: resource, accessTokenTTL: ttl, accessTokenFormat: "opaque" };
      },
    },
  },
  issueRefreshToken: async () => true,
  rotateRefreshToken: true,
  jwks: { keys: [{ ...privateKey.export({ format: "jwk" }), alg: "RS256", use: "sig", kid: "one" }] },
  cookies: { keys: [randomBytes(24).toString("hex")] },
  pkce: { required: () => true },
  ttl: { IdToken: 3600, Session: 86400, Grant: 86400, Interaction: 3600, RefreshToken: 86400 },
});
provider.on("grant.success", (context) => {
  if (context.oidc.params.grant_type === "refresh_token") count.refreshed += 1;
});
provider.on("grant.error", (context) => {
  if (context.oidc?.params?.grant_type === "refresh_token") count.refused += 1;
});
for (const event of ["access_token.destroyed", "refresh_token.destroyed"]) {
  provider.on(event, (token) => count.revoked.push(`${event.split(".")[0]} ${token.accountId}`));
}
authority.on("request", provider.callback());

console.log(JSON.stringify({ issuer, url: resource }));

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  const of = (row, who) => row.payload.accountId === who;
  if (command.expire) drop((row) => row.model === "AccessToken" && of(row, command.expire));
  if (command.forget) drop((row) => ["AccessToken", "RefreshToken", "Grant"].includes(row.model) && of(row, command.forget));
  if (command.clients === "drop") drop((row) => row.model === "Client");
  console.log(JSON.stringify({ done: true, seen: door.seen, ...door.count, ...count }));
}
process.exit(0);
