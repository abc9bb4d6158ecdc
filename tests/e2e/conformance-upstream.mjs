// The "client" that the conformance suite tests (row P24): a bartizan of its own in front of the
// suite's server, and a person and a client in front of that.
//
//   node conformance-upstream.mjs URL      started by the suite, see conformance-client.mjs
//
// What bartizan does towards URL is what the suite judges. Writes what went on to stderr; exits 0
// when the client got what it asked for or the sign-in was refused, 1 when something else failed.
import { spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fillForm, installed } from "./lib/drive.mjs";
import { instantProvider } from "./lib/instant-provider.mjs";
import { here } from "./lib/paths.mjs";
import { Walker } from "./lib/walker.mjs";

const { Client, StreamableHTTPClientTransport } = installed("@modelcontextprotocol/client");
const target = process.argv.at(-1);
const scenario = process.env.MCP_CONFORMANCE_SCENARIO;
const version = process.env.MCP_CONFORMANCE_PROTOCOL_VERSION ?? "2025-11-25";
const context = JSON.parse(process.env.MCP_CONFORMANCE_CONTEXT ?? "{}");
/** Tools of the suite's servers; what is not reviewed is not shown to everybody. */
const TOOLS = [
  ...["add_numbers", "test-tool", "test_client_elicitation_defaults", "test_reconnection", "test_headers", "my-hyphenated-tool"],
  ...["test_mrtr_echo_state", "test_mrtr_no_state", "test_mrtr_unrelated", "test_mrtr_no_result_type"],
  ...["test_custom_headers", "test_custom_headers_null", "lookup_user", "json_schema_2020_12_tool", "json_schema_echo"],
  ...["valid_tool", "invalid_empty_header", "invalid_object_header", "invalid_array_header", "invalid_null_header"],
  ...["invalid_number_header", "invalid_duplicate_same_case", "invalid_duplicate_diff_case", "invalid_space_in_name"],
  ...["invalid_colon_in_name", "invalid_non_ascii_name", "invalid_control_char_name"],
];
const note = (...words) => console.error("wrapper:", ...words);

/** The authorization server that the server names: an administrator looks it up with the client. */
async function issuer() {
  const { origin, pathname } = new URL(target);
  const found = await fetch(`${origin}/.well-known/oauth-protected-resource${pathname}`);
  return (await found.json()).authorization_servers[0];
}

/** How bartizan is to sign in at the server: {auth_type, auth_config}, or nothing. */
function credential() {
  const { client_id, client_secret, private_key_pem: private_key, issuer } = context;
  if (!scenario.startsWith("auth/")) return {};
  if (scenario.startsWith("auth/client-credentials")) {
    return { auth_type: "client_credentials", auth_config: { client_id, client_secret, private_key, issuer } };
  }
  if (scenario === "auth/enterprise-managed-authorization") {
    return { auth_type: "id_jag", auth_config: { client_id, client_secret, issuer } };
  }
  // The document that the suite wants named is not where bartizan keeps its own.
  const document = "https://conformance-test.local/client-metadata.json";
  if (scenario === "auth/basic-cimd") return { auth_type: "oauth", auth_config: { client_id: document } };
  const known = client_id ? { auth_config: { client_id, client_secret, issuer } } : {};
  return { auth_type: "oauth", ...known };
}

async function freePort() {
  const server = createServer();
  await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
  const { port } = server.address();
  await new Promise((closed) => server.close(closed));
  return port;
}

