from __future__ import annotations

import math
from itertools import pairwise

import pytest

from mlgen.amplitudes.colour_flows import colour_words, leading_flows
from mlgen.errors import MatrixElementError

PROCESSES = [
    # pdg_ids, power of alpha_s in |M|², number of leading flows
    ((11, -11, 13, -13), 0, 1),
    ((11, -11, 2, -2), 0, 1),
    ((21, 21, 25), 2, 1),
    ((21, 21, 21, 21), 2, math.factorial(3)),
    ((21, 21, 21, 21, 21), 3, math.factorial(4)),
    ((2, -2, 23, 21), 1, math.factorial(1)),
    ((2, -2, 23, 21, 21), 2, math.factorial(2)),
    ((21, 2, 2, 21, 21, 22), 3, math.factorial(3)),
    ((21, 21, 6, -6, 21), 3, math.factorial(3)),
    ((2, -2, 1, -1), 2, 1),
    ((2, 2, 2, 2), 2, 2),
    # The gluon on either of the two strings.
    ((2, -2, 6, -6, 21), 3, 2),
    ((2, 1, 2, 1, 21, 21), 4, 3 * math.factorial(2)),
    ((2, 1, 2, 1), 0, 2),
    ((2, 3, 2, 3, 21), 1, 2),
]


@pytest.mark.parametrize(("pdg_ids", "power", "n_flows"), PROCESSES)
def test_there_are_as_many_leading_flows_as_the_legs_have_colour_orders(
    pdg_ids: tuple[int, ...], power: int, n_flows: int
) -> None:
    flows = leading_flows(pdg_ids, power)
    assert len(flows) == n_flows
    assert len({tuple(flow) for flow in flows}) == n_flows


@pytest.mark.parametrize(("pdg_ids", "power", "n_flows"), PROCESSES)
def test_each_colour_line_of_each_flow_has_two_ends(
    pdg_ids: tuple[int, ...], power: int, n_flows: int
) -> None:
    for flow in leading_flows(pdg_ids, power):
        starts = [c for c, _ in flow[:2]] + [a for _, a in flow[2:]]
        ends = [a for _, a in flow[:2]] + [c for c, _ in flow[2:]]
        lines = sorted(tag for tag in starts if tag)
        assert lines == sorted(tag for tag in ends if tag)
        assert all(b - a == 1 for a, b in pairwise([500, *lines]))
        for pdg, (colour, anticolour) in zip(pdg_ids, flow, strict=True):
            assert (colour > 0) == (pdg == 21 or 0 < pdg <= 6)
            assert (anticolour > 0) == (pdg == 21 or -6 <= pdg < 0)
            assert colour != anticolour or colour == 0


@pytest.mark.parametrize(("n_gluons", "n_lines"), [(0, 1), (3, 1), (1, 2), (2, 2), (1, 3)])
def test_gluons_stand_on_the_strings_in_every_order(n_gluons: int, n_lines: int) -> None:
    pdg_ids = (11, -11, *[2, -2] * n_lines, *[21] * n_gluons)
    words = colour_words(pdg_ids)
    expected = math.factorial(n_gluons + n_lines - 1) // math.factorial(n_lines - 1)
    assert len(words) == expected * math.factorial(n_lines)
    assert len({tuple(word) for word in words}) == len(words)


@pytest.mark.parametrize("pdg_ids", [(2, 2, 2, 23), (11, -11, 21, 22), (21, 2, 21, 21)])
def test_legs_that_are_no_singlet_are_refused(pdg_ids: tuple[int, ...]) -> None:
    with pytest.raises(MatrixElementError, match="coloured legs"):
        leading_flows(pdg_ids, 1)
