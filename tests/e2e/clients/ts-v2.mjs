// The TypeScript client v2 over Streamable HTTP. Modes: legacy (its default), auto, modern (pinned).
import { answers, capabilitiesOf, drive, headersOf, installed } from "../lib/drive.mjs";
import { oauth, toldOf } from "../lib/oauth.mjs";

const { Client, StreamableHTTPClientTransport, UnauthorizedError } = installed("@modelcontextprotocol/client");

const negotiation = {
  legacy: undefined,
  auto: { mode: "auto" },
  modern: { mode: { pin: "2026-07-28" } },
};

await drive("ts-v2", async (plan, asked) => {
  const versionNegotiation = negotiation[plan.mode ?? "legacy"];
  const client = new Client({ name: "e2e-ts-v2", version: "1.0.0" }, { capabilities: capabilitiesOf(plan), versionNegotiation });
  for (const [method, answer] of Object.entries(answers(asked))) client.setRequestHandler(method, answer);
  const signIn = plan.signIn ? await oauth(plan, "ts-v2") : undefined;
  const options = { requestInit: { headers: headersOf(plan) }, authProvider: signIn?.provider };
  let transport = new StreamableHTTPClientTransport(new URL(plan.url), options);
  try {
    await client.connect(transport);
  } catch (error) {
    // The probe of the modern era wraps the reason.
    const unauthorized = error instanceof UnauthorizedError || error?.cause instanceof UnauthorizedError;
    if (!signIn || !unauthorized) throw error;
    // The whole answer, so that the client itself checks the issuer (RFC 9207).
    await transport.finishAuth(await signIn.answer());
    transport = new StreamableHTTPClientTransport(new URL(plan.url), options);
    await client.connect(transport);
  }
  return {
    client,
    version: client.getNegotiatedProtocolVersion?.() ?? transport.protocolVersion,
    server: client.getServerVersion(),
    signedIn: signIn && (() => toldOf(signIn)),
    close: async () => {
      signIn?.close();
      if (transport.sessionId) await transport.terminateSession();
      await client.close();
    },
  };
});
