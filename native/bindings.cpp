// The border between Python and the native core: conversions only, no logic.

#include <nanobind/nanobind.h>

namespace nb = nanobind;

void bind_circuit(nb::module_& m);
void bind_functional(nb::module_& m);
void bind_judge(nb::module_& m);
void bind_learn(nb::module_& m);
void bind_netlist(nb::module_& m);
void bind_oracles(nb::module_& m);
void bind_bsd(nb::module_& m);
void bind_ports(nb::module_& m);
void bind_timing(nb::module_& m);

NB_MODULE(_native, m) {
    m.doc() = "Native core of Tapeout.";
    bind_functional(m);
    bind_circuit(m);
    bind_learn(m);
    bind_netlist(m);
    bind_oracles(m); // behind bind_circuit, which registers its base class
    bind_judge(m);
    bind_bsd(m);
    bind_ports(m);
    bind_timing(m);
    m.def("version", [] { return TAPEOUT_VERSION; }, "Version this module was built from.");
}
