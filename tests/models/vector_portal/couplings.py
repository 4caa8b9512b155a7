from .function_library import complexconjugate
from .object_library import Coupling

GC_1 = Coupling(name="GC_1", value="-(ee*complex(0,1))/3.", order={"QED": 1})

GC_2 = Coupling(name="GC_2", value="(2*ee*complex(0,1))/3.", order={"QED": 1})

GC_3 = Coupling(name="GC_3", value="-(ee*complex(0,1))", order={"QED": 1})

GC_4 = Coupling(name="GC_4", value="-G", order={"QCD": 1})

GC_5 = Coupling(name="GC_5", value="complex(0,1)*G", order={"QCD": 1})

GC_6 = Coupling(name="GC_6", value="complex(0,1)*G**2", order={"QCD": 2})

GC_7 = Coupling(name="GC_7", value="gu*complex(0,1)", order={"QED": 1})

GC_8 = Coupling(name="GC_8", value="gd*complex(0,1)", order={"QED": 1})

GC_9 = Coupling(name="GC_9", value="complexconjugate(-ge*complex(0,1))", order={"QED": 1})
