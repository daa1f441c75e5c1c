// Python face of the black boxes (src/tapeout/circuit/oracle.py): conversions only.

#include "circuit/budget_oracle.h"
#include "circuit/callback_oracle.h"
#include "circuit/crash_guard.h"
#include "circuit/library_oracle.h"
#include "circuit/oracle_error.h"
#include "circuit/watched_oracle.h"

#include <algorithm>
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <stdexcept>
#include <utility>

namespace nb = nanobind;
namespace circuit = tapeout::circuit;

namespace {

using Rows = nb::ndarray<const std::uint64_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using RowsOut = nb::ndarray<std::uint64_t, nb::numpy, nb::ndim<2>, nb::c_contig>;

RowsOut new_rows(std::size_t rows, std::size_t words) {
    auto* data = new std::uint64_t[std::max<std::size_t>(1, rows * words)];
    const nb::capsule owner(data, [](void* p) noexcept { delete[] static_cast<std::uint64_t*>(p); });
    return RowsOut(data, {rows, words}, owner);
}

void check_rows(const circuit::Oracle& oracle, const Rows& rows) {
    if (rows.shape(1) != circuit::row_words(oracle.input_bits()))
        throw std::invalid_argument("rows have " + std::to_string(rows.shape(1)) + " words, not " +
                                    std::to_string(circuit::row_words(oracle.input_bits())));
}

RowsOut evaluate(circuit::Oracle& oracle, const Rows& rows) {
    check_rows(oracle, rows);
    const RowsOut out = new_rows(rows.shape(0), circuit::row_words(oracle.output_bits()));
    const nb::gil_scoped_release release;
    oracle.evaluate(rows.data(), out.data(), rows.shape(0));
    return out;
}

// Names the package's own error class, so that a black box's fault reads the same from every algorithm.
void raise_user_error(const std::exception_ptr& pointer, void*) {
    try {
        std::rethrow_exception(pointer);
    } catch (const circuit::OracleError& error) {
        const nb::object kind = nb::module_::import_("tapeout.errors").attr("UserError");
        const nb::object value = kind(std::string(error.what()), error.where, error.action);
        PyErr_SetObject(kind.ptr(), value.ptr());
    }
}

// The collector must see the callable: an oracle and the function it holds may name each other.
int traverse(PyObject* self, visitproc visit, void* arg) {
    if (nb::inst_ready(self))
        Py_VISIT(nb::inst_ptr<circuit::CallbackOracle>(self)->function().ptr());
    Py_VISIT(Py_TYPE(self));
    return 0;
}

int clear(PyObject* self) {
    nb::inst_ptr<circuit::CallbackOracle>(self)->function().reset();
    return 0;
}

PyType_Slot callback_slots[] = {
    {Py_tp_traverse, reinterpret_cast<void*>(&traverse)}, {Py_tp_clear, reinterpret_cast<void*>(&clear)}, {0, nullptr}};

} // namespace

namespace tapeout::circuit {

CallbackOracle::CallbackOracle(std::size_t input_bits, std::size_t output_bits, nb::object function)
    : input_bits_(input_bits), output_bits_(output_bits), function_(std::move(function)) {}

void CallbackOracle::evaluate(const std::uint64_t* in, std::uint64_t* out, std::size_t rows) {
    const nb::gil_scoped_acquire acquire;
    const std::size_t words = row_words(input_bits_);
    const RowsOut asked = new_rows(rows, words); // a copy: the callable may keep it
    std::copy_n(in, rows * words, asked.data());
    const nb::object answer = function_(asked);
    Rows answered;
    if (!nb::try_cast<Rows>(answer, answered) || answered.shape(0) != rows ||
        answered.shape(1) != row_words(output_bits_))
        throw OracleError("the answer is not an array uint64[" + std::to_string(rows) + ", " +
                              std::to_string(row_words(output_bits_)) + "]",
                          "oracle", "return one row of 64-bit words for each question");
    std::copy_n(answered.data(), rows * row_words(output_bits_), out);
    check_padding(out, rows, output_bits_, "oracle");
}

} // namespace tapeout::circuit

void bind_oracles(nb::module_& m) {
    nb::register_exception_translator(raise_user_error);
    nb::class_<circuit::LibraryOracle, circuit::Oracle>(m, "LibraryOracle", "A black box in a shared library.")
        .def(nb::init<const std::string&>(), nb::arg("path"))
        .def_prop_ro("interface", &circuit::LibraryOracle::interface, "What the library says of its words.")
        .def("evaluate", &evaluate, nb::arg("rows"), "Output rows of input rows; others may run meanwhile.")
        .def("set_widths", &circuit::LibraryOracle::set_widths, nb::arg("input_bits"), nb::arg("output_bits"))
        .def(
            "check_width",
            [](circuit::LibraryOracle& oracle, const Rows& rows) {
                check_rows(oracle, rows);
                const nb::gil_scoped_release release;
                oracle.check_width(rows.data(), rows.shape(0));
            },
            nb::arg("rows"), "Raises UserError where answers are shorter or longer than the interface says.");
    nb::class_<circuit::CallbackOracle, circuit::Oracle>(m, "CallbackOracle", nb::type_slots(callback_slots),
                                                         "A black box that is a Python callable from rows to rows.")
        .def(nb::init<std::size_t, std::size_t, nb::object>(), nb::arg("input_bits"), nb::arg("output_bits"),
             nb::arg("function"))
        .def("evaluate", &evaluate, nb::arg("rows"), "Output rows of input rows.");
    nb::class_<circuit::WatchedOracle, circuit::Oracle>(m, "WatchedOracle",
                                                        "A black box that tells how long it has not answered.")
        .def(nb::init<circuit::Oracle&>(), nb::arg("oracle"), nb::keep_alive<1, 2>())
        .def_prop_ro("waiting_s", &circuit::WatchedOracle::waiting_s,
                     "Seconds since the oldest batch that is not answered yet was asked.");
    nb::class_<circuit::BudgetOracle, circuit::Oracle>(m, "BudgetOracle",
                                                       "A black box that answers until a time, or so many questions.")
        .def(nb::init<circuit::Oracle&, double, std::uint64_t>(), nb::arg("oracle"), nb::arg("seconds"),
             nb::arg("questions"), nb::keep_alive<1, 2>());
    nb::exception<circuit::BudgetEnded>(m, "BudgetEnded");
    m.def("guard_crashes", &circuit::guard_crashes, nb::arg("line"), nb::arg("code"),
          "Makes a fatal signal or a call of exit() end the process with a line and an exit code.");
    m.def("unguard_crashes", &circuit::unguard_crashes, "Undoes guard_crashes.");
}
