"""What a warm worker does with the chores that it is given: queue, slots, programs, their ends.

Owns the order of the queue, which chore gets which cores, the slots, and who answers for what when
a slot dies. Talks to nobody: `node` passes on what the driver says, and sends what is put into
`Outcomes`. The processes are those of its `ProcessKeeper`.

A slot is bound to cores and GPUs for its life, and holds them only while it has something to do.
Short chores are sent ahead, so that a slot need not wait for the next one; what it has not read can
be taken back, and is, as soon as the chore before it turns out to be long.
"""

from __future__ import annotations

import selectors
from _pickle import loads as _loads
from collections import deque
from collections.abc import Iterable, Mapping
from time import monotonic

from matensemble.disk import EXIT_DISK_TROUBLE
from matensemble.gpu import Gpus
from matensemble.oom_counter import find_oom_counter
from matensemble.pool import packet
from matensemble.pool.aftermath import Outcomes, describe_death, drop_empty, is_committed
from matensemble.pool.crew import LINK_SECONDS, Item, Reply, SlotHandle
from matensemble.pool.shares import Share, Shares
from matensemble.pool.starter import Starter
from matensemble.pool_messages import REPORT_STARTED_SECONDS, Ended, Order
from matensemble.process_keeper import End, ProcessKeeper

TERM_GRACE_SECONDS = 3.0
"""Time between TERM and KILL when a chore is ended."""
MAX_AHEAD = 32
"""Most chores that a slot is sent ahead."""
AHEAD_SECONDS = 0.005
"""How much work a slot is sent ahead, and when it is taken back while another slot has none."""


