// A table's picture as CSV or JSON text, with all digits.
import { stringifyLossless } from "../lossless";
import type { TableStore } from "../live/table-store";

function csvField(value: unknown): string {
  const text = value === undefined ? "" : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function rowsOf(store: TableStore): Readonly<Record<string, unknown>>[] {
  return store.rows().flatMap((entry) => Array.from({ length: entry.count }, () => entry.row));
}

export function csvText(store: TableStore): string {
  const names = store.schema.columns.map((column) => column.name);
  return [names, ...rowsOf(store).map((row) => names.map((name) => row[name]))].map((fields) => fields.map(csvField).join(",")).join("\r\n");
}

export const jsonText = (store: TableStore): string => stringifyLossless(rowsOf(store), 2);

/** To the clipboard; as a file where the browser gives no clipboard (a page that is neither https nor loopback). */
export async function handOver(text: string, fileName: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text]));
    link.download = fileName;
    link.click();
    URL.revokeObjectURL(link.href);
  }
}
