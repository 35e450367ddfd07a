// How wide a text is drawn, so that boxes fit what stands in them, whatever the system's font is.

/** As `map.module.css` draws a node's name, the line below it, and what stands on an edge. */
export const NAME_FONT = { px: 13, weight: 600 } as const;
export const NOTE_FONT = { px: 11.5, weight: 400 } as const;
export const LABEL_FONT = { px: 11.5, weight: 600 } as const;
export type Font = { readonly px: number; readonly weight: number };
/** The width of a text in a font, named as in CSS. */
type Measure = (text: string, font: string) => number;

const CACHED_MAX = 4_000;
const cached = new Map<string, number>();
let measured: Measure | null = null;
/** The page's own, which does not change. */
let family: string | null = null;

function byCanvas(): Measure {
  const context = document.createElement("canvas").getContext("2d");
  return (text, font) => {
    if (context === null) return text.length * 8;
    context.font = font;
    return context.measureText(text).width;
  };
}

export function textWidth(text: string, font: Font): number {
  family ??= getComputedStyle(document.body).fontFamily;
  const css = `${font.weight} ${font.px}px ${family}`;
  const key = `${css}\n${text}`;
  const known = cached.get(key);
  if (known !== undefined) return known;
  measured ??= byCanvas();
  const width = measured(text, css);
  if (cached.size >= CACHED_MAX) cached.clear();
  cached.set(key, width);
  return width;
}

/** A text cut so that it fits, with an ellipsis where something is missing. */
export function fitting(text: string, font: Font, room: number, width: (text: string, font: Font) => number = textWidth): string {
  if (width(text, font) <= room) return text;
  const letters = [...text];
  // The longest beginning that fits: halves, since a width is dear.
  let [fits, tooLong] = [0, letters.length];
  while (tooLong - fits > 1) {
    const middle = (fits + tooLong) >> 1;
    if (width(`${letters.slice(0, middle).join("")}…`, font) <= room) fits = middle;
    else tooLong = middle;
  }
  return `${letters.slice(0, fits).join("")}…`;
}
