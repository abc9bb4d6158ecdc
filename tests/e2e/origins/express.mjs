// An origin with express, guarded by helpers/typescript:  express.mjs ISSUER AUDIENCE JWKS_URL [open]
import { loadGuard, installed } from "./load.mjs";
import { answer } from "./mcp.mjs";

const [issuer, audience, jwks, open] = process.argv.slice(2);
const express = installed("express");
const { guard } = await loadGuard();
const app = express();
if (!open) {
  const onRefused = (why) => console.error(`refused: ${why}`);
  app.use(guard({ issuer, audience, jwks, onRefused }).express());
}
app.use(express.json());
app.post("/mcp", (request, response) => {
  const said = answer(request.body, request.assertion?.sub ?? "anybody");
  if (said === undefined) response.status(202).end();
  else response.json(said);
});
app.all("/mcp", (_request, response) => response.status(405).end());
const server = app.listen(0, "127.0.0.1", () => console.log(server.address().port));
