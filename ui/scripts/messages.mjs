// Makes src/messages.ts, the types of what the server sends, from the published schema.
//   node scripts/messages.mjs --write | --check
import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = join(dirname(fileURLToPath(import.meta.url)), "..");
const FROM = join(ROOT, "../docs/api/messages.schema.json");
const TO = join(ROOT, "src/messages.ts");

const source = readFileSync(FROM, "utf8");
const schema = JSON.parse(source);
const SIMPLE = { boolean: "boolean", number: "number", integer: "bigint", string: "string", null: "null" };

function typeOf(part) {
  if (part.$ref !== undefined) return part.$ref.replace("#/$defs/", "");
  if (part.const !== undefined) return JSON.stringify(part.const);
  if (part.enum !== undefined) return part.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (part.anyOf !== undefined) return part.anyOf.map(typeOf).join(" | ");
  if (Array.isArray(part.type)) return part.type.map((type) => SIMPLE[type]).join(" | ");
  if (part.prefixItems !== undefined) return `readonly [${part.prefixItems.map(typeOf).join(", ")}]`;
  if (part.type === "array") return `readonly ${typeOf(part.items)}[]`;
  if (part.type === "object") return `Readonly<Record<string, ${typeOf(part.additionalProperties)}>>`;
  const simple = SIMPLE[part.type];
  if (simple === undefined) throw new Error(`no type for ${JSON.stringify(part)}`);
  return simple;
}

function declaration([name, part]) {
  const doc = part.description === undefined ? "" : `/** ${part.description} */\n`;
  if (part.properties === undefined) return `${doc}export type ${name} = ${typeOf(part)};\n`;
  const required = new Set(part.required ?? []);
  const key = (name) => (/^\w+$/.test(name) ? name : JSON.stringify(name));
  const members = Object.entries(part.properties).map(
    ([member, of]) => `  readonly ${key(member)}${required.has(member) ? "" : "?"}: ${typeOf(of)};\n`,
  );
  if (part.additionalProperties === true) members.push("  readonly [member: string]: unknown;\n");
  return `${doc}export interface ${name} {\n${members.join("")}}\n`;
}

const digest = createHash("sha256").update(source).digest("hex");
const head = `// Made by scripts/messages.mjs from docs/api/messages.schema.json, sha256 ${digest}. Do not edit.\n`;
const text = [head, ...Object.entries(schema.$defs).map(declaration)].join("\n");
if (process.argv.includes("--write")) {
  writeFileSync(TO, text);
} else if (readFileSync(TO, "utf8") !== text) {
  console.error("src/messages.ts is not what the schema gives: run `npm run build` in ui/");
  process.exit(1);
}
