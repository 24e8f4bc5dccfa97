"""Sixty seconds: two agents, a workflow, a durable engine."""

import goclaw


@goclaw.agent(lane="io", timeout=30, retries=3)
async def fetch(url: str) -> str:
    return f"<html><title>{url}</title></html>"  # stands in for a request, so that this runs anywhere


@goclaw.agent(lane="cpu")
def analyze(page: str) -> dict:
    return {"characters": len(page), "title": page.partition("<title>")[2].partition("<")[0]}


@goclaw.workflow
def pipeline(url: str) -> dict:            # traced once: calls become tasks, arguments become dependencies
    page = fetch(url)
    return analyze(page)


if __name__ == "__main__":
    with goclaw.Engine("state/") as engine:    # durable; goclaw.Engine() lives in memory
        run = engine.submit(pipeline, {"url": "https://example.org"})
        print(run.result())                    # in asyncio and Jupyter: await run
