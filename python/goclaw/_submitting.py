"""Submitting runs to an engine: waiting for a place, not waiting, awaiting."""

from __future__ import annotations

import builtins
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, cast

from . import _goclaw, _guard
from ._keywords import ManyWords, RunWords, SubmitWords, only, spelled_out
from ._looking import Looking
from ._options import DURABILITIES, _priority, one_of
from .definition import Definition
from .durations import Duration, to_seconds
from .errors import ConfigError, GoclawError, LaneFull
from .run import Run
from .session import _place

if TYPE_CHECKING:
    import asyncio

R = TypeVar("R")
_CONFLICTS = ("error", "existing")
# How long an awaited submit sleeps where not even the engine's inbox has room.
_BUSY_PAUSE = 0.01


class Submitting(Looking):
    """What an engine does with new runs."""

    @spelled_out(SubmitWords)
    def submit(
        self,
        flow: Definition[R],
        input: Any = None,
        *,
        block: bool | None = None,
        timeout: Duration | None = None,
        **options: Unpack[SubmitWords],
    ) -> Run[R]:
        """Starts a run.

        Args:
            flow: The workflow.
            input: Its input, a dict by names; a workflow with one parameter also takes the value alone.
            block: Wait for a place where the lane is full; by default unless an event loop runs in this thread.
            timeout: How long to wait for a place and the commit; the lane's own `timeout` counts as well.
            **options: What follows.

        Keyword Args:
            run_id: A ULID of your own, so that submitting again is recognised.
            on_conflict: What happens where a run has that id: ``"error"``, or ``"existing"`` for a handle of it.
            priority: Higher runs first.
            tags: Words to find the run by.
            durability: The level of this run, where it differs from the engine's.
            session: Runs with the same key go one at a time, in the order of their submits.
            when_busy: What to do while the session is busy: ``"followup"`` waits, ``"reject"`` refuses,
                ``"interrupt"`` cancels what is there, ``"steer"`` hands the message to the running agent,
                ``"collect"`` or a `Collect` merges it with others. The session's or the engine's by default.
            on_retry: Whether it keeps its session while it waits for a retry (``"hold"``), or lets the
                next run start (``"park"``).
            weight: Turns that its session gets where others get one.
            memory: Other sessions whose memory the run may use: a `MemoryAccess`.

        Returns:
            A handle, as soon as the run is durable at its level. Ctrl-C and the end of `timeout` withdraw
            the submit.

        Raises:
            WorkflowError: where the workflow is refused.
            InputError: `workflow.input` where the input does not fit.
            PayloadError: where the input cannot be encoded.
            LaneFull: `lane.full`.
            RunConflict: `run.conflict`.
            SessionBusy: `session.busy` with ``when_busy="reject"``.
            SessionFull: `session.full`.
            RecallError: `memory.no_session` where the workflow remembers, or `memory` grants, and there is no session.
            EngineClosed: `engine.closed`.
        """
        only(SubmitWords, options, "submit")
        seconds = None if timeout is None else to_seconds(timeout, what="timeout")
        tickets = self._tickets(flow, [input], options, block=_blocks(block, seconds))
        return self._started(tickets.wait(seconds))[0]

    @spelled_out(SubmitWords)
    def try_submit(self, flow: Definition[R], input: Any = None, **options: Unpack[SubmitWords]) -> Run[R] | None:
        """Starts a run if there is a place for it now.

        Args:
            flow: The workflow.
            input: Its input.
            **options: As for `submit`, but for `block` and `timeout`.

        Returns:
            A handle, or `None` where a lane is full.

        Raises:
            GoclawError: as `submit`, but for `LaneFull`.
        """
        only(SubmitWords, options, "try_submit")
        try:
            return self._started(self._tickets(flow, [input], options, block=False).wait())[0]
        except GoclawError as error:
            if error.code in ("lane.full", "engine.busy"):
                return None
            raise

    @spelled_out(SubmitWords)
    async def asubmit(
        self,
        flow: Definition[R],
        input: Any = None,
        *,
        timeout: Duration | None = None,  # noqa: ASYNC109
        **options: Unpack[SubmitWords],
    ) -> Run[R]:
        """`submit` for any asyncio loop, which it never blocks.

        Args:
            flow: The workflow.
            input: Its input.
            timeout: How long to wait for a place and the commit.
            **options: As for `submit`, but for `block`.

        Returns:
            A handle. Cancelling the awaiting task withdraws the submit.

        Raises:
            GoclawError: as `submit`.
        """
        from . import _lend

        only(SubmitWords, options, "asubmit")
        seconds = None if timeout is None else to_seconds(timeout, what="timeout")
        tickets, deadline = await self._asked(flow, input, options, seconds)
        answers = _answered(tickets, deadline, seconds, self._full_lanes)
        # Who waits for a place waits for others, who may need this permit.
        return self._started(await _lend.lent(answers, withdraw=tickets.give_up))[0]

    @spelled_out(ManyWords)
    def submit_many(
        self,
        flow: Definition[R],
        inputs: Iterable[Any],
        *,
        session: str | builtins.list[str] | tuple[str, ...] | None = None,
        block: bool | None = None,
        **options: Unpack[ManyWords],
    ) -> builtins.list[Run[R]]:
        """Starts one run per input, with one message and one commit.

        Where some are refused, the others go on: the error of the first refusal has their handles in `accepted`, by
        the position of their input. What was not accepted never was.

        Args:
            flow: The workflow.
            inputs: The inputs.
            session: One key for all, or a list or tuple with one key per input.
            block: Wait for places where a lane is full, as for `submit`.
            **options: `priority`, `tags`, `durability`, `when_busy`, `on_retry`, `weight` and `memory` of all, as for
                `submit`.

        Returns:
            The handles in the order of the inputs.

        Raises:
            GoclawError: as `submit`.
        """
        only(ManyWords, options, "submit_many")
        told: dict[str, Any] = {**options, "session": session}
        tickets = self._tickets(flow, list(inputs), told, block=_blocks(block, None), many=True)
        return self._started(tickets.wait())

    @spelled_out(RunWords)
    def run(self, flow: Definition[R], input: Any = None, **options: Unpack[RunWords]) -> R:
        """Submits a run and waits for its result.

        Args:
            flow: The workflow.
            input: Its input.
            **options: `priority`, `tags`, `session`, `when_busy`, `on_retry`, `weight` and `memory`, as for `submit`.

        Returns:
            What `Run.result` returns.

        Raises:
            GoclawError: as `submit` and `Run.result`.
        """
        only(RunWords, options, "run")
        _guard.refuse_own_loop("run a workflow")
        tickets = self._tickets(flow, [input], options, block=_blocks(None, None))
        run: Run[R] = _goclaw._one_wait(partial(self._ran, tickets))
        return run._outcome()

    def _ran(self, tickets: _goclaw.Tickets) -> Run[Any]:
        started = self._started(tickets.wait())[0]
        # This thread has nothing to do until the run ends, so it works on the run's tasks.
        self._native.help(started._handle)
        return started._until_ended()

    @spelled_out(RunWords)
    async def arun(self, flow: Definition[R], input: Any = None, **options: Unpack[RunWords]) -> R:
        """Submits a run and awaits its result, in any asyncio loop.

        Args:
            flow: The workflow.
            input: Its input.
            **options: As for `run`.

        Returns:
            What `Run.result` returns. Cancelling the awaiting task withdraws the submit while it waits for a place,
            and leaves the run under way once it is accepted.

        Raises:
            GoclawError: as `submit` and `Run.result`.
        """
        from . import _lend

        only(RunWords, options, "arun")
        tickets, _ = await self._asked(flow, input, options, None)
        run: Run[R] = await _lend.lent(self._aran(tickets))
        return run._outcome()

    async def _aran(self, tickets: _goclaw.Tickets) -> Run[Any]:
        started = self._started(await _answered(tickets, None, None, self._full_lanes))[0]
        return await started._ended()

    async def _asked(
        self, flow: Definition[R], input: Any, options: Mapping[str, Any], seconds: float | None
    ) -> tuple[_goclaw.Tickets, float | None]:
        """A submit that is on its way, and when its time is over on the loop's clock."""
        import asyncio

        deadline = None if seconds is None else asyncio.get_running_loop().time() + seconds
        make = partial(self._tickets, flow, [input], options, block=True, soon=True)
        async with _in_time(deadline, seconds, self._full_lanes):
            return await _made(make), deadline

    def _tickets(
        self,
        flow: Definition[R],
        inputs: builtins.list[Any],
        options: Mapping[str, Any],
        *,
        block: bool,
        soon: bool = False,
        many: bool = False,
    ) -> _goclaw.Tickets:
        place = _place(
            options.get("session"),
            options.get("when_busy"),
            options.get("on_retry", "hold"),
            options.get("weight"),
            options.get("memory"),
            inputs=len(inputs) if many else None,
            in_memory=self._path is None,
        )
        native = self._alive()
        if not isinstance(flow, Definition):
            raise ConfigError(
                f"{flow!r} is no workflow", code="config.flow", help="submit a @goclaw.workflow or a goclaw.Workflow"
            )
        on_conflict = one_of("on_conflict", options.get("on_conflict", "error"), _CONFLICTS)
        durability = options.get("durability")
        if durability is not None:
            one_of("durability", durability, DURABILITIES)
        plan = flow._compile(native.lane_specs(), memory=self._path is None)
        return native.submit(
            plan,
            [flow._input(given) for given in inputs],
            options.get("run_id"),
            on_conflict == "existing",
            _priority(options.get("priority", 0)),
            _tags(options.get("tags", ())),
            durability,
            block,
            soon,
            place,
        )

    def _full_lanes(self) -> str:
        """The lanes without a free place, for people; best effort, as they may have got one meanwhile."""
        try:
            full = [name for name, lane in self.lanes.items() if lane.stats.queued >= lane.stats.capacity]
        except GoclawError:
            full = []
        return ", ".join(f"lane `{name}`" for name in full) or "the lanes of its first tasks"

    def _started(self, answers: builtins.list[_goclaw.Run | BaseException]) -> builtins.list[Run[Any]]:
        refused = [answer for answer in answers if isinstance(answer, BaseException)]
        runs = {
            at: Run[Any](self, answer) for at, answer in enumerate(answers) if not isinstance(answer, BaseException)
        }
        if not refused:
            return builtins.list(runs.values())
        error = refused[0]
        if isinstance(error, GoclawError) and len(answers) > 1:
            error.accepted = runs
            error.add_note(f"{len(refused)} of {len(answers)} runs were refused; the others are in `error.accepted`")
        raise error


