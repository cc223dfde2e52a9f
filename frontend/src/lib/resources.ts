/** What a chore asks for, in words. */
import { formatQuantity, formatSeconds } from "./format";

type Resources = Readonly<Record<string, string | number | boolean>>;

/** "2 tasks of 4 cores, MPI, 1 h 00 min at most"; what has its default is left out. */
export function describeResources(resources: Resources): string {
  const known = ["num_tasks", "cores_per_task", "gpus_per_task", "num_nodes", "mpi", "exclusive", "duration"];
  const number = (name: string, otherwise: number) => {
    const value = resources[name];
    return typeof value === "number" ? value : otherwise;
  };
  const gpus = number("gpus_per_task", 0);
  const parts = [
    `${formatQuantity(number("num_tasks", 1), "task")} of ${formatQuantity(number("cores_per_task", 1), "core")}${
      gpus > 0 ? ` and ${formatQuantity(gpus, "GPU")}` : ""
    }`,
  ];
  if (resources.num_nodes !== undefined) {
    parts.push(`over ${formatQuantity(number("num_nodes", 1), "node")}`);
  }
  if (resources.mpi === true) {
    parts.push("MPI");
  }
  if (resources.exclusive === true) {
    parts.push("nodes to itself");
  }
  if (resources.duration !== undefined) {
    parts.push(`${formatSeconds(number("duration", 0))} at most`);
  }
  const rest = Object.entries(resources).filter(([name]) => !known.includes(name));
  return [...parts, ...rest.map(([name, value]) => `${name}: ${String(value)}`)].join(", ");
}
