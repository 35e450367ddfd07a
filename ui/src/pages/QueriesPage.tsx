// The views that are being kept true right now.
import type { ReactNode } from "react";
import { api } from "../api";
import { usePolled } from "../hooks";
import { ListPage, RecordTable } from "./ListPage";

export function QueriesPage(): ReactNode {
  const { value, error } = usePolled(api.queries, 2_000);
  return (
    <ListPage title="Queries" note="The views that are kept true right now. One view serves all who look at it." error={error}>
      <RecordTable records={value} first={["query", "name", "subscribers", "outputs", "refresh_ms"]} empty="No view is being kept. Open a script and it appears here." />
    </ListPage>
  );
}
