"""The scenarios, in the order in which they are run."""

from .chain import CHAIN
from .fanout import FANOUT
from .latency import LATENCY
from .pending import PENDING
from .sleepers import SLEEPERS
from .throughput import THROUGHPUT

ALL = {scenario.name: scenario for scenario in (THROUGHPUT, LATENCY, CHAIN, FANOUT, SLEEPERS, PENDING)}
