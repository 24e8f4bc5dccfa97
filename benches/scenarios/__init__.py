"""The scenarios, in the order in which they are run."""

from .chain import CHAIN
from .fanout import FANOUT
from .lanes import FAIRNESS, LANES, RATE
from .latency import LATENCY
from .lending import LENDING
from .pending import PENDING, QUEUED
from .processes import CALLS, CPU
from .remember import REMEMBER_10K, REMEMBER_100K
from .sessions import IDLE, SESSIONS
from .sleepers import SLEEPERS
from .throughput import THROUGHPUT
from .zoo import ZOO

ALL = {
    scenario.name: scenario
    for scenario in (
        THROUGHPUT,
        LATENCY,
        CHAIN,
        FANOUT,
        SLEEPERS,
        PENDING,
        QUEUED,
        LANES,
        FAIRNESS,
        RATE,
        LENDING,
        SESSIONS,
        IDLE,
        CPU,
        CALLS,
        REMEMBER_10K,
        REMEMBER_100K,
        ZOO,
    )
}
