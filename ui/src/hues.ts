// One hue for one entity on the whole page: a service's line, its dot in a table and its bar on the
// map are the same colour. Hues are given in order of first sight and kept.
const HUES = 8;
/** Entities remembered; after that hues start over. */
const ENTITIES_MAX = 5_000;
const given = new Map<string, number>();

export function hueIndex(name: string): number {
  const known = given.get(name);
  if (known !== undefined) return known;
  if (given.size >= ENTITIES_MAX) given.clear();
  const hue = given.size % HUES;
  given.set(name, hue);
  return hue;
}

export const hue = (name: string): string => `var(--hue-${hueIndex(name)})`;

/** For canvases, which do not know custom properties. */
export function cssColor(property: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(property).trim();
}
