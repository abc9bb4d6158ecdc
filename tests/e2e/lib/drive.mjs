// What every JavaScript client script shares: the plan, the steps, the report.
//
// A plan is one JSON argument: {url, token? or signIn: true, mode?, elicitation?, patience?, steps: [...]}; with
// `elicitation: "url"` the client lets the person's browser open what it is asked to open and goes on at once, as
// clients with a screen do; `patience` is how long it waits for a call, ms. A step is one of
//   {list: "tools" | "resources" | "templates" | "prompts"}, {call: NAME, args?, progress?: true},
//   {read: URI}, {readNamed: END OF A NAME} (the first listed resource), {prompt: NAME, args?}, {complete: PROMPT, argument, value}
// The report is one JSON line: {client, mode, version, server, asked: [...], steps: [...], signedIn?, error?}.
// A step that fails has `error: {code, message}` and the run goes on.
import { createRequire } from "node:module";
import { spawn } from "node:child_process";
import { join } from "node:path";
import { toolsDir } from "./paths.mjs";

/** `require` that finds the installed packages. */
export const installed = createRequire(join(toolsDir(), "npm", "client.cjs"));

/** What a person would type into a form. */
export function fillForm(schema) {
  const content = {};
  for (const [name, property] of Object.entries(schema?.properties ?? {})) {
    if (property.default !== undefined) content[name] = property.default;
    else if (property.enum) content[name] = property.enum[0];
    else if (property.oneOf) content[name] = property.oneOf[0].const;
    else if (property.type === "boolean") content[name] = true;
    else if (property.type === "integer" || property.type === "number") content[name] = property.minimum ?? 1;
    else if (property.type === "array") content[name] = [];
    else content[name] = name.includes("mail") ? "ada@example.com" : "Ada";
  }
  return content;
}

/** The answers to what servers ask; `asked` collects the methods. */
export function answers(asked) {
  return {
    "elicitation/create": (request) => {
      if (request.params.mode === "url") {
        asked.push(`url ${request.params.url}`);
        // Agreeing is to open it, not to be through with it.
        openBrowser(request.params.url);
        return { action: "accept" };
      }
      asked.push("elicitation/create");
      return { action: "accept", content: fillForm(request.params.requestedSchema) };
    },
    "sampling/createMessage": () => {
      asked.push("sampling/createMessage");
      const content = { type: "text", text: "Paris" };
      return { role: "assistant", content, model: "scripted", stopReason: "endTurn" };
    },
    "roots/list": () => {
      asked.push("roots/list");
      return { roots: [{ uri: "file:///test/root", name: "Test Root" }] };
    },
  };
}

/** What the client declares. */
export function capabilitiesOf(plan) {
  return { elicitation: plan.elicitation === "url" ? { form: {}, url: {} } : {}, sampling: {}, roots: {} };
}

/** Starts what the environment calls the browser and does not wait for it. */
export function openBrowser(url) {
  const program = process.env.BROWSER;
  if (!program) throw new Error("no browser");
  spawn(program, [String(url)], { stdio: ["ignore", "ignore", "inherit"] });
}

/** All pages of a list. */
async function pages(fetch, member) {
  const items = [];
  let cursor;
  for (let page = 0; page < 1000; page += 1) {
    const result = await fetch(cursor === undefined ? {} : { cursor });
    items.push(...result[member]);
    cursor = result.nextCursor;
    if (cursor === undefined) return items;
  }
  throw new Error("the list never ends");
}

/** The URI of the first resource whose name ends like this. */
async function named(client, end) {
  const resources = await pages((params) => client.listResources(params), "resources");
  const found = resources.find(({ name }) => name.endsWith(end));
  if (!found) throw new Error(`no resource ${end}`);
  return found.uri;
}

const said = (content) => (content ?? []).map((block) => block.text ?? block.resource?.text ?? `<${block.type}>`).join("\n");

async function step(client, wanted, patience) {
  if (wanted.list) {
    const lists = {
      tools: [(params) => client.listTools(params), "tools", "name"],
      resources: [(params) => client.listResources(params), "resources", "uri"],
      templates: [(params) => client.listResourceTemplates(params), "resourceTemplates", "uriTemplate"],
      prompts: [(params) => client.listPrompts(params), "prompts", "name"],
    };
    const [fetch, member, name] = lists[wanted.list];
    const items = await pages(fetch, member);
    return { names: items.map((item) => item[name]) };
  }
  if (wanted.call) {
    const progress = [];
    const onprogress = wanted.progress ? (update) => progress.push(update.progress) : undefined;
    const options = wanted.progress || patience ? { onprogress, timeout: patience } : undefined;
    const result = await client.callTool({ name: wanted.call, arguments: wanted.args ?? {} }, options);
    const { isError = false, structuredContent, _meta } = result;
    return { isError, text: said(result.content), kinds: result.content.map(({ type }) => type), structuredContent, meta: _meta, progress };
  }
  if (wanted.read || wanted.readNamed) {
    const uri = wanted.read ?? (await named(client, wanted.readNamed));
    const { contents } = await client.readResource({ uri });
    return { uri: contents[0]?.uri, text: contents[0]?.text ?? contents[0]?.blob };
  }
  if (wanted.prompt) {
    const { messages } = await client.getPrompt({ name: wanted.prompt, arguments: wanted.args ?? {} });
    return { text: said(messages.map(({ content }) => content)) };
  }
  if (wanted.complete) {
    const ref = { type: "ref/prompt", name: wanted.complete };
    const argument = { name: wanted.argument, value: wanted.value };
    const { completion } = await client.complete({ ref, argument });
    return { values: completion.values };
  }
  throw new Error(`unknown step ${JSON.stringify(wanted)}`);
}

const problem = (error) => ({ code: error?.code, message: String(error?.message ?? error), data: error?.data });

/** Every step in order, each with its outcome. */
export async function runSteps(client, steps, patience) {
  const done = [];
  for (const wanted of steps) {
    try {
      done.push({ ...wanted, ...(await step(client, wanted, patience)) });
    } catch (error) {
      done.push({ ...wanted, error: problem(error) });
    }
  }
  return done;
}

/** Connects with `connect(plan, asked)` -> {client, version, server, close}, runs the plan, prints the report. */
export async function drive(name, connect) {
  const plan = JSON.parse(process.argv[2] ?? "{}");
  const asked = [];
  const report = { client: name, mode: plan.mode ?? "default", asked, steps: [] };
  // A hanging client must not hang the tests.
  const limit = setTimeout(() => {
    console.log(JSON.stringify({ ...report, error: { message: "time is up" } }));
    process.exit(3);
  }, (plan.limit ?? 90) * 1000);
  try {
    const connection = await connect(plan, asked);
    report.version = connection.version;
    report.server = connection.server;
    report.steps = await runSteps(connection.client, plan.steps ?? [], plan.patience);
    report.signedIn = connection.signedIn?.();
    await connection.close();
  } catch (error) {
    report.error = problem(error);
  }
  clearTimeout(limit);
  console.log(JSON.stringify(report));
  // Some clients keep timers; the report is complete.
  process.exit(report.error ? 1 : 0);
}

/** The header that carries the token. */
export function headersOf(plan) {
  return plan.token ? { Authorization: `Bearer ${plan.token}`, ...plan.headers } : { ...plan.headers };
}

/** What a program that opens the system's browser by itself needs of the environment. */
export function browserOf() {
  const wanted = Object.entries(process.env).filter(([name]) => name === "BROWSER" || name.startsWith("BARTIZAN_"));
  return Object.fromEntries(wanted);
}
