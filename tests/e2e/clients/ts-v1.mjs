// The TypeScript SDK v1 (legacy era only) over Streamable HTTP.
import { answers, capabilities, drive, headersOf, installed } from "../lib/drive.mjs";

const { Client } = installed("@modelcontextprotocol/sdk/client/index.js");
const { StreamableHTTPClientTransport } = installed("@modelcontextprotocol/sdk/client/streamableHttp.js");
const types = installed("@modelcontextprotocol/sdk/types.js");



await drive("ts-v1", async (plan, asked) => {
  const client = new Client({ name: "e2e-ts-v1", version: "1.0.0" }, { capabilities });
  const by = answers(asked);
  client.setRequestHandler(types.ElicitRequestSchema, by["elicitation/create"]);
  client.setRequestHandler(types.CreateMessageRequestSchema, by["sampling/createMessage"]);
  client.setRequestHandler(types.ListRootsRequestSchema, by["roots/list"]);
  const transport = new StreamableHTTPClientTransport(new URL(plan.url), { requestInit: { headers: headersOf(plan) } });
  await client.connect(transport);
  const adapter = {
    listTools: (params) => client.listTools(params),
    listResources: (params) => client.listResources(params),
    listResourceTemplates: (params) => client.listResourceTemplates(params),
    listPrompts: (params) => client.listPrompts(params),
    callTool: (params, options) => client.callTool(params, undefined, options),
    readResource: (params) => client.readResource(params),
    getPrompt: (params) => client.getPrompt(params),
    complete: (params) => client.complete(params),
  };
  return {
    client: adapter,
    version: transport.protocolVersion,
    server: client.getServerVersion(),
    close: async () => {
      await transport.terminateSession();
      await client.close();
    },
  };
});
