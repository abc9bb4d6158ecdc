// The MCP Inspector's command line, one process per step. Modes: legacy, auto, modern.
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { browserOf, drive, headersOf } from "../lib/drive.mjs";
import { node22, toolsDir } from "../lib/paths.mjs";

function inspector(plan, home) {
  const program = join(toolsDir(), "npm", "node_modules", "@modelcontextprotocol", "inspector", "clients", "launcher", "build", "index.js");
  const headers = Object.entries(headersOf(plan)).flatMap(([name, value]) => ["--header", `${name}: ${value}`]);
  const common = [program, "--cli", "--server-url", plan.url, "--transport", "http", "--format", "json"];
  // Signed in once, the next runs find the tokens in the store of this home.
  const auth = plan.signIn ? ["--callback-url", `http://127.0.0.1:${plan.callbackPort}/oauth/callback`] : ["--stored-auth-only"];
  const era = plan.mode ? ["--protocol-era", plan.mode] : [];
  return (...words) => {
    const done = spawnSync(node22(), [...common, ...auth, ...era, ...headers, "--connect-timeout", "60000", ...words], {
      encoding: "utf8",
      timeout: 75_000,
      env: { ...browserOf(), PATH: process.env.PATH, HOME: home, MCP_INSPECTOR_SECRET_STORE: plan.signIn ? "file" : "memory", MCP_AUTO_OPEN_ENABLED: "true" },
    });
    const line = done.stdout.trim();
    if (line === "") throw new Error(`exit ${done.status ?? done.signal}: ${done.stderr.slice(-2000)}`);
    const output = JSON.parse(line);
    // Exit 5 = the tool answered with isError: an answer like any other.
    if (done.status !== 0 && done.status !== 5) throw new Error(`exit ${done.status}: ${line} ${done.stderr.slice(-2000)}`);
    return output.result ?? output;
  };
}

await drive("inspector", async (plan) => {
  const home = mkdtempSync(join(tmpdir(), "inspector-"));
  const run = inspector(plan, home);
  const pairs = (args) => Object.entries(args).flatMap(([name, value]) => ["--prompt-args", `${name}=${value}`]);
  const cursor = (params) => (params.cursor ? ["--cursor", params.cursor] : []);
  return {
    client: {
      listTools: async (params) => run("--method", "tools/list", ...cursor(params)),
      listResources: async (params) => run("--method", "resources/list", ...cursor(params)),
      listResourceTemplates: async (params) => run("--method", "resources/templates/list", ...cursor(params)),
      listPrompts: async (params) => run("--method", "prompts/list", ...cursor(params)),
      callTool: async ({ name, arguments: args }) =>
        run("--method", "tools/call", "--tool-name", name, "--tool-args-json", JSON.stringify(args)),
      readResource: async ({ uri }) => run("--method", "resources/read", "--uri", uri),
      getPrompt: async ({ name, arguments: args }) => run("--method", "prompts/get", "--prompt-name", name, ...pairs(args)),
      complete: async () => {
        throw new Error("the command line has no completion");
      },
    },
    close: async () => rmSync(home, { recursive: true, force: true }),
  };
});
