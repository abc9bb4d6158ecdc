// The helper as an application has it: beside its own `jose`.
import { registerHooks } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { installed } from "../lib/drive.mjs";

export { installed };

const helper = join(dirname(fileURLToPath(import.meta.url)), "../../../helpers/typescript/index.mjs");

export async function loadGuard() {
  const jose = pathToFileURL(installed.resolve("jose")).href;
  registerHooks({ resolve: (name, context, next) => (name === "jose" ? next(jose, context) : next(name, context)) });
  return import(pathToFileURL(helper).href);
}