/** A bartizan that has the server and lets the person in. */
async function product(folder, provider, idp) {
  const [port, operations] = [await freePort(), await freePort()];
  const base = `http://127.0.0.1:${port}`;
  const open = !scenario.startsWith("auth/");
  const rule = { name: "people", action: "allow", include: [{ everyone: true }] };
  const server = { server_id: "target", name: "Target", hostname: target, ...credential(), policies: [rule], classes: { read: TOOLS } };
  if (open) server.visibility = "public";
  const config = {
    public_url: base,
    listen: `127.0.0.1:${port}`,
    operations: { listen: `127.0.0.1:${operations}` },
    key: { file: join(folder, "key") },
    store: { data_dir: join(folder, "data") },
    egress: { private_allow: ["127.0.0.1", "::1", "localhost"] },
    limits: { drain_wait_ms: 100 },
    servers: [server],
    portals: [{ id: "default", name: "All", policies: [rule] }],
    identity_providers: [{ id: "corp", issuer: provider.issuer, client_id: idp, client_secret: "secret" }],
  };
  writeFileSync(join(folder, "key"), "0123456789abcdefFEDCBA9876543210", { mode: 0o600 });
  writeFileSync(join(folder, "bartizan.yaml"), JSON.stringify(config));
  const binary = process.env.BARTIZAN_BIN ?? join(here, "..", "..", "target", "debug", "bartizan");
  const child = spawn(binary, ["serve", "-c", join(folder, "bartizan.yaml")], { stdio: ["ignore", "inherit", "inherit"] });
  let ended;
  const end = new Promise((resolve) => child.on("exit", (code, signal) => resolve((ended = code ?? signal))));
  const stop = () => (child.kill("SIGKILL"), end);
  // The suite kills this script when time is up.
  process.on("exit", () => child.kill("SIGKILL"));
  process.on("SIGTERM", () => process.exit(3));
  for (let turn = 0; turn < 600; turn += 1) {
    if (ended !== undefined) throw new Error(`bartizan ended: ${ended}`);
    const answer = await fetch(`http://127.0.0.1:${operations}/readyz`).catch(() => undefined);
    if (answer?.ok) return { base, endpoint: `${base}/servers/target/mcp`, stop };
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  await stop();
  throw new Error("bartizan did not get ready");
}

/** The person signs a client in at bartizan; the access token. */
async function signIn(base, resource, walker) {
  const redirect = "http://127.0.0.1:9/callback";
  const post = async (path, body, headers) => {
    const answer = await fetch(`${base}${path}`, { method: "POST", body, headers });
    const said = await answer.json();
    if (!answer.ok) throw new Error(`${path}: ${JSON.stringify(said)}`);
    return said;
  };
  const metadata = { client_name: "conformance", redirect_uris: [redirect], token_endpoint_auth_method: "none", grant_types: ["authorization_code"], response_types: ["code"] };
  const { client_id } = await post("/register", JSON.stringify(metadata), { "content-type": "application/json" });
  const verifier = randomBytes(32).toString("base64url");
  const code_challenge = createHash("sha256").update(verifier).digest("base64url");
  const asked = { response_type: "code", client_id, redirect_uri: redirect, state: "s", code_challenge, code_challenge_method: "S256", resource };
  const { url, text } = await walker.walk(`${base}/authorize?${new URLSearchParams(asked)}`, redirect);
  const code = new URL(url).searchParams.get("code");
  if (!code) throw new Error(`no code: ${url} ${text}`);
  const form = { grant_type: "authorization_code", code, redirect_uri: redirect, code_verifier: verifier, client_id, resource };
  return (await post("/token", new URLSearchParams(form))).access_token;
}

/** A client of the revision under test at bartizan's endpoint. */
async function connect(endpoint, token, walker) {
  const capabilities = { elicitation: { form: { applyDefaults: true }, url: {} }, sampling: {}, roots: {} };
  const versionNegotiation = version === "2026-07-28" ? { mode: { pin: version } } : undefined;
  const client = new Client({ name: "conformance", version: "1.0.0" }, { capabilities, versionNegotiation });
  client.setRequestHandler("elicitation/create", async ({ params }) => {
    if (params.mode === "url") {
      await account(params.url, walker);
      return { action: "accept" };
    }
    return { action: "accept", content: fillForm(params.requestedSchema) };
  });
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  await client.connect(new StreamableHTTPClientTransport(new URL(endpoint), { requestInit: { headers } }));
  return client;
}

/** The person connects the account; whether that worked. */
async function account(url, walker) {
  const ended = await walker.walk(url);
  note("account", ended.status, ended.url, ended.text.slice(0, 600));
  return ended.url.endsWith("/done") && ended.status === 200;
}

/** The tools, as soon as there are any. */
async function tools(client) {
  for (let turn = 0; turn < 60; turn += 1) {
    const { tools } = await client.listTools();
    if (tools.length > 0) return tools;
    await new Promise((resolve) => setTimeout(resolve, 250));
  }
  throw new Error("no tools");
}

async function call(client, name, args = {}) {
  const result = await client.callTool({ name, arguments: args });
  note("call", name, JSON.stringify(result).slice(0, 400));
  return result;
}

/** What a client does with the server of this scenario. */
async function drive(client) {
  if (scenario === "http-standard-headers") {
    // The suite judges which headers each method comes with.
    const { resources } = await client.listResources();
    for (const { uri } of resources) await client.readResource({ uri }).catch((error) => note(uri, error.message));
    const { prompts } = await client.listPrompts();
    for (const { name } of prompts) await client.getPrompt({ name }).catch((error) => note(name, error.message));
  }
  // Servers that are only to be asked for their tools, of which some have none.
  const brief = ["initialize", "request-metadata", "json-schema-ref-no-deref"];
  if (brief.includes(scenario)) return void (await client.listTools());
  const listed = await tools(client);
  note("tools", listed.map(({ name }) => name).join(" "));
  const named = (name) => listed.find((tool) => tool.name === name);
  if (scenario === "json-schema-2020-12-preservation") {
    await call(client, "json_schema_echo", { schema: named("json_schema_2020_12_tool").inputSchema });
  } else if (scenario === "http-custom-headers") {
    for (const { name, arguments: args } of context.toolCalls) await call(client, name, args).catch((error) => note(error.message));
  } else if (scenario === "sep-2322-client-request-state") {
    for (const name of ["test_mrtr_echo_state", "test_mrtr_unrelated", "test_mrtr_no_state", "test_mrtr_no_result_type"]) await call(client, name);
  } else if (named("add_numbers")) {
    await call(client, "add_numbers", { a: 5, b: 3 });
  } else {
    for (const { name, inputSchema } of listed) {
      await call(client, name, fillForm(inputSchema)).catch((error) => note(name, error.message));
    }
  }
}

async function main() {
  const folder = mkdtempSync(join(tmpdir(), "conformance-upstream-"));
  const idp = context.idp_client_id ?? "bartizan";
  const exchange = context.idp_token_endpoint && { url: context.idp_token_endpoint, idToken: context.idp_id_token };
  if (context.client_secret || context.private_key_pem) context.issuer ??= await issuer();
  const provider = await instantProvider(idp, exchange);
  const walker = new Walker();
  let stop = async () => {};
  try {
    const started = await product(folder, provider, idp);
    stop = started.stop;
    const people = scenario.startsWith("auth/");
    const token = people ? await signIn(started.base, started.endpoint, walker) : undefined;
    if (credential().auth_type === "oauth" && !(await account(`${started.base}/connect/target`, walker))) {
      note("the account was not connected");
      return 0;
    }
    const use = async () => {
      const client = await connect(started.endpoint, token, walker);
      await drive(client);
      await client.close();
    };
    try {
      await use();
    } catch (error) {
      // The server does not take the account any more, which the client is told: its person
      // connects it again, once.
      if (scenario !== "auth/authorization-server-migration") throw error;
      note("once more", error.message);
      await account(`${started.base}/connect/target`, walker);
      await use();
    }
    return 0;
  } finally {
    note("walked", walker.seen.join("\n  "));
    await stop();
    provider.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

main().then(
  (code) => process.exit(code),
  (error) => {
    note(error.stack);
    process.exit(1);
  },
);
