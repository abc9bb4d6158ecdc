// A door before an MCP server: it lets in who shows a token for it, and counts who that was.
import { createServer, request as ask } from "node:http";

export async function listen(server, host = "127.0.0.1") {
  await new Promise((resolve) => server.listen(0, host, resolve));
  return `http://${host}:${server.address().port}`;
}

/**
 * {origin, resource, seen, count}: `holder(token)` says who a token is for, if it is good. A call
 * whose argument `value.tag` is not who the token is for counts as mixed; the text @@who@@ in an
 * answer becomes who was seen. `about()` is the description of the resource.
 */
export async function openDoor(behind, holder, about) {
  const door = createServer();
  const origin = await listen(door);
  const resource = `${origin}/mcp`;
  const seen = {};
  const count = { mixed: 0 };
  door.on("request", async (request, response) => {
    if (request.url === "/.well-known/oauth-protected-resource/mcp") {
      response.setHeader("content-type", "application/json");
      response.end(JSON.stringify({ resource, ...about() }));
      return;
    }
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const body = Buffer.concat(chunks);
    const [scheme, token] = (request.headers.authorization ?? "").split(" ");
    const who = scheme === "Bearer" && token ? await holder(token).catch(() => undefined) : undefined;
    if (!who) {
      response.setHeader("www-authenticate", `Bearer resource_metadata="${origin}/.well-known/oauth-protected-resource/mcp"`);
      response.writeHead(401).end();
      return;
    }
    try {
      const message = JSON.parse(body);
      if (message.method === "tools/call") {
        seen[who] = (seen[who] ?? 0) + 1;
        const tag = message.params?.arguments?.value?.tag;
        if (tag !== undefined && tag !== who) count.mixed += 1;
      }
    } catch {
      // Not JSON: a GET, or the server behind will say so.
    }
    const headers = { ...request.headers, host: behind.host };
    delete headers.authorization;
    const options = { host: behind.hostname, port: behind.port, path: request.url, method: request.method, headers };
    const inner = ask(options, (answer) => {
      const head = { ...answer.headers };
      delete head["content-length"];
      delete head["transfer-encoding"];
      response.writeHead(answer.statusCode, head);
      response.flushHeaders();
      answer.on("data", (chunk) => response.write(chunk.toString().replaceAll("@@who@@", who)));
      answer.on("end", () => response.end());
      answer.on("error", () => response.destroy());
    });
    inner.on("error", () => response.destroy());
    response.on("close", () => inner.destroy());
    inner.end(body);
  });
  return { origin, resource, seen, count };
}