def _tags(tags: object) -> builtins.list[str]:
    if isinstance(tags, str):
        raise ConfigError("`tags` is a text", code="config.tags", help=f'write tags=["{tags}"]')
    if isinstance(tags, Mapping):
        raise ConfigError("`tags` is a mapping", code="config.tags", help="write words, such as tags=['team:x']")
    return list(cast("Iterable[str]", tags))


def _blocks(wanted: bool | None, seconds: float | None) -> bool:
    """Whether a submit waits for a place. Goclaw's own loop never does: it might wait for itself."""
    if wanted is None and seconds is None:
        return not _guard.in_loop()
    if wanted is not False:
        _guard.refuse_own_loop("wait for a place in a lane")
    return wanted is not False


async def _answered(
    tickets: _goclaw.Tickets, deadline: float | None, seconds: float | None, full: Callable[[], str]
) -> builtins.list[_goclaw.Run | BaseException]:
    """The answers to submits; where they are not waited for any more they are withdrawn."""
    import asyncio

    from . import _lend

    loop = asyncio.get_running_loop()
    answered: asyncio.Future[None] = loop.create_future()
    tickets.on_answer(_lend.waker(loop, answered))
    async with _in_time(deadline, seconds, full):
        try:
            await answered
        except asyncio.CancelledError:
            tickets.give_up()
            raise
    return tickets.answers()


@asynccontextmanager
async def _in_time(deadline: float | None, seconds: float | None, full: Callable[[], str]) -> AsyncIterator[None]:
    """Ends what it is around at the deadline: no place came free."""
    import asyncio

    try:
        async with asyncio.timeout_at(deadline):
            yield
    except TimeoutError as late:
        raise LaneFull(
            f"no place came free in {await asyncio.to_thread(full)} within {seconds} s",
            help="submit later, wait longer, or give the lane more capacity or concurrency",
        ) from late


async def _made(make: Callable[[], _goclaw.Tickets]) -> _goclaw.Tickets:
    """Submits on a thread, as values may be large and workflows not compiled yet."""
    import asyncio

    while True:
        making = asyncio.ensure_future(asyncio.to_thread(make))
        try:
            return await asyncio.shield(making)
        except asyncio.CancelledError:
            # The thread goes on: what it makes belongs to nobody.
            making.add_done_callback(_give_up)
            raise
        except GoclawError as error:
            if error.code != "engine.busy":
                raise
        await asyncio.sleep(_BUSY_PAUSE)


def _give_up(making: asyncio.Future[_goclaw.Tickets]) -> None:
    if not making.cancelled() and making.exception() is None:
        making.result().give_up()
