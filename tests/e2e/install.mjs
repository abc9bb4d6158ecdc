// Installs the pinned real clients, servers and the conformance suite.
//
//   node tests/e2e/install.mjs [--check] [PART...]
//
// Into BARTIZAN_TOOLS_DIR, else `.tools` of the repository root. Each part has a stamp of
// its pinned versions: a second run does nothing. `--check` installs nothing and exits 1
// when a part is missing. Prints one JSON line; everything else goes to stderr.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { here, toolsDir } from "./lib/paths.mjs";

const tools = toolsDir();
const python = process.env.BARTIZAN_PYTHON || "python3";

function run(program, args, cwd) {
  // stdout of the children goes to our stderr: stdout holds the one line of results.
  const done = spawnSync(program, args, { cwd, stdio: ["ignore", 2, 2], timeout: 900_000 });
  if (done.error) throw new Error(`${program}: ${done.error.message}`);
  if (done.status !== 0) throw new Error(`${program} ${args.join(" ")} ended with ${done.status ?? done.signal}`);
}

function npmPart() {
  return {
    pins: join(here, "package.json"),
    folder: join(tools, "npm"),
    install(folder) {
      copyFileSync(join(here, "package.json"), join(folder, "package.json"));
      run("npm", ["install", "--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error"], folder);
      run(join(folder, "node_modules", "node", "bin", "node"), ["--version"], folder);
    },
  };
}

function venvPart(name) {
  const pins = join(here, "requirements", `${name}.txt`);
  return {
    pins,
    folder: join(tools, `venv-${name}`),
    install(folder) {
      run(python, ["-m", "venv", folder], tools);
      const pip = [join(folder, "bin", "python"), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"];
      run(pip[0], [...pip.slice(1), "-r", pins], tools);
    },
  };
}

/** The Rust client: a crate with a lock of its own, so that nothing of it is in the product's. Only the program is kept. */
function rmcpPart() {
  const crate = join(here, "clients", "rmcp");
  return {
    pins: [join(crate, "Cargo.toml"), join(crate, "Cargo.lock"), join(crate, "src", "main.rs")],
    folder: join(tools, "rmcp"),
    install(folder) {
      const target = join(folder, "target");
      run("cargo", ["build", "--quiet", "--locked", "--manifest-path", join(crate, "Cargo.toml"), "--target-dir", target], crate);
      copyFileSync(join(target, "debug", "bartizan-e2e-rmcp"), join(folder, "client"));
      rmSync(target, { recursive: true });
    },
  };
}

const parts = {
  npm: npmPart(),
  rmcp: rmcpPart(),
  mcp: venvPart("mcp"),
  fastmcp: venvPart("fastmcp"),
  servers: venvPart("servers"),
  scim: venvPart("scim"),
};

const stampFile = (part) => join(part.folder, ".pinned");
function stampOf(part) {
  const hash = createHash("sha256");
  for (const file of [part.pins].flat()) hash.update(readFileSync(file));
  return hash.digest("hex");
}

function installed(part) {
  const file = stampFile(part);
  return existsSync(file) && readFileSync(file, "utf8").trim() === stampOf(part);
}

/** A registry may have a bad moment: one more try. */
function twice(work) {
  try {
    work();
  } catch (error) {
    console.error(`install: ${error.message}; once more`);
    work();
  }
}

function main() {
  const words = process.argv.slice(2);
  const check = words.includes("--check");
  const names = words.filter((word) => !word.startsWith("--"));
  const unknown = names.filter((name) => !(name in parts));
  if (unknown.length > 0) throw new Error(`unknown part ${unknown.join(", ")}; known: ${Object.keys(parts).join(", ")}`);
  const report = { tools, present: [], installed: [], missing: [] };
  for (const name of names.length > 0 ? names : Object.keys(parts)) {
    const part = parts[name];
    if (installed(part)) {
      report.present.push(name);
      continue;
    }
    if (check) {
      report.missing.push(name);
      continue;
    }
    console.error(`installing ${name} into ${part.folder}`);
    twice(() => {
      // Another version or a half-finished run may be there.
      rmSync(part.folder, { recursive: true, force: true });
      mkdirSync(part.folder, { recursive: true });
      part.install(part.folder);
    });
    writeFileSync(stampFile(part), `${stampOf(part)}\n`);
    report.installed.push(name);
  }
  console.log(JSON.stringify(report));
  return report.missing.length > 0 ? 1 : 0;
}

try {
  process.exitCode = main();
} catch (error) {
  console.error(`install: ${error.message}`);
  process.exitCode = 2;
}
