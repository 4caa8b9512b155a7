"""A user's cut, found through the entry points of an installed distribution."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mlgen.core import SubprocessGroup
from mlgen.cut_cards import CutsCard, ParticleCutsCard
from mlgen.errors import CardError
from mlgen.physics.cut_functions import cut_function_names, find_cut_function
from mlgen.physics.cuts import CardCuts
from mlgen.physics.kinematics import pt
from mlgen.physics.leg_cuts import cut_key
from mlgen.physics.near_cuts import NearCuts
from tests.physics.test_cut_definitions import group_of, random_momenta

MODULE = """
import torch
from mlgen.physics.kinematics import pt


def leading_jet(momenta, pdg_ids):
    jets = [leg for leg, pdg_id in enumerate(pdg_ids) if pdg_id == 21 or abs(pdg_id) < 5]
    return pt(momenta[:, jets]).amax(1) > 60


def charm_only(momenta, pdg_ids):
    return torch.full(momenta.shape[:1], 4 in pdg_ids)


def charm_apart(momenta, pdg_ids):
    return charm_only(momenta, pdg_ids)


charm_apart.tells_flavours_apart = True


def a_number(momenta, pdg_ids):
    return 1.0


def weights(momenta, pdg_ids):
    return pt(momenta[:, 0])
"""
NAMES = ("a_number", "charm_apart", "charm_only", "leading_jet", "weights")


@pytest.fixture
def my_cuts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A distribution that registers the functions above."""
    (tmp_path / "my_cuts.py").write_text(MODULE)
    info = tmp_path / "my_cuts-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-cuts\nVersion: 1.0\n")
    points = "\n".join(f"{name} = my_cuts:{name}" for name in NAMES)
    (info / "entry_points.txt").write_text(f"[mlgen.cuts]\n{points}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("my_cuts", None)


UP, CHARM = (2, -2, 21, 2), (4, -4, 21, 4)


def apply(name: str, momenta: Tensor, *groups: SubprocessGroup) -> Tensor:
    jets = ParticleCutsCard(pt_min_gev=20.0)
    return CardCuts(CutsCard(jets=jets, function=name), groups)(momenta, 0)


@pytest.mark.usefixtures("my_cuts")
def test_a_registered_function_cuts_beside_the_cards_own_cuts() -> None:
    momenta = random_momenta(UP)
    transverse = pt(momenta[:, 2:])
    expected = (transverse.amax(1) > 60) & (transverse.amin(1) >= 20)
    assert 0.05 < float(expected.double().mean()) < 0.95
    assert torch.equal(apply("leading_jet", momenta, group_of(UP)), expected)
    assert torch.equal(apply("leading_jet", momenta, group_of(UP, CHARM)), expected)


@pytest.mark.usefixtures("my_cuts")
def test_a_registered_function_has_no_threshold_to_be_near_to() -> None:
    momenta = random_momenta(UP)
    card = CutsCard(jets=ParticleCutsCard(pt_min_gev=20.0), function="leading_jet")
    transverse = pt(momenta[:, 2:])
    softest = transverse.amin(1)
    expected = (transverse.amax(1) > 60) & (softest >= 20) & (softest < 22)
    assert bool(expected.any())
    assert torch.equal(NearCuts(card, [group_of(UP)])(momenta, 0), expected)


@pytest.mark.usefixtures("my_cuts")
def test_registered_cuts_are_found_by_name() -> None:
    assert cut_function_names() == NAMES
    assert find_cut_function("charm_apart").tells_flavours_apart
    assert not find_cut_function("charm_only").tells_flavours_apart
    with pytest.raises(CardError, match=r"cuts.function = 'x': expected one of a_number, charm_a"):
        CardCuts(CutsCard(function="x"), [group_of(UP)])


def test_without_a_registered_cut_the_message_says_so() -> None:
    assert cut_function_names() == ()
    with pytest.raises(CardError) as error:
        find_cut_function("x")
    assert str(error.value) == (
        "cuts.function = 'x': expected an entry point of the group mlgen.cuts; none is registered"
    )


@pytest.mark.usefixtures("my_cuts")
def test_a_function_that_tells_flavours_apart_in_secret_is_found_out() -> None:
    momenta = random_momenta(UP)
    with pytest.raises(CardError, match=r"same answer for \(21, 2\) and \(21, 4\), which share"):
        apply("charm_only", momenta, group_of(UP, CHARM))
    assert not apply("charm_only", momenta, group_of(UP)).any()


@pytest.mark.usefixtures("my_cuts")
def test_a_function_that_says_so_splits_the_flavours() -> None:
    key = {name: [cut_key(i, CutsCard(function=name)) for i in (UP, CHARM)] for name in NAMES}
    assert key["charm_only"][0] == key["charm_only"][1]
    assert key["charm_apart"][0] != key["charm_apart"][1]
    with pytest.raises(CardError, match="are cut differently"):
        apply("charm_apart", random_momenta(UP), group_of(UP, CHARM))
    assert apply("charm_apart", random_momenta(CHARM), group_of(CHARM)).any()


@pytest.mark.usefixtures("my_cuts")
@pytest.mark.parametrize(
    ("name", "got"), [("a_number", "1.0"), ("weights", r"torch.float64 \(2000,\)")]
)
def test_what_is_no_mask_is_refused(name: str, got: str) -> None:
    with pytest.raises(CardError, match=rf"cuts.function = '{name}': got {got}: expected a tensor"):
        apply(name, random_momenta(UP), group_of(UP))
