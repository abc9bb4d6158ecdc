// What a server behind bartizan does with the header Cf-Access-Jwt-Assertion, as the
// documentation of Cloudflare Access writes it (npm jose), and with a memory of `jti`.
//
//   node verify.mjs ISSUER JWKS_URL AUDIENCE
//
// Each line of stdin is a token; each is answered with one JSON line: the claims, or {"refused": why}.
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";
import { installed } from "../lib/drive.mjs";

const { createRemoteJWKSet, jwtVerify } = await import(pathToFileURL(installed.resolve("jose")).href);
const [issuer, url, audience] = process.argv.slice(2);
// Keys are asked for again whenever one is unknown, so that the test need not wait.
const keys = createRemoteJWKSet(new URL(url), { cooldownDuration: 0, cacheMaxAge: 0 });
const seen = new Map();

async function accept(token) {
  const { payload } = await jwtVerify(token, keys, { issuer, audience, algorithms: ["ES256", "EdDSA"] });
  const now = Date.now() / 1000;
  for (const [jti, exp] of seen) if (exp < now) seen.delete(jti);
  if (!payload.jti || seen.has(payload.jti)) throw new Error("replay");
  seen.set(payload.jti, payload.exp);
  return payload;
}

for await (const line of createInterface({ input: process.stdin })) {
  const answer = await accept(line.trim()).catch((error) => ({ refused: error.code ?? error.message }));
  console.log(JSON.stringify(answer));
}
