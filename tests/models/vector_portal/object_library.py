"""The classes whose objects make up the model: each keeps what it was called with."""

all_particles = []
all_parameters = []
all_couplings = []
all_lorentz = []
all_vertices = []
all_orders = []
all_functions = []


class UFOBaseClass:
    listed_in = None

    def __init__(self, **fields):
        self.__dict__.update(fields)
        self.listed_in.append(self)

    def get(self, name):
        return getattr(self, name)

    def __repr__(self):
        return self.name


class Particle(UFOBaseClass):
    listed_in = all_particles

    def __init__(self, **fields):
        defaults = {"propagating": True, "goldstoneboson": False, "line": "straight"}
        defaults |= {"GhostNumber": 0, "LeptonNumber": 0, "Y": 0}
        super().__init__(**{**defaults, **fields})
        self.selfconjugate = self.name == self.antiname

    def anti(self):
        fields = {k: v for k, v in self.__dict__.items() if k != "selfconjugate"}
        return Particle(
            **{
                **fields,
                "pdg_code": -self.pdg_code,
                "name": self.antiname,
                "antiname": self.name,
                "texname": self.antitexname,
                "antitexname": self.texname,
                "color": self.color if self.color in (1, 8) else -self.color,
                "charge": -self.charge,
            }
        )


class Parameter(UFOBaseClass):
    listed_in = all_parameters
    lhablock = None
    lhacode = None


class Coupling(UFOBaseClass):
    listed_in = all_couplings


class Lorentz(UFOBaseClass):
    listed_in = all_lorentz


class Vertex(UFOBaseClass):
    listed_in = all_vertices


class CouplingOrder(UFOBaseClass):
    listed_in = all_orders


class Function(UFOBaseClass):
    listed_in = all_functions

    def __call__(self, *values):
        return eval(self.expression, globals(), dict(zip(self.arguments, values)))
