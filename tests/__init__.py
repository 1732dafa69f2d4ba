"""The tests of the engine, by room and by promise."""
