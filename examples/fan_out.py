"""Fan-out: one child per item, however many there are, and a join by passing the list on."""

from collections import Counter

import goclaw

TEXT = """The engine decides who may run now. The journal remembers what was decided.
The lane holds back what would be too much. The agent does the work."""


@goclaw.agent
def sentences(text: str) -> list[str]:
    return [part.strip() for part in text.replace("\n", " ").split(".") if part.strip()]


@goclaw.agent(lane="cpu")
def words(sentence: str) -> dict[str, int]:
    return dict(Counter(sentence.lower().split()))


@goclaw.agent
def total(counts: list[dict[str, int]]) -> dict[str, int]:
    return dict(sum((Counter(count) for count in counts), Counter()).most_common(3))


@goclaw.workflow
def word_count(text: str) -> dict[str, int]:
    return total(words.map(sentences(text)))


if __name__ == "__main__":
    print(word_count.plan().to_ascii())
    print(goclaw.run(word_count, {"text": TEXT}))
