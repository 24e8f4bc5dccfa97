"""A workflow from a file: support.yaml says who waits for whom, this file has the agents."""

from pathlib import Path
from typing import Any

import goclaw

DOCUMENT = Path(__file__).with_name("support.yaml")
CATEGORIES = {"refund": "billing", "invoice": "billing", "crash": "bug", "error": "bug"}


@goclaw.agent(name="IntakeAgent")
async def intake(ticket: str) -> dict[str, Any]:
    return {"text": ticket, "words": [word.strip(".,!?").lower() for word in ticket.split()]}


@goclaw.agent(name="ClassifyAgent")
def classify(intake: dict[str, Any]) -> dict[str, str]:
    found = [CATEGORIES[word] for word in intake["words"] if word in CATEGORIES]
    return {"category": found[0] if found else "other"}


@goclaw.agent(name="ResolveAgent")
def resolve(category: str, words: list[str]) -> str:
    return f"a {category} ticket of {len(words)} words is answered"


if __name__ == "__main__":
    flow = goclaw.Workflow.from_yaml(DOCUMENT)
    print(flow.plan().layers)
    print(goclaw.run(flow, {"ticket": "The invoice shows an error. I want a refund!"}))

    wishful = DOCUMENT.read_text(encoding="utf-8").replace(
        "    timeout: 30s", '    memory: {retrieve: {vector_query: "{{ classify.category }}", top_k: 5}}'
    )
    try:
        goclaw.Workflow.from_yaml(wishful)
    except goclaw.WorkflowError as error:
        print(error.code, "-", error)
