from __future__ import annotations

from collections import Counter

import pytest

from mlgen.amplitudes.colour_words import colour_tags, leading_words
from mlgen.errors import MatrixElementError


@pytest.mark.parametrize(
    ("word", "pdg_ids"),
    [
        ([2, 5, 1], [2, -2, -11, 11, 21]),
        ([5, 1, 2], [21, 2, -11, 11, 2]),
        ([2, 4, 3, 5, 1], [2, -2, 6, -6, 21]),
        ([3, 1, 5, 2, 4], [21, 21, 6, -6, 21]),
        ([1, 3, 2, 4], [21, 21, 21, 21]),
    ],
)
def test_a_colour_that_enters_leaves(word: list[int], pdg_ids: list[int]) -> None:
    lines_in: Counter[int] = Counter()
    lines_out: Counter[int] = Counter()
    for leg, (colour, anticolour) in enumerate(colour_tags(word, pdg_ids)):
        # An incoming anticolour is an outgoing end of the same line.
        (lines_in if leg < 2 else lines_out)[colour] += 1
        (lines_out if leg < 2 else lines_in)[anticolour] += 1
        assert (colour > 0) == (pdg_ids[leg] in (2, 6, 21))
        assert (anticolour > 0) == (pdg_ids[leg] in (-2, -6, 21))
    del lines_in[0], lines_out[0]
    assert lines_in == lines_out
    assert set(lines_in.values()) == {1}
    assert min(lines_in) == 501


ALONG_THE_LINES, ACROSS = [2, 1, 3, 4], [2, 4, 3, 1]


@pytest.mark.parametrize(
    ("pdg_ids", "alpha_s_power", "leading"),
    [
        ([2, -2, 6, -6], 2, [ACROSS]),
        ([2, -2, 6, -6], 0, [ALONG_THE_LINES]),
        ([2, -2, 4, -4, 23], 2, [ACROSS]),
        # A W between the lines, s-channel.
        ([2, -1, 4, -3], 0, [ALONG_THE_LINES]),
        # Z in the s-channel, W in the t-channel.
        ([2, -2, 1, -1], 0, [ALONG_THE_LINES, ACROSS]),
        ([2, -2, 1, -1], 2, [ACROSS]),
        ([2, -2, 1, -1, 11, -11], 2, [ACROSS]),
        # d > d by a gluon from u > d, or the W emitted by a line from u~ to d~.
        ([2, -1, 4, -4, 24], 2, [ACROSS]),
        ([2, -1, 1, -1, -11, 12], 2, [ALONG_THE_LINES, ACROSS]),
    ],
)
def test_colour_is_passed_on_where_a_gluon_joins_lines_and_kept_where_a_boson_does(
    pdg_ids: list[int], alpha_s_power: int, leading: list[list[int]]
) -> None:
    words = [ALONG_THE_LINES, ACROSS]
    kept = leading_words(words, pdg_ids, alpha_s_power)
    assert [words[index] for index in kept] == leading


def test_with_identical_quarks_both_ways_across_are_leading() -> None:
    words = [[3, 1, 4, 2], [3, 2, 4, 1]]
    assert leading_words(words, [2, 2, 2, 2], alpha_s_power=2) == [0, 1]


def test_a_process_that_does_not_exist_at_an_order_keeps_all_its_flows() -> None:
    assert leading_words([ALONG_THE_LINES, ACROSS], [2, -1, 4, -3], alpha_s_power=2) == [0, 1]


@pytest.mark.parametrize("word", [[1, 5, 2], [2, 5], [2, 1, 5], [2, 3, 1]])
def test_a_word_that_is_no_string_is_refused(word: list[int]) -> None:
    with pytest.raises(MatrixElementError, match="colour word"):
        colour_tags(word, [2, -2, -11, 11, 21])
