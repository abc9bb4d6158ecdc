// An issuer of tokens (npm jose): the company's provider that vouches for people, or a CI platform.
//
//   node issuer.mjs
//
// Prints {issuer} as one JSON line when it listens on a free loopback port. Then each line of
// stdin is {typ?, claims, as?: "none" | "other"}, answered with {token}: signed by its key, not
// signed, or signed by a key of the same name that is not published. {rotate: true} makes a new
// key the only one. `iss`, `iat`, `exp` (in five minutes) and `jti` are filled in unless given.
import { createServer } from "node:http";
import { createInterface } from "node:readline";
import { randomUUID } from "node:crypto";
import { pathToFileURL } from "node:url";
import { installed } from "../lib/drive.mjs";

const { exportJWK, generateKeyPair, SignJWT, UnsecuredJWT } = await import(
  pathToFileURL(installed.resolve("jose")).href
);
let issuer;
let number = 0;
let key;
const other = await generateKeyPair("ES256");

async function rotate() {
  key = { ...(await generateKeyPair("ES256")), kid: `k${++number}` };
  key.jwk = { ...(await exportJWK(key.publicKey)), kid: key.kid, alg: "ES256", use: "sig" };
}

const server = createServer((request, response) => {
  const pages = {
    "/.well-known/openid-configuration": {
      issuer,
      jwks_uri: `${issuer}/keys`,
      authorization_endpoint: `${issuer}/auth`,
      token_endpoint: `${issuer}/token`,
    },
    "/keys": { keys: [key.jwk] },
  };
  const page = pages[request.url];
  response.writeHead(page ? 200 : 404, { "content-type": "application/json" });
  response.end(JSON.stringify(page ?? {}));
});

async function token({ typ = "JWT", claims, as }) {
  const now = Math.floor(Date.now() / 1000);
  const all = { iss: issuer, iat: now, exp: now + 300, jti: randomUUID(), ...claims };
  if (as === "none") return new UnsecuredJWT(all).encode();
  const signer = new SignJWT(all).setProtectedHeader({ alg: "ES256", typ, kid: key.kid });
  return signer.sign(as === "other" ? other.privateKey : key.privateKey);
}

await rotate();
server.listen(0, "127.0.0.1", async () => {
  issuer = `http://127.0.0.1:${server.address().port}`;
  console.log(JSON.stringify({ issuer }));
  for await (const line of createInterface({ input: process.stdin })) {
    const command = JSON.parse(line);
    if (command.rotate) {
      await rotate();
      console.log(JSON.stringify({ done: true }));
    } else {
      console.log(JSON.stringify({ token: await token(command) }));
    }
  }
  process.exit(0);
});
