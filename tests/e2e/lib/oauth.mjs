// Sign-in of the JavaScript clients: a provider object in memory, as applications write it,
// a loopback listener for the redirect, and the system's browser.
import { createServer } from "node:http";
import { randomBytes } from "node:crypto";
import { openBrowser } from "./drive.mjs";

/**
 * Everything the SDKs ask of an application: metadata, storage, and the way to the browser.
 * `answer` resolves with the parameters of the redirect.
 */
export async function oauth(plan, name) {
  const kept = { information: plan.client, tokens: undefined, verifier: undefined };
  const told = { registered: 0, redirected: 0, saved: 0 };
  let resolve;
  const answer = new Promise((done) => {
    resolve = done;
  });
  const state = randomBytes(16).toString("hex");
  const listener = createServer((request, response) => {
    const target = new URL(request.url, "http://127.0.0.1");
    if (target.pathname !== "/callback") {
      response.writeHead(404).end();
      return;
    }
    response.writeHead(200, { "content-type": "text/html" }).end("<h1>You may close this page</h1>");
    if (target.searchParams.get("state") === state) resolve(target.searchParams);
  });
  await new Promise((listening) => listener.listen(0, "127.0.0.1", listening));
  const redirectUrl = `http://127.0.0.1:${listener.address().port}/callback`;
  const provider = {
    redirectUrl,
    clientMetadataUrl: plan.clientMetadataUrl,
    clientMetadata: {
      client_name: `e2e ${name}`,
      redirect_uris: [redirectUrl],
      grant_types: ["authorization_code", "refresh_token"],
      response_types: ["code"],
      token_endpoint_auth_method: "none",
    },
    state: () => state,
    clientInformation: () => kept.information,
    saveClientInformation: (information) => {
      told.registered += 1;
      kept.information = information;
    },
    tokens: () => kept.tokens,
    saveTokens: (tokens) => {
      told.saved += 1;
      kept.tokens = tokens;
    },
    redirectToAuthorization: (url) => {
      told.redirected += 1;
      told.url = String(url);
      openBrowser(url);
    },
    saveCodeVerifier: (verifier) => {
      kept.verifier = verifier;
    },
    codeVerifier: () => kept.verifier,
    invalidateCredentials: (scope) => {
      if (scope === "all" || scope === "tokens") kept.tokens = undefined;
      if (scope === "all" || scope === "client") kept.information = plan.client;
    },
  };
  const deadline = new Promise((_, reject) => {
    setTimeout(() => reject(new Error("nobody came back from the browser")), 60_000).unref();
  });
  return {
    provider,
    told,
    answer: () => Promise.race([answer, deadline]),
    close: () => {
      listener.closeAllConnections();
      listener.close();
    },
  };
}

/** What a report tells of a sign-in; the tokens are shown, because the test searches for them elsewhere. */
export function toldOf(signIn) {
  const tokens = signIn.provider.tokens();
  return { ...signIn.told, tokens, client: signIn.provider.clientInformation() };
}