class Service:
    """Serves chores.

    Parameters
    ----------
    selector
        That of the node's loop.
    directory
        Where the slots' files are.
    cores
        Ids of the cores for chores.
    binds
        Whether processes are bound to these.
    gpus
        The GPUs for chores.
    environ
        What chores inherit.
    recycle_after
        Number of chores after which a slot is replaced; 0: never.
    """

    def __init__(
        self,
        selector: selectors.BaseSelector,
        directory: str,
        cores: list[int],
        binds: bool,
        gpus: Gpus,
        environ: Mapping[str, str],
        recycle_after: int,
    ) -> None:
        self.outcomes = Outcomes()
        self.is_ready = False
        self.problem = ""
        self._reason_of_problem = "submit_error"
        self._selector = selector
        self._directory = directory
        self._shares = Shares(cores, gpus.ids)
        self._queue: deque[Item] = deque()
        self._items: dict[tuple[str, int], Item] = {}
        self._slots: dict[str, SlotHandle] = {}
        self._idle: list[SlotHandle] = []  # the last one to become so is the last
        self._programs: dict[str, Item] = {}
        self._mean: float | None = None  # seconds that recent calls took
        self._look_for_strays_at: float | None = None
        self._is_feeding = False
        self._is_closing = False
        self.keeper = ProcessKeeper(
            selector,
            TERM_GRACE_SECONDS,
            str(find_oom_counter() or ""),
            on_started=lambda job: None,
            on_ended=self._take_end,
        )
        self._starter = Starter(self.keeper, binds, gpus, environ, recycle_after)
        first = self._shares.find(1, 0)
        assert first is not None
        self._idle.append(self._start_slot(first))

    @property
    def is_idle(self) -> bool:
        """Whether nothing runs and nothing waits."""
        return not self._items

    @property
    def has_plenty(self) -> bool:
        """Whether there is more to do than will be done in a moment."""
        return len(self._items) > 2 * len(self._slots)

    @property
    def spare_seconds(self) -> float:
        """How long each slot has enough to do with what it was sent ahead, as far as is known."""
        if self._mean is None or self._idle or self._programs:
            return 0.0
        least = min((len(slot.given) for slot in self._slots.values()), default=0)
        return max(0, least - 1) * self._mean

    # --- what the driver asks for ---------------------------------------------------------------

    def add(self, orders: Iterable[Order]) -> None:
        """Queue chores, in this order."""
        for order in orders:
            item = Item(order)
            self._items[item.key] = item
            shares = self._shares
            if order.cores > shares.num_cores or order.gpus > shares.num_gpus:
                detail = (
                    f"asks for {order.cores} cores and {order.gpus} GPUs of a worker that has "
                    f"{shares.num_cores} and {shares.num_gpus}"
                )
                self._finish(item, None, "exceeds_allocation", detail)
            else:
                self._queue.append(item)
        self.feed()

    def cancel(self, key: tuple[str, int]) -> None:
        """End an attempt; unknown ones are ignored."""
        item = self._look_up(key)
        if item is None:
            return
        if item.job is not None:
            self.keeper.end(item.job, "cancelled")
        elif item.slot is not None:
            self._end_call(item.slot, item, "cancelled")
        else:
            self._queue.remove(item)
            self._finish(item, None, "cancelled", "")
        self.feed()

    def signal(self, key: tuple[str, int], number: int) -> None:
        """Send a signal to the processes of an attempt that runs; others are ignored."""
        item = self._look_up(key)
        if item is not None and item.job is not None:
            self.keeper.signal(item.job, number)
        elif item is not None and item.slot is not None:
            self.keeper.signal(item.slot.job, number)
        self.feed()

    def extend(self, key: tuple[str, int], duration: float) -> None:
        """Let an attempt run for so many seconds from its start; unknown ones are ignored."""
        item = self._items.get(key)
        if item is None:
            return
        item.duration = duration
        if item.job is not None:
            self.keeper.extend(item.job, duration)
        elif item.started is not None and item.cause is None:
            item.deadline = item.started + duration

    def withdraw(self, limit: int) -> None:
        """Give back up to so many chores that have not started, the newest first."""
        if len(self._queue) < limit:
            self._recall_all()
        self._return(limit)
        self.feed()

    def close(self) -> None:
        """Start nothing more, and give back what has not started."""
        self._is_closing = True
        self._recall_all()
        self.feed()

    def retire(self) -> None:
        """Let all slots end."""
        for slot in [*self._slots.values()]:
            self._retire(slot)

    def _look_up(self, key: tuple[str, int]) -> Item | None:
        """Return an item of which it is certain whether it runs, because nothing is sent ahead."""
        item = self._items.get(key)
        if item is not None and item.slot is not None:
            slot = item.slot
            self._recall(slot)
            self._hear(slot)
            item = self._items.get(key)
        return item

    def _return(self, limit: int) -> None:
        for _ in range(min(limit, len(self._queue))):
            item = self._queue.pop()
            del self._items[item.key]
            self.outcomes.returned.append(item.key)

    def _recall(self, slot: SlotHandle) -> None:
        taken = slot.recall()
        if not taken:
            return
        self._queue.extendleft(reversed(taken))
        if slot.given:
            slot.begin()
        else:
            self._shares.give_back(slot.share)
            self._rest(slot)

    def _recall_all(self) -> None:
        for slot in self._slots.values():
            self._recall(slot)

    # --- time -----------------------------------------------------------------------------------

    def find_deadline(self) -> float | None:
        """Return when `act` is to be called at the latest, by the monotonic clock."""
        due = self.keeper.find_deadline()
        deadlines = [at for at in (due, self._look_for_strays_at) if at is not None]
        is_short_of_work = not self._queue
        for slot in self._slots.values():
            head = slot.head
            if head is None or head.started is None:
                continue
            deadlines.append(head.look_at)
            if head.deadline is not None:
                deadlines.append(head.deadline)
            if not head.is_told:
                deadlines.append(head.started + REPORT_STARTED_SECONDS)
            if is_short_of_work and len(slot.given) > 1 and self._has_room_for(slot.given[-1]):
                deadlines.append(head.started + AHEAD_SECONDS)
        for item in self._programs.values():
            if not item.is_told:
                assert item.started is not None
                deadlines.append(item.started + REPORT_STARTED_SECONDS)
        return min(deadlines, default=None)

    def act(self) -> None:
        """Do what is due."""
        self.keeper.act()
        now = monotonic()
        for slot in [*self._slots.values()]:
            head = slot.head
            if head is not None and head.started is not None:
                self._look_at(slot, head, now - head.started)
        for item in self._programs.values():
            self._tell(item, now)
        if self._look_for_strays_at is not None and self._look_for_strays_at <= now:
            self._look_for_strays_at = None
            for job in self.keeper.find_owners():
                if job in self._slots:
                    self._part_with(self._slots[job])

    def _part_with(self, slot: SlotHandle) -> None:
        """Let a slot end behind what it is doing, and with it all that its chores left running."""
        slot.is_leaving = True
        self._recall(slot)
        if slot in self._idle:
            self._idle.remove(slot)
            self._retire(slot)
        self.feed()

    def _look_at(self, slot: SlotHandle, head: Item, elapsed: float) -> None:
        """Do what is due for a slot that has been at a chore for some time."""
        is_long = elapsed >= REPORT_STARTED_SECONDS
        if len(slot.given) > 1 and (
            is_long
            or (elapsed >= AHEAD_SECONDS and not self._queue and self._has_room_for(slot.given[-1]))
        ):
            self._recall(slot)
            self.feed()
        now = monotonic()
        is_over = head.deadline is not None and head.deadline <= now
        if not (is_over or (is_long and (not head.is_told or head.look_at <= now))):
            return
        if self._look_up(head.key) is not head:  # it has ended
            return
        self._tell(head, now)
        if is_over:
            self._end_call(slot, head, "duration_exceeded")
        if head.look_at <= now:
            is_linked = slot.link_output(head)
            head.look_at = now + (3600.0 if is_linked else LINK_SECONDS)

    def _tell(self, item: Item, now: float) -> None:
        if not item.is_told and now - (item.started or now) >= REPORT_STARTED_SECONDS:
            item.is_told = True
            self.outcomes.started.append(item.key)

    def _has_room_for(self, item: Item) -> bool:
        return self._shares.fits(*item.shape)

    # --- starting -------------------------------------------------------------------------------

    def feed(self) -> None:
        """Start what can be started, strictly in order, and send short chores ahead."""
        if self._is_feeding:  # a process that cannot be started ends at once
            return
        if self._is_closing:
            self._return(len(self._queue))
        self._is_feeding = True
        self._start_queued()
        self._is_feeding = False
        if self._queue and self._mean is not None:
            for slot in self._slots.values():
                if slot.given:
                    self._send_ahead(slot)

    def _start_queued(self) -> None:
        queue = self._queue
        while queue:
            item = queue[0]
            if item.order.kind == "program" and item.read_payload().record is None:
                share = self._find_share(*item.shape)
                if share is None:
                    break
                queue.popleft()
                self._shares.take(share)
                self._start_program(item, share, list(item.read_payload().argv))
                continue
            slot = self._find_slot(item)
            if slot is None:
                break
            queue.popleft()
            if slot.job in self._slots:
                self._give(slot, item)
            else:
                self._finish(item, None, self._reason_of_problem, self.problem)

    def _send_ahead(self, slot: SlotHandle) -> None:
        """Send a busy slot more, as long as chores are short."""
        queue, given = self._queue, slot.given
        if (
            slot.is_retiring
            or slot.is_leaving
            or self._mean is None
            or given[0].order.kind == "program"
        ):
            return
        self._note_memory(slot)
        room = min(MAX_AHEAD, AHEAD_SECONDS / self._mean, 1 + len(queue) // len(self._slots))
        while queue and len(given) <= room:
            item = queue[0]
            if item.order.kind == "program" or item.shape != slot.share.shape:
                break
            if not self._send(slot, item):
                break

    def _note_memory(self, slot: SlotHandle) -> None:
        """Let what the kernel ended before, of other chores, not count for the next one."""
        now = monotonic()
        if now - slot.noted >= REPORT_STARTED_SECONDS:
            slot.noted = now
            self.keeper.note_memory(slot.job)

    def _send(self, slot: SlotHandle, item: Item) -> bool:
        """Send the first of the queue ahead; return False where the slot takes no more now."""
        try:
            if not slot.send(item, packet.CALL):
                return False
        except OSError as error:
            self._finish(item, None, "io_error", f"its request cannot be written: {error}")
        self._queue.popleft()
        return True

    def _give(self, slot: SlotHandle, item: Item) -> None:
        """Give a slot without work something to do."""
        self._note_memory(slot)
        kind = packet.CALL if item.order.kind == "call" else packet.RESOLVE
        try:
            if slot.send(item, kind):
                self._shares.take(slot.share)
                return
        except OSError as error:
            self._finish(item, None, "io_error", f"its request cannot be written: {error}")
            self._idle.append(slot)
            return
        self._queue.appendleft(item)  # the slot is dying, which the keeper tells in a moment
        slot.is_retiring = True

    def _find_slot(self, item: Item) -> SlotHandle | None:
        """Return a slot for a chore, no longer among the idle ones; None where there is no room."""
        for place in range(len(self._idle) - 1, -1, -1):
            slot = self._idle[place]
            if slot.share.shape == item.shape and self._shares.is_free(slot.share):
                del self._idle[place]
                return slot
        share = self._find_share(*item.shape)
        if share is None:
            return None
        cores, gpus = set(share.cores), set(share.gpus)
        for slot in [*self._idle]:  # it would share these with the new one
            if cores.intersection(slot.share.cores) or gpus.intersection(slot.share.gpus):
                self._idle.remove(slot)
                self._retire(slot)
        return self._start_slot(share)

    def _find_share(self, num_cores: int, num_gpus: int) -> Share | None:
        """Return a free share, if possible without those of idle slots."""
        unwanted: set[int | str] = set()
        for slot in self._idle:
            unwanted.update(slot.share.cores, slot.share.gpus)
        return self._shares.find(num_cores, num_gpus, unwanted)

    def _start_slot(self, share: Share) -> SlotHandle:
        slot = SlotHandle(self._starter.name_job(), share, self._directory)
        self._slots[slot.job] = slot
        self._selector.register(slot, selectors.EVENT_READ, lambda: self._hear(slot))
        self._starter.start_slot(slot)
        return slot

    def _start_program(self, item: Item, share: Share, argv: list[str]) -> None:
        item.job = self._starter.name_job()
        item.slot, item.share = None, share
        item.started = monotonic()
        self._programs[item.job] = item
        self._starter.start_program(item, argv)

    # --- ending ---------------------------------------------------------------------------------

    def _end_call(self, slot: SlotHandle, item: Item, cause: str) -> None:
        """End what a slot is at, by ending the slot, to which nothing else was sent.

        The chore may handle TERM, and the slot answer for it; then it is killed a while later, and
        must not be at another chore.
        """
        item.deadline = None
        item.cause = item.cause or cause
        slot.is_leaving = True
        self.keeper.end(slot.job, cause)

    def _retire(self, slot: SlotHandle) -> None:
        """Let a slot end that has nothing to do; by force, if it takes longer than the grace."""
        slot.hang_up()
        self.keeper.extend(slot.job, monotonic() - slot.started + TERM_GRACE_SECONDS)

    def _hear(self, slot: SlotHandle) -> None:
        """Take what a slot says."""
        for reply in slot.receive():
            if reply.flags & packet.IS_READY:
                slot.is_ready = self.is_ready = True
                slot.begin()
            else:
                self._take_reply(slot, reply)
        if slot.given and self._queue:
            self._send_ahead(slot)

    def _take_reply(self, slot: SlotHandle, reply: Reply) -> None:
        item = slot.given.popleft()
        if self._look_for_strays_at is None:
            self._look_for_strays_at = monotonic() + LINK_SECONDS
        if reply.flags & packet.RETIRES:
            self._queue.extendleft(reversed(slot.recall()))
            self._retire(slot)
        slot.begin()
        if item.order.kind == "call":
            elapsed = reply.elapsed
            mean = elapsed if self._mean is None else self._mean
            weight = 0.5 if elapsed > mean else 0.1
            self._mean = mean + weight * (elapsed - mean)
            self._finish(
                item,
                reply.exit_code,
                item.cause,
                elapsed=elapsed,
                is_committed=bool(reply.flags & packet.IS_COMMITTED),
                data=reply.data,
            )
        elif reply.data is None or item.cause is not None:
            self._finish(item, reply.exit_code, item.cause, elapsed=reply.elapsed)
        else:
            self._rest(slot)
            self._start_program(item, slot.share, _loads(reply.data))
            return  # the share is the program's now
        if not slot.given:
            self._shares.give_back(slot.share)
            self._rest(slot)
            self.feed()

    def _rest(self, slot: SlotHandle) -> None:
        if slot.is_retiring:
            return
        if slot.is_leaving:
            self._retire(slot)
        else:
            self._idle.append(slot)

    def _take_end(self, end: End) -> None:
        """Take the end of a process from the keeper."""
        item = self._programs.pop(end.job, None)
        if item is None:
            self._bury(self._slots.pop(end.job), end)
        else:
            assert item.share is not None
            self._shares.give_back(item.share)
            drop_empty(item.read_payload().stderr)
            self._finish(item, end.exit_code, end.reason, end.detail, end.elapsed)
        self.feed()

    def _bury(self, slot: SlotHandle, end: End) -> None:
        """Settle what a slot that has ended was given."""
        self._selector.unregister(slot)
        slot.is_retiring = True
        if slot in self._idle:
            self._idle.remove(slot)
        unread = slot.recall()
        self._hear(slot)
        if slot.given:
            self._shares.give_back(slot.share)
            slot.link_output(slot.given[0])
        while slot.given:
            item = slot.given.popleft()
            item.slot = None
            elapsed = 0.0 if item.started is None else monotonic() - item.started
            if is_committed(item):
                self._finish(item, 0, elapsed=elapsed, is_committed=True)
                continue
            reason, detail = end.reason, end.detail
            if not slot.is_ready and reason is None:
                reason, detail = "submit_error", describe_death(slot, end)
            self._finish(item, end.exit_code, reason, detail, elapsed)
            break
        self._queue.extendleft(reversed([*slot.given, *unread]))
        if not slot.is_ready:
            self.problem = end.detail or describe_death(slot, end)
            self._reason_of_problem = end.reason or "submit_error"
        slot.close()

    def _finish(
        self,
        item: Item,
        exit_code: int | None,
        reason: str | None = None,
        detail: str = "",
        elapsed: float = 0.0,
        *,
        is_committed: bool = False,
        data: bytes | None = None,
    ) -> None:
        del self._items[item.key]
        chore_id, attempt = item.key
        if reason == "io_error":  # so that the driver waits for the disk with whatever is next
            exit_code = EXIT_DISK_TROUBLE
        self.outcomes.ended.append(
            Ended(chore_id, attempt, exit_code, reason, detail, elapsed, is_committed, data)
        )
