import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";

// Relative addresses, so that the page also works under a path prefix of a reverse proxy.
// No time stamps, no source maps: the same sources give the same dist, byte for byte.
export default defineConfig({
  base: "./",
  plugins: [react()],
  build: {
    target: "es2022",
    outDir: "dist",
    emptyOutDir: true,
    sourcemap: false,
    reportCompressedSize: true,
    chunkSizeWarningLimit: 900,
    modulePreload: { polyfill: false },
  },
  server: {
    proxy: { "/api": { target: process.env["WEIR_SERVER"] ?? "http://127.0.0.1:7070", ws: true } },
  },
  test: { include: ["src/**/*.test.ts"], environment: "node" },
});
