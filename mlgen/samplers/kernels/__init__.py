"""The hot loops of the flow, compiled for one CPU core by numba; ../compiled_splines.py is the way to them.

Those of coupling blocks are in float32 and in tiles of points: the innermost loop runs over
neighbours in memory, has no branch and calls nothing, and so is vectorised, for any number of bins.
Those of tables are in float64, point by point.

Nothing is assumed of numbers: what is not a number comes out as one that is not. Constants are
float32, as numba computes in float64 whatever meets a Python number; with points in float64 they
become float64 of the same value.
"""
