// The border between Python and the native core: conversions only, no logic.

#include <nanobind/nanobind.h>

namespace nb = nanobind;

NB_MODULE(_native, m) {
    m.doc() = "Native core of Tapeout.";
    m.def("version", [] { return TAPEOUT_VERSION; }, "Version this module was built from.");
}
