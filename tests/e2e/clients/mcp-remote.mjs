// The stdio bridge mcp-remote in front of the URL, driven by the TypeScript SDK v1 over stdio.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { answers, browserOf, capabilitiesOf, drive, headersOf, installed } from "../lib/drive.mjs";
import { node22, toolsDir } from "../lib/paths.mjs";

const { Client } = installed("@modelcontextprotocol/sdk/client/index.js");
const { StdioClientTransport } = installed("@modelcontextprotocol/sdk/client/stdio.js");
const types = installed("@modelcontextprotocol/sdk/types.js");

await drive("mcp-remote", async (plan, asked) => {
  const home = mkdtempSync(join(tmpdir(), "mcp-remote-"));
  const headers = Object.entries(headersOf(plan)).flatMap(([name, value]) => ["--header", `${name}: ${value}`]);
  const bridge = join(toolsDir(), "npm", "node_modules", "mcp-remote", "dist", "proxy.js");
  const transport = new StdioClientTransport({
    command: node22(),
    args: [bridge, plan.url, "--transport", "http-only", "--allow-http", "--silent", ...headers],
    // With a sign-in it opens the system's browser by itself.
    env: { ...browserOf(), PATH: process.env.PATH, HOME: home, MCP_REMOTE_CONFIG_DIR: home },
    stderr: "inherit",
  });
  const client = new Client({ name: "e2e-mcp-remote", version: "1.0.0" }, { capabilities: capabilitiesOf(plan) });
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
      rmSync(home, { recursive: true, force: true });
    },
  };
});

function bound(client) {
  const names = ["listTools", "listResources", "listResourceTemplates", "listPrompts", "readResource", "getPrompt", "complete"];
  return Object.fromEntries(names.map((name) => [name, (params) => client[name](params)]));
}
