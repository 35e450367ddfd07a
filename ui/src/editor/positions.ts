// Diagnostics count lines and columns from 1, columns in characters; editors count UTF-16 units. Pure.

/** The offset of a character column in one line's text, in UTF-16 units; clamped to the line. */
export function columnOffset(line: string, column: number): number {
  let units = 0;
  let characters = 1;
  for (const character of line) {
    if (characters >= column) break;
    units += character.length;
    characters += 1;
  }
  return units;
}
