/** How the server was started. */
import { useQuery } from "@tanstack/react-query";

import { client, take, type Schemas } from "./client";

export function useSettings(): Schemas["SettingsResponse"] | undefined {
  return useQuery({
    queryKey: ["settings"],
    queryFn: ({ signal }) => take(client.GET("/api/v1/settings", { signal })),
  }).data;
}
