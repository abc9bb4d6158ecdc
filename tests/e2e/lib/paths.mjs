// Where things are: the repository, and the folder with the installed tools.
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

/** The folder `tests/e2e`. */
export const here = resolve(dirname(fileURLToPath(import.meta.url)), "..");

/** The folder that `install.mjs` fills. */
export function toolsDir() {
  return process.env.BARTIZAN_TOOLS_DIR || join(here, "..", "..", ".tools");
}

/** Node 22 of the tools folder. */
export function node22() {
  return join(toolsDir(), "npm", "node_modules", "node", "bin", "node");
}
