import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";

export default defineConfig({
  plugins: [react()],
  // Whatever prefix a proxy puts before the page, its parts stand beside it.
  base: "./",
  build: {
    // Into the Python package: the wheel ships what lies there.
    outDir: "../packages/dashboard/src/matensemble/dashboard/static",
    emptyOutDir: true,
    // The content security policy allows no data: addresses.
    assetsInlineLimit: 0,
  },
  server: {
    // `npm run dev` beside a running `matensemble dashboard DIR`.
    proxy: { "/api": "http://127.0.0.1:8000" },
  },
  test: {
    environment: "jsdom",
    setupFiles: "src/test/setup.ts",
    // axe looks at a whole page, on a machine that may do other things.
    testTimeout: 20_000,
    restoreMocks: true,
    unstubGlobals: true,
  },
});
