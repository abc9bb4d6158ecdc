// Runs the client scenarios of the MCP conformance suite: the suite starts a server for each, and
// a bartizan (conformance-upstream.mjs) is the client that it judges.
//
//   node tests/e2e/conformance-client.mjs --set 2025-11-25|2026-07-28|extensions [--scenario NAME] [--jobs 3]
//
// Prints one JSON line: {set, scenarios: [{name, passed, complaints: [...]}]}. A scenario passes when
// the suite says so: no failure, no warning, in time, and the client got what it came for.
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { here, node22, toolsDir } from "./lib/paths.mjs";

const { values } = parseArgs({
  options: {
    set: { type: "string" },
    scenario: { type: "string" },
    jobs: { type: "string", default: "3" },
  },
});
const suite = join(toolsDir(), "npm", "node_modules", "@modelcontextprotocol", "conformance");

/** Optional ones that bartizan wants to pass; they belong to no revision. */
const EXTENSIONS = ["auth/client-credentials-basic", "auth/client-credentials-jwt", "auth/enterprise-managed-authorization"];

/** The scored client scenarios of a revision, and the one that came later. */
function wanted(set) {
  if (set === "extensions") return EXTENSIONS;
  let section = "";
  const names = [];
  for (const line of readFileSync(join(suite, "requirements", `${set}.yaml`), "utf8").split("\n")) {
    section = /^([A-Za-z_-]+):\s*$/.exec(line)?.[1] ?? section;
    const item = /^\s+-\s+([\w/.-]+)\s*$/.exec(line);
    if (item && section === "client") names.push(item[1]);
  }
  return [...names, "json-schema-2020-12-preservation"];
}

/** Every file of this name below a folder, joined. */
function files(folder, name) {
  if (!existsSync(folder)) return [];
  const found = readdirSync(folder, { recursive: true }).filter((path) => path.endsWith(name));
  return found.map((path) => readFileSync(join(folder, path), "utf8"));
}

function judge(name) {
  const out = mkdtempSync(join(tmpdir(), "conformance-client-"));
  // The suite splits the command at blanks and hands it to a shell.
  const command = `${node22()} ${join(here, "conformance-upstream.mjs")}`;
  const args = [join(suite, "dist", "index.js"), "client", "--command", command, "--scenario", name, "--timeout", "90000", "-o", out];
  if (values.set !== "extensions") args.push("--spec-version", values.set);
  return new Promise((resolve, reject) => {
    const child = spawn(node22(), args, { stdio: ["ignore", "pipe", "pipe"] });
    let log = "";
    child.stdout.on("data", (data) => (log += data));
    child.stderr.on("data", (data) => (log += data));
    child.on("error", reject);
    child.on("close", (code) => {
      const checks = files(out, "checks.json").flatMap((text) => JSON.parse(text));
      const bad = checks.filter(({ status }) => status === "FAILURE" || status === "WARNING");
      const complaints = bad.map(({ id, status, errorMessage, description }) => `${status} ${id}: ${errorMessage ?? description}`);
      const passed = code === 0 && bad.length === 0 && checks.some(({ status }) => status === "SUCCESS");
      if (!passed) {
        const said = files(out, "stderr.txt").join("").split("\n").filter((line) => /^wrapper|"(WARN|ERROR)"/.test(line));
        complaints.push(`exit ${code}`, ...said, ...(checks.length ? [] : [log.slice(-2000)]));
      }
      rmSync(out, { recursive: true, force: true });
      resolve({ name, passed, complaints });
    });
  });
}

async function main() {
  if (!values.set) throw new Error("--set is needed");
  if (!existsSync(suite) || !existsSync(node22())) throw new Error(`the suite is not installed in ${toolsDir()}`);
  const names = values.scenario ? [values.scenario] : wanted(values.set);
  const scenarios = new Array(names.length);
  let next = 0;
  const work = async () => {
    while (next < names.length) {
      const at = next++;
      scenarios[at] = await judge(names[at]);
    }
  };
  await Promise.all(Array.from({ length: Number(values.jobs) }, work));
  console.log(JSON.stringify({ set: values.set, scenarios }));
}

main().catch((error) => {
  console.error(`conformance-client: ${error.message}`);
  process.exitCode = 2;
});
