// The operators of a running query as an indented list: outputs first, below each what it reads. An
// operator that is read twice has its own line once.
import type { RunningOperator } from "../api";

export interface OperatorLine {
  readonly operator: RunningOperator;
  readonly depth: number;
  /** It stands further up already, with what is below it. */
  readonly repeated: boolean;
}

export function operatorLines(operators: readonly RunningOperator[]): OperatorLine[] {
  const byId = new Map(operators.map((operator) => [operator.id, operator]));
  const read = new Set(operators.flatMap((operator) => operator.inputs));
  const seen = new Set<string>();
  const lines: OperatorLine[] = [];
  const open = operators.filter((operator) => !read.has(operator.id)).map((operator) => ({ id: operator.id, depth: 0 })).reverse();
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    const { id, depth } = next;
    const operator = byId.get(id);
    if (operator === undefined) continue;
    const repeated = seen.has(id);
    lines.push({ operator, depth, repeated });
    if (repeated) continue;
    seen.add(id);
    for (const input of [...operator.inputs].reverse()) open.push({ id: input, depth: depth + 1 });
  }
  return lines;
}
