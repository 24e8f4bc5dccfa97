"""A chat bot: one conversation per user, and what a message does while the bot is still thinking."""

import threading

import goclaw

ARRIVED = threading.Event()


@goclaw.agent
async def think(text: str, ctx: goclaw.Context) -> str:
    """Thinks about a question until somebody says what it is about."""
    asked = [text]
    if text.endswith("..."):
        ARRIVED.set()
        async for signal in ctx.signals():
            asked.append(signal.message["text"])
            if not asked[-1].endswith("..."):
                break
    return f"{ctx.session} asked: {' '.join(asked)}"


@goclaw.workflow
def chat(text: str) -> str:
    return think(text)  # type: ignore[call-arg,return-value]


if __name__ == "__main__":
    with goclaw.Engine(when_busy="steer") as engine:
        # Two users at once, each in order.
        runs = [engine.submit(chat, text, session=user) for user in ("ada", "bob") for text in ("hello", "and you?")]
        for run in runs:
            print(run.result())

        # A thought in pieces: the later messages reach the run that is under way.
        first = engine.submit(chat, "what is...", session="ada")
        ARRIVED.wait()
        rest = [engine.submit(chat, text, session="ada") for text in ("the answer to...", "everything?")]
        print(first.result(), [run.into == first.id for run in rest])

        # Too late for that: one follow-up made of what came meanwhile.
        ARRIVED.clear()
        busy = engine.submit(chat, "wait...", session="bob")
        ARRIVED.wait()
        collect = goclaw.Collect(debounce="10ms")
        pieces = [engine.submit(chat, text, session="bob", when_busy=collect) for text in ("tea", "or", "coffee?")]
        urgent = engine.submit(chat, "now", session="bob")
        print(busy.result(), "|", pieces[2].result().replace("\n\n", " "), "|", urgent.state)

        stats = engine.stats()
        print("left behind:", stats["goclaw_sessions_busy"] + stats["goclaw_sessions_waiting"])
