import { describe, expect, it } from "vitest";
import { formatRoute, parseRoute, type Route } from "./route";

describe("routes", () => {
  // Catches: a shared link that opens another view than the sender saw.
  it.each<Route>([
    { page: "home" }, { page: "scratch" }, { page: "alerts" }, { page: "sinks" }, { page: "queries" }, { page: "nodes" }, { page: "scripts" },
    { page: "script", script: "px/service_map", args: {} },
    { page: "script", script: "px/service_map", args: { start_time: "-5m", svc: "ns/a b&c=d?e#f%", empty: "" } },
  ])("survive the address bar: %j", (route) => {
    expect(parseRoute(formatRoute(route))).toEqual(route);
  });

  it("stay readable", () => {
    expect(formatRoute({ page: "script", script: "px/pod", args: { pod: "shop/cart-1", start_time: "-5m" } })).toBe(
      "#/s/px/pod?pod=shop/cart-1&start_time=-5m",
    );
  });

  it("take a login link or nonsense for home", () => {
    expect(parseRoute("#token=abc")).toEqual({ page: "home" });
    expect(parseRoute("#/s/")).toEqual({ page: "home" });
  });
});
