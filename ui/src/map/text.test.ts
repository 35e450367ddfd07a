import { expect, test } from "vitest";
import { fitting, NAME_FONT } from "./text";

const ten = (text: string): number => [...text].length * 10;

test("a text that fits is whole, one that does not is cut where it still fits with its ellipsis", () => {
  expect(fitting("checkout", NAME_FONT, 80, ten)).toBe("checkout");
  expect(fitting("checkout", NAME_FONT, 79, ten)).toBe("checko…");
  expect(fitting("checkout", NAME_FONT, 0, ten)).toBe("…");
});

test("letters are cut between, never within", () => {
  expect(fitting("🦀🦀🦀🦀", NAME_FONT, 30, ten)).toBe("🦀🦀…");
});
