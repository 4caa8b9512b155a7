from . import parameters as Param
from .object_library import Particle

a = Particle(
    pdg_code=22,
    name="a",
    antiname="a",
    spin=3,
    color=1,
    mass=Param.ZERO,
    width=Param.ZERO,
    texname="a",
    antitexname="a",
    charge=0
)

g = Particle(
    pdg_code=21,
    name="g",
    antiname="g",
    spin=3,
    color=8,
    mass=Param.ZERO,
    width=Param.ZERO,
    texname="g",
    antitexname="g",
    charge=0
)

x = Particle(
    pdg_code=32,
    name="x",
    antiname="x",
    spin=3,
    color=1,
    mass=Param.MX,
    width=Param.WX,
    texname="x",
    antitexname="x",
    charge=0
)

u = Particle(
    pdg_code=2,
    name="u",
    antiname="u~",
    spin=2,
    color=3,
    mass=Param.ZERO,
    width=Param.ZERO,
    texname="u",
    antitexname="u~",
    charge=2 / 3
)

u__tilde__ = u.anti()

d = Particle(
    pdg_code=1,
    name="d",
    antiname="d~",
    spin=2,
    color=3,
    mass=Param.MD,
    width=Param.ZERO,
    texname="d",
    antitexname="d~",
    charge=-1 / 3
)

d__tilde__ = d.anti()

e__minus__ = Particle(
    pdg_code=11,
    name="e-",
    antiname="e+",
    spin=2,
    color=1,
    mass=Param.ZERO,
    width=Param.ZERO,
    texname="e-",
    antitexname="e+",
    charge=-1
)

e__plus__ = e__minus__.anti()

mu__minus__ = Particle(
    pdg_code=13,
    name="mu-",
    antiname="mu+",
    spin=2,
    color=1,
    mass=Param.ZERO,
    width=Param.ZERO,
    texname="mu-",
    antitexname="mu+",
    charge=-1
)

mu__plus__ = mu__minus__.anti()
