// An origin of the Fetch standard with Hono, guarded by helpers/typescript:  hono.mjs ISSUER AUDIENCE JWKS_URL
import { createServer } from "node:http";
import { loadGuard, installed } from "./load.mjs";
import { answer } from "./mcp.mjs";

const [issuer, audience, jwks] = process.argv.slice(2);
const { Hono } = installed("hono");
const { guard } = await loadGuard();
const app = new Hono();
app.post("/mcp", async (context) => {
  const said = answer(await context.req.json(), context.env.sub);
  return said === undefined ? context.body(null, 202) : context.json(said);
});
app.all("/mcp", (context) => context.body(null, 405));
const guarded = guard({ issuer, audience, jwks }).fetch((request, claims) => app.fetch(request, { sub: claims.sub }));

// Hono has an adapter for Node; what it does is this.
const server = createServer(async (request, response) => {
  const body = [];
  for await (const piece of request) body.push(piece);
  const headers = new Headers();
  for (let at = 0; at < request.rawHeaders.length; at += 2) headers.append(request.rawHeaders[at], request.rawHeaders[at + 1]);
  const init = { method: request.method, headers, body: body.length > 0 ? Buffer.concat(body) : undefined };
  const said = await guarded(new Request(`http://127.0.0.1${request.url}`, init));
  response.writeHead(said.status, Object.fromEntries(said.headers)).end(Buffer.from(await said.arrayBuffer()));
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
