"""A small UFO model for tests: QCD and QED of two quarks and two leptons, and a heavy vector x."""

from . import coupling_orders, couplings, function_library, lorentz, object_library
from . import parameters, particles, vertices

gauge = [0]
all_particles = object_library.all_particles
all_vertices = object_library.all_vertices
all_couplings = object_library.all_couplings
all_lorentz = object_library.all_lorentz
all_parameters = object_library.all_parameters
all_orders = object_library.all_orders
all_functions = object_library.all_functions
