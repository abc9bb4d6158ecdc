// The TypeScript SDK v1 (legacy era only) over Streamable HTTP.
import { answers, capabilitiesOf, drive, headersOf, installed } from "../lib/drive.mjs";
import { oauth, toldOf } from "../lib/oauth.mjs";

const { Client } = installed("@modelcontextprotocol/sdk/client/index.js");
const { StreamableHTTPClientTransport } = installed("@modelcontextprotocol/sdk/client/streamableHttp.js");
const types = installed("@modelcontextprotocol/sdk/types.js");
const { UnauthorizedError } = installed("@modelcontextprotocol/sdk/client/auth.js");

await drive("ts-v1", async (plan, asked) => {
  const client = new Client({ name: "e2e-ts-v1", version: "1.0.0" }, { capabilities: capabilitiesOf(plan) });
  const by = answers(asked);
  client.setRequestHandler(types.ElicitRequestSchema, by["elicitation/create"]);
  client.setRequestHandler(types.CreateMessageRequestSchema, by["sampling/createMessage"]);
  client.setRequestHandler(types.ListRootsRequestSchema, by["roots/list"]);
  const signIn = plan.signIn ? await oauth(plan, "ts-v1") : undefined;
  const options = { requestInit: { headers: headersOf(plan) }, authProvider: signIn?.provider };
  let transport = new StreamableHTTPClientTransport(new URL(plan.url), options);
  try {
    await client.connect(transport);
  } catch (error) {
    if (!signIn || !(error instanceof UnauthorizedError)) throw error;
    const answer = await signIn.answer();
    if (!answer.get("code")) throw new Error(`the redirect says ${answer}`);
    await transport.finishAuth(answer.get("code"));
    transport = new StreamableHTTPClientTransport(new URL(plan.url), options);
    await client.connect(transport);
  }
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
    signedIn: signIn && (() => toldOf(signIn)),
    close: async () => {
      signIn?.close();
      await transport.terminateSession();
      await client.close();
    },
  };
});
