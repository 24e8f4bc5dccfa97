"""In asyncio: await a run, follow its events, and run many at once."""

import asyncio

import goclaw


@goclaw.agent(lane="io")
async def greet(name: str) -> str:
    await asyncio.sleep(0.01)
    return f"hello {name}"


@goclaw.workflow
def hello(name: str) -> str:
    return greet(name)


async def main() -> None:
    async with goclaw.Engine() as engine:
        run = engine.submit(hello, {"name": "Ada"})
        async for event in run.events():
            print(event.type, event.task or "")
        print(await run)

        runs = engine.submit_many(hello, [{"name": name} for name in ("Grace", "Edsger", "Barbara")])
        print(await asyncio.gather(*runs))


if __name__ == "__main__":
    asyncio.run(main())
