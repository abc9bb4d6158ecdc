// The TypeScript client v2 over Streamable HTTP. Modes: legacy (its default), auto, modern (pinned).
import { answers, capabilities, drive, headersOf, installed } from "../lib/drive.mjs";

const { Client, StreamableHTTPClientTransport } = installed("@modelcontextprotocol/client");

const negotiation = {
  legacy: undefined,
  auto: { mode: "auto" },
  modern: { mode: { pin: "2026-07-28" } },
};

await drive("ts-v2", async (plan, asked) => {
  const versionNegotiation = negotiation[plan.mode ?? "legacy"];
  const client = new Client({ name: "e2e-ts-v2", version: "1.0.0" }, { capabilities, versionNegotiation });
  for (const [method, answer] of Object.entries(answers(asked))) client.setRequestHandler(method, answer);
  const transport = new StreamableHTTPClientTransport(new URL(plan.url), { requestInit: { headers: headersOf(plan) } });
  await client.connect(transport);
  return {
    client,
    version: client.getNegotiatedProtocolVersion?.() ?? transport.protocolVersion,
    server: client.getServerVersion(),
    close: async () => {
      if (transport.sessionId) await transport.terminateSession();
      await client.close();
    },
  };
});
