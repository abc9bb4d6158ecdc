// As much of an MCP server as a test needs: the answer to one message, `undefined` for a notification.
export function answer(message, who) {
  const result = (value) => ({ jsonrpc: "2.0", id: message.id, result: value });
  switch (message.method) {
    case "initialize":
      return result({
        protocolVersion: "2025-11-25",
        capabilities: { tools: {} },
        serverInfo: { name: "origin", version: "1" },
      });
    case "tools/list":
      return result({ tools: [{ name: "whoami", inputSchema: { type: "object" } }] });
    case "tools/call":
      return result({ content: [{ type: "text", text: `you are ${who}` }] });
    case "ping":
      return result({});
    default:
      if (message.id === undefined) return undefined;
      return { jsonrpc: "2.0", id: message.id, error: { code: -32601, message: "Method not found" } };
  }
}
