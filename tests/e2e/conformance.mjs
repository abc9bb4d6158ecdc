// Runs the MCP conformance suite against a server URL and reports each scenario.
//
//   node tests/e2e/conformance.mjs --url URL --requirements 2025-11-25 [--out DIR] [--scenario NAME]
//
// Prints one JSON line: {requirements, url, passed, failed, total, exit, scenarios: [{name, outcome, failures, warnings}]}.
// `passed` counts the scored scenarios without a FAILURE. Exits 0 only when all passed and
// none has a warning (with a baseline file a warning counts as a failure).
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, readdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { here, node22, toolsDir } from "./lib/paths.mjs";

const { values } = parseArgs({
  options: {
    url: { type: "string" },
    requirements: { type: "string" },
    scenario: { type: "string" },
    out: { type: "string" },
    limit: { type: "string", default: "600" },
  },
});

const suite = join(toolsDir(), "npm", "node_modules", "@modelcontextprotocol", "conformance");

/** The scored server scenarios of a requirement set. */
function scored(version) {
  const lines = readFileSync(join(suite, "requirements", `${version}.yaml`), "utf8").split("\n");
  const names = [];
  let section = "";
  for (const line of lines) {
    const key = /^([A-Za-z_-]+):\s*$/.exec(line);
    if (key) section = key[1];
    const item = /^\s+-\s+([\w/.-]+)\s*$/.exec(line);
    if (item && section === "server") names.push(item[1]);
  }
  return names;
}

/** Every checks.json below a folder, by scenario. */
function results(folder) {
  const found = new Map();
  const walk = (path) => {
    for (const entry of readdirSync(path, { withFileTypes: true })) {
      const inner = join(path, entry.name);
      if (entry.isDirectory()) walk(inner);
      else if (entry.name === "checks.json") {
        // Folders are named server-SCENARIO-TIMESTAMP.
        const folderName = path.slice(folder.length + 1);
        const name = folderName.replace(/^server-/, "").replace(/-\d{4}-\d{2}-\d{2}T.*$/, "");
        found.set(name, JSON.parse(readFileSync(inner, "utf8")));
      }
    }
  };
  if (existsSync(folder)) walk(folder);
  return found;
}

function run(out) {
  const args = [join(suite, "dist", "index.js"), "server", "--url", values.url, "--timeout", "90000", "-o", out];
  if (values.scenario) args.push("--scenario", values.scenario, "--spec-version", values.requirements);
  else args.push("--requirements", values.requirements, "--expected-failures", join(here, "conformance-baseline.yml"));
  return new Promise((resolve, reject) => {
    const child = spawn(node22(), args, { stdio: ["ignore", "pipe", "pipe"] });
    let log = "";
    child.stdout.on("data", (data) => (log += data));
    child.stderr.on("data", (data) => (log += data));
    const timer = setTimeout(() => child.kill("SIGKILL"), Number(values.limit) * 1000);
    child.on("error", reject);
    child.on("exit", (code, signal) => {
      clearTimeout(timer);
      resolve({ exit: code ?? signal, log });
    });
  });
}

async function main() {
  if (!values.url || !values.requirements) throw new Error("--url and --requirements are needed");
  if (!existsSync(suite) || !existsSync(node22())) throw new Error(`the suite is not installed in ${toolsDir()}`);
  const out = values.out ?? mkdtempSync(join(tmpdir(), "conformance-"));
  const { exit, log } = await run(out);
  const found = results(out);
  const names = values.scenario ? [values.scenario] : scored(values.requirements);
  const scenarios = names.map((name) => {
    const checks = found.get(name) ?? [];
    const of = (status) =>
      checks.filter((check) => check.status === status).map((check) => `${check.id}: ${check.errorMessage ?? ""}`);
    const failures = of("FAILURE");
    const warnings = of("WARNING");
    const good = checks.some((check) => check.status === "SUCCESS");
    // `informed`: the suite looked and found nothing to judge; `missing`: it did not run.
    const silent = checks.length > 0 ? "informed" : "missing";
    const outcome = failures.length > 0 ? "failed" : warnings.length > 0 ? "warned" : good ? "passed" : silent;
    return { name, outcome, failures, warnings };
  });
  const passed = scenarios.filter(({ outcome }) => outcome === "passed" || outcome === "warned").length;
  const report = {
    requirements: values.requirements,
    url: values.url,
    passed,
    failed: scenarios.length - passed,
    warned: scenarios.filter(({ outcome }) => outcome === "warned").length,
    total: scenarios.length,
    exit,
    scenarios,
  };
  console.log(JSON.stringify(report));
  const clean = scenarios.length > 0 && scenarios.every(({ outcome }) => outcome === "passed") && exit === 0;
  if (!clean) console.error(log.slice(-20_000));
  return clean ? 0 : 1;
}

main().then(
  (code) => (process.exitCode = code),
  (error) => {
    console.error(`conformance: ${error.message}`);
    process.exitCode = 2;
  },
);
