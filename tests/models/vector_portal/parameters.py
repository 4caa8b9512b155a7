from .object_library import Parameter

ZERO = Parameter(
    name="ZERO",
    nature="internal",
    type="real",
    value="0.0",
    texname="ZERO"
)

aEWM1 = Parameter(
    name="aEWM1",
    nature="external",
    type="real",
    value=132.507,
    texname="aEWM1",
    lhablock="SMINPUTS",
    lhacode=[1]
)

aS = Parameter(
    name="aS",
    nature="external",
    type="real",
    value=0.118,
    texname="aS",
    lhablock="SMINPUTS",
    lhacode=[3]
)

MD = Parameter(
    name="MD",
    nature="external",
    type="real",
    value=0.0,
    texname="MD",
    lhablock="MASS",
    lhacode=[1]
)

MX = Parameter(
    name="MX",
    nature="external",
    type="real",
    value=400.0,
    texname="MX",
    lhablock="MASS",
    lhacode=[32]
)

WX = Parameter(
    name="WX",
    nature="external",
    type="real",
    value=8.0,
    texname="WX",
    lhablock="DECAY",
    lhacode=[32]
)

gu = Parameter(
    name="gu",
    nature="external",
    type="real",
    value=0.1,
    texname="gu",
    lhablock="PORTAL",
    lhacode=[1]
)

gd = Parameter(
    name="gd",
    nature="external",
    type="real",
    value=0.1,
    texname="gd",
    lhablock="PORTAL",
    lhacode=[2]
)

ge = Parameter(
    name="ge",
    nature="external",
    type="real",
    value=0.2,
    texname="ge",
    lhablock="PORTAL",
    lhacode=[3]
)

aEW = Parameter(
    name="aEW",
    nature="internal",
    type="real",
    value="1/aEWM1",
    texname="aEW"
)

G = Parameter(
    name="G",
    nature="internal",
    type="real",
    value="2*cmath.sqrt(aS)*cmath.sqrt(cmath.pi)",
    texname="G"
)

ee = Parameter(
    name="ee",
    nature="internal",
    type="real",
    value="2*cmath.sqrt(aEW)*cmath.sqrt(cmath.pi)",
    texname="ee"
)
