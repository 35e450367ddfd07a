// Ties dist/ to the sources it was built from, so that a machine without npm can see that the
// committed dist is current: dist.sha256 is a `sha256sum --check` file (paths relative to ui/)
// of every source that goes into the build and every file that came out of it.
//   node scripts/hash.mjs --write | --check        or, without node: sha256sum --check --quiet dist.sha256
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join, relative, sep } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = join(dirname(fileURLToPath(import.meta.url)), "..");
const LIST = join(ROOT, "dist.sha256");
const FILES = [
  ".npmrc", "index.html", "package.json", "package-lock.json", "tsconfig.json", "vite.config.ts", "scripts/hash.mjs", "scripts/messages.mjs",
];
const FOLDERS = ["public", "src", "dist"];

function walk(folder) {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    return entry.isDirectory() ? walk(path) : [path];
  });
}

// Unit tests do not reach the bundle: changing one must not ask for a rebuild.
const paths = [
  ...FILES.map((file) => join(ROOT, file)),
  ...FOLDERS.flatMap((folder) => walk(join(ROOT, folder))).filter((path) => !path.endsWith(".test.ts")),
].map((path) => relative(ROOT, path).split(sep).join("/"));
const lines = [...new Set(paths)].sort().map((path) => {
  const digest = createHash("sha256").update(readFileSync(join(ROOT, path))).digest("hex");
  return `${digest}  ${path}`;
});
const text = `${lines.join("\n")}\n`;

if (process.argv.includes("--write")) {
  writeFileSync(LIST, text);
} else {
  const recorded = existsSync(LIST) ? readFileSync(LIST, "utf8") : "";
  if (recorded !== text) {
    const before = new Set(recorded.split("\n"));
    const after = new Set(lines);
    const changed = [...lines.filter((line) => !before.has(line)), ...[...before].filter((line) => line && !after.has(line))];
    console.error("ui/dist is not built from these sources; run `npm run build` in ui/ and commit dist and dist.sha256:");
    for (const path of new Set(changed.map((line) => line.slice(66)))) console.error(`  ${path}`);
    process.exit(1);
  }
  console.log(`dist is current (${lines.length} files)`);
}
