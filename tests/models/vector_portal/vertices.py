from . import couplings as C
from . import lorentz as L
from . import particles as P
from .object_library import Vertex

V_1 = Vertex(
    name="V_1",
    particles=[P.g, P.g, P.g],
    color=["f(1,2,3)"],
    lorentz=[L.VVV1],
    couplings={(0, 0): C.GC_4}
)

V_2 = Vertex(
    name="V_2",
    particles=[P.g, P.g, P.g, P.g],
    color=["f(-1,1,2)*f(3,4,-1)", "f(-1,1,3)*f(2,4,-1)", "f(-1,1,4)*f(2,3,-1)"],
    lorentz=[L.VVVV1, L.VVVV2, L.VVVV3],
    couplings={(1, 1): C.GC_6, (0, 0): C.GC_6, (2, 2): C.GC_6}
)

V_3 = Vertex(
    name="V_3",
    particles=[P.u__tilde__, P.u, P.g],
    color=["T(3,2,1)"],
    lorentz=[L.FFV1],
    couplings={(0, 0): C.GC_5}
)

V_4 = Vertex(
    name="V_4",
    particles=[P.d__tilde__, P.d, P.g],
    color=["T(3,2,1)"],
    lorentz=[L.FFV1],
    couplings={(0, 0): C.GC_5}
)

V_5 = Vertex(
    name="V_5",
    particles=[P.u__tilde__, P.u, P.a],
    color=["Identity(1,2)"],
    lorentz=[L.FFV1],
    couplings={(0, 0): C.GC_2}
)

V_6 = Vertex(
    name="V_6",
    particles=[P.u__tilde__, P.u, P.x],
    color=["Identity(1,2)"],
    lorentz=[L.FFV1],
    couplings={(0, 0): C.GC_7}
)

V_7 = Vertex(
    name="V_7",
    particles=[P.d__tilde__, P.d, P.a],
    color=["Identity(1,2)"],
    lorentz=[L.FFV1],
    couplings={(0, 0): C.GC_1}
)

V_8 = Vertex(
    name="V_8",
    particles=[P.d__tilde__, P.d, P.x],
    color=["Identity(1,2)"],
    lorentz=[L.FFV1],
    couplings={(0, 0): C.GC_8}
)

V_9 = Vertex(
    name="V_9",
    particles=[P.e__plus__, P.e__minus__, P.a],
    color=["1"],
    lorentz=[L.FFV1],
    couplings={(0, 0): C.GC_3}
)

V_10 = Vertex(
    name="V_10",
    particles=[P.e__plus__, P.e__minus__, P.x],
    color=["1"],
    lorentz=[L.FFV1],
    couplings={(0, 0): C.GC_9}
)

V_11 = Vertex(
    name="V_11",
    particles=[P.mu__plus__, P.mu__minus__, P.a],
    color=["1"],
    lorentz=[L.FFV1],
    couplings={(0, 0): C.GC_3}
)

V_12 = Vertex(
    name="V_12",
    particles=[P.mu__plus__, P.mu__minus__, P.x],
    color=["1"],
    lorentz=[L.FFV1],
    couplings={(0, 0): C.GC_9}
)
