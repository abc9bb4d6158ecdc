#!/usr/bin/env node
// What clients start as the system's browser (`BROWSER`): starts the person's browser and
// returns at once, as desktop openers do. Some clients begin to listen only after that.
import { spawn } from "node:child_process";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const browser = join(dirname(fileURLToPath(import.meta.url)), "browser.mjs");
const environment = { ...process.env, BARTIZAN_AFTER_MS: "300" };
spawn(process.execPath, [browser, process.argv[2]], { detached: true, stdio: "ignore", env: environment }).unref();
