"""A support desk whose agents remember each customer, forget stale facts, and show why they recalled what they did."""

import json
import time

import goclaw
from goclaw.embedders import Hashing

DAY_MS = 86_400_000

# What an older system knew: customer, days since it was last of use, how firm it was (days), what.
OLD_FACTS = [
    ("ada", 12, 30.0, "Ada's order 4711 is a red bicycle, delivered to Berlin"),
    ("ada", 400, 2.3, "Ada asked whether the shop opens on Sundays"),
    ("ada", 90, 60.0, "Ada is allergic to phone calls: always write an email"),
    ("bob", 5, 20.0, "Bob's order 4712 is a blue tent"),
]


@goclaw.agent
def answer(question: str, ctx: goclaw.Context) -> dict[str, list[str]]:
    """Recalls what helps with the question, says why, and grades what was of use."""
    hits = ctx.memory.retrieve(question, top_k=2, filter={"kind": "fact"}, explain=True)
    useful = [hit for hit in hits if hit.text_rank is not None]
    ctx.memory.feedback([hit.entry.id for hit in useful], "used")
    return {
        "facts": [hit.entry.content for hit in useful],
        "because": [str(hit.explanation) for hit in useful],
    }


@goclaw.agent
def learn(question: str, found: dict[str, list[str]], ctx: goclaw.Context) -> str:
    """Remembers that the customer asked; lasts with this task, or not at all."""
    ctx.memory.memorize(f"{ctx.session} asked: {question}", metadata={"kind": "question"})
    return f"{len(found['facts'])} facts for {ctx.session}: {'; '.join(found['facts']) or 'nothing known'}"


@goclaw.workflow
def help_customer(question: str) -> str:
    return learn(question, answer(question))  # type: ignore[call-arg,arg-type,return-value]


def old_lines() -> list[str]:
    """The old facts as lines that `import_` takes: with the age and the firmness that they have."""
    now = int(time.time() * 1000)
    lines = []
    for number, (customer, days, stability, text) in enumerate(OLD_FACTS):
        then = now - days * DAY_MS
        line = {
            "id": f"01{number:024d}",
            "session": customer,
            "text": text,
            "metadata": {"kind": "fact"},
            "stability": stability,
            "difficulty": 5.0,
            "last_review": then,
            "created": then,
        }
        lines.append(json.dumps(line))
    return lines


def tidy(memory: goclaw.Memory, customer: str) -> None:
    """Forgets what nobody needed for long, and says what and why."""
    for id in memory.forget(customer, below=0.3, dry_run=True).ids:
        entry = memory.get(id)
        if entry is not None:
            print(f"forgotten, strength {entry.strength:.2f}: {entry.content}")
    memory.forget(customer, below=0.3)


if __name__ == "__main__":
    with goclaw.Engine("desk/", embedder=Hashing()) as engine:
        if engine.memory.count() == 0:
            engine.memory.import_(old_lines())
        tidy(engine.memory, "ada")
        for customer, question in [
            ("ada", "where is my red bicycle?"),
            ("bob", "what did I order?"),
            ("eve", "what did Ada order?"),
        ]:
            print(engine.submit(help_customer, question, session=customer).result())

        print("\nWhy Ada's answer said what it said:")
        for hit in engine.memory.retrieve("red bicycle", session="ada", filter={"kind": "fact"}, explain=True):
            print(f"  {hit.entry.content}\n    {hit.explanation}, strength {hit.strength:.2f}")
        print("sessions:", engine.memory.sessions())
