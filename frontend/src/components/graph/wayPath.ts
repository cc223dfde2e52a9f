/** The line of an edge as an SVG path. Pure. */
import type { Corner } from "./arrange";

const RADIUS = 6;

/** Return a path through corners, which are rounded as far as there is room. */
export function wayPath(corners: readonly Corner[]): string {
  const [first, ...rest] = corners;
  const last = rest.pop();
  if (first === undefined || last === undefined) {
    return "";
  }
  let path = `M${first.x},${first.y}`;
  let before = first;
  rest.forEach((corner, index) => {
    const after = rest[index + 1] ?? last;
    const radius = Math.min(RADIUS, distanceOf(before, corner) / 2, distanceOf(corner, after) / 2);
    const enter = towards(corner, before, radius);
    const leave = towards(corner, after, radius);
    path += `L${enter.x},${enter.y}Q${corner.x},${corner.y} ${leave.x},${leave.y}`;
    before = corner;
  });
  return `${path}L${last.x},${last.y}`;
}

function towards(from: Corner, to: Corner, distance: number): Corner {
  const length = distanceOf(from, to);
  const share = length === 0 ? 0 : distance / length;
  return { x: from.x + (to.x - from.x) * share, y: from.y + (to.y - from.y) * share };
}

function distanceOf(a: Corner, b: Corner): number {
  return Math.hypot(a.x - b.x, a.y - b.y);
}
