// Our own stdio bridge in front of the URL, driven by the TypeScript SDK v1 over stdio.
import { answers, browserOf, capabilitiesOf, drive, installed } from "../lib/drive.mjs";

const { Client } = installed("@modelcontextprotocol/sdk/client/index.js");
const { StdioClientTransport } = installed("@modelcontextprotocol/sdk/client/stdio.js");
const types = installed("@modelcontextprotocol/sdk/types.js");

await drive("stdio", async (plan, asked) => {
  const transport = new StdioClientTransport({
    command: process.env.BARTIZAN_BINARY,
    // The key store of whoever runs the tests is not touched.
    args: ["stdio", plan.url, "--no-keep"],
    env: { ...browserOf(), PATH: process.env.PATH, ...(plan.token ? { BARTIZAN_TOKEN: plan.token } : {}) },
    stderr: "inherit",
  });
  const client = new Client({ name: "e2e-stdio", version: "1.0.0" }, { capabilities: capabilitiesOf(plan) });
  const by = answers(asked);
  client.setRequestHandler(types.ElicitRequestSchema, by["elicitation/create"]);
  client.setRequestHandler(types.CreateMessageRequestSchema, by["sampling/createMessage"]);
  client.setRequestHandler(types.ListRootsRequestSchema, by["roots/list"]);
  // A person takes longer than a protocol.
  await client.connect(transport, { timeout: 90_000 });
  return {
    client: { ...bound(client), callTool: (params, options) => client.callTool(params, undefined, options) },
    version: undefined,
    server: client.getServerVersion(),
    close: async () => {
      await client.close();
    },
  };
});

function bound(client) {
  const names = ["listTools", "listResources", "listResourceTemplates", "listPrompts", "readResource", "getPrompt", "complete"];
  return Object.fromEntries(names.map((name) => [name, (params) => client[name](params)]));
}
