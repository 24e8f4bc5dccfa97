"""Retries: a service that is down now and then, and an agent that says when to come back."""

import goclaw

CALLS = {"weather": 0, "news": 0}


@goclaw.agent(retry=goclaw.Retry(retries=5, initial="10ms", on=(ConnectionError,)))
def weather(city: str, context: goclaw.Context) -> str:
    CALLS["weather"] += 1
    if context.attempt < 3:
        raise ConnectionError(f"no answer at attempt {context.attempt}")
    return f"sunny in {city}"


@goclaw.agent(retries=1)
async def news(city: str) -> str:
    CALLS["news"] += 1
    if CALLS["news"] == 1:
        raise goclaw.RetryAfter("50ms")  # "too many requests, come back in 50 ms"
    return f"nothing happened in {city}"


@goclaw.agent
def strict(city: str) -> str:
    raise ValueError(f"{city} is not a city")  # a value error would fail again: it is not retried


@goclaw.agent
def letter(weather: str, news: str) -> str:
    return f"{weather}; {news}"


@goclaw.workflow
def morning(city: str) -> str:
    return letter(weather(city), news(city))


@goclaw.workflow
def doomed(city: str) -> str:
    return strict(city)


if __name__ == "__main__":
    with goclaw.Engine() as engine:
        run = engine.submit(morning, {"city": "Lisbon"})
        print(run.result(), CALLS)
        for event in run.events(follow=False):
            if event.type == "task.retrying":
                print(f"  {event.task}, attempt {event.attempt}: {event.data['error']}")
        try:
            engine.run(doomed, {"city": "Nowhere"})
        except goclaw.TaskFailed as error:
            print(f"{error} ({error.attempts} attempt, caused by {error.__cause__!r})")
