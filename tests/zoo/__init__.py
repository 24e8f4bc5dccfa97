"""Twelve hostile agents beside healthy ones: the engine survives all of them."""
