"""Computing on all cores: agents in worker processes."""

import os

import goclaw


@goclaw.agent(isolation="process", lane="cpu")
def primes(lo: int) -> tuple[int, int]:
    """How many primes lie among the next 5000 numbers, and which process counted them."""
    numbers = range(max(lo, 2), lo + 5_000)
    return sum(all(n % d for d in range(2, int(n**0.5) + 1)) for n in numbers), os.getpid()


@goclaw.agent
def total(parts: list[tuple[int, int]]) -> str:
    elsewhere = all(pid != os.getpid() for _, pid in parts)
    return f"{sum(count for count, _ in parts)} primes, counted in other processes: {elsewhere}"


@goclaw.workflow
def census() -> str:
    return total(primes.map(list(range(0, 40_000, 5_000))))


# A worker process runs this file again to find the agents: what it does stays under the guard.
if __name__ == "__main__":
    print(goclaw.run(census))
