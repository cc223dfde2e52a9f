import { useQuery } from "@tanstack/react-query";
import { Link } from "react-router";

import { placeQuery } from "../../api/useGraph";
import { choreAddress } from "../../lib/choreAddress";
import { formatDuration } from "../../lib/format";
import { ChoreStateMark } from "../ChoreStateBadge";
import { graphAddress } from "./graphAddress";
import type { Place } from "./WholeGraph";

/** Which chore stands at a place, and where to go from there. */
export function ChosenChore({ runId, place: { level, rank } }: { runId: string; place: Place }) {
  const { data: chore, error } = useQuery(placeQuery(runId, level, rank));
  return (
    <p className="chosen" role="status">
      {error?.message}
      {chore === undefined && error === null && "Looking who stands there…"}
      {chore !== undefined && (
        <>
          <Link className="name" to={choreAddress(runId, chore.id)}>
            {chore.id}
          </Link>
          <ChoreStateMark state={chore.state} />
          {chore.seconds !== null && <span>{formatDuration(chore.seconds)}</span>}
          {chore.detail !== "" && <span className="of">{chore.detail}</span>}
          <Link to={graphAddress(runId, { view: "chore", chore: chore.id, up: 2, down: 2 })}>What is around it</Link>
        </>
      )}
    </p>
  );
}
