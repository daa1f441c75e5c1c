// Python face of the judge (benchmarks/circuit_judge.py): conversions only.

#include "bind_aig.h"
#include "circuit/judge.h"

#include <algorithm>
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>
#include <stdexcept>
#include <string>
#include <utility>

namespace nb = nanobind;
namespace circuit = tapeout::circuit;

namespace {

// Mask, match, fields of the constant (from, width, to), whether it is signed.
using Code = std::tuple<std::uint64_t, std::uint64_t, std::vector<std::tuple<unsigned, unsigned, unsigned>>, bool>;
// Rows, wrong rows, wrong by output word, rows and wrong by operation, the first wrong row.
using TallyFields = std::tuple<std::uint64_t, std::uint64_t, std::vector<std::uint64_t>, std::vector<std::uint64_t>,
                               std::vector<std::uint64_t>, std::vector<std::uint64_t>>;
// First bit and width of a port's index; the input word that it delivers, or the output words that it stores.
using Read = std::tuple<unsigned, unsigned, unsigned>;
using Write = std::tuple<unsigned, unsigned, std::vector<unsigned>>;
using RowsOut = nb::ndarray<std::uint64_t, nb::numpy, nb::ndim<2>, nb::c_contig>;

circuit::JudgeRows kind_of(const std::string& name) {
    const std::pair<const char*, circuit::JudgeRows> kinds[] = {{"uniform", circuit::JudgeRows::uniform},
                                                                {"operations", circuit::JudgeRows::operations},
                                                                {"damaged", circuit::JudgeRows::damaged},
                                                                {"walking", circuit::JudgeRows::walking}};
    for (const auto& [known, kind] : kinds)
        if (name == known)
            return kind;
    throw std::invalid_argument("no distribution " + name);
}

circuit::JudgePlan to_plan(std::vector<unsigned> inputs, std::vector<unsigned> outputs, int instruction,
                           const std::vector<std::vector<Code>>& operations) {
    circuit::JudgePlan plan{std::move(inputs), std::move(outputs), instruction, {}, {}, {}};
    for (const auto& codes : operations) {
        std::vector<circuit::Encoding>& encodings = plan.operations.emplace_back();
        for (const auto& [mask, match, fields, is_signed] : codes) {
            encodings.push_back({mask, match, {}, is_signed});
            for (const auto& [from, width, to] : fields)
                encodings.back().constant.push_back({from, width, to});
        }
    }
    return plan;
}

TallyFields run(circuit::Judge& judge, const std::string& kind, std::uint64_t first, std::uint64_t chunks,
                unsigned threads) {
    const circuit::JudgeRows rows = kind_of(kind);
    circuit::Tally tally;
    {
        const nb::gil_scoped_release release;
        tally = judge.run(rows, first, chunks, threads);
    }
    return {tally.rows, tally.wrong, tally.wrong_by_output, tally.rows_by_operation, tally.wrong_by_operation,
            tally.first};
}

RowsOut chunk(const circuit::Judge& judge, const std::string& kind, std::uint64_t number) {
    const std::vector<std::uint64_t> rows = judge.rows(kind_of(kind), number);
    auto* data = new std::uint64_t[rows.size()];
    std::copy(rows.begin(), rows.end(), data);
    const nb::capsule owner(data, [](void* p) noexcept { delete[] static_cast<std::uint64_t*>(p); });
    return RowsOut(data, {circuit::kJudgeChunk, rows.size() / circuit::kJudgeChunk}, owner);
}

} // namespace

void bind_judge(nb::module_& m) {
    using namespace nb::literals;
    m.attr("JUDGE_CHUNK") = circuit::kJudgeChunk;
    nb::class_<circuit::Judge>(m, "Judge", "Counts wrong answers of a circuit; see native/circuit/judge.h.")
        .def(
            "__init__",
            [](circuit::Judge* self, circuit::Oracle& oracle, const circuit::AigFields& aig,
               std::vector<unsigned> inputs, std::vector<unsigned> outputs, int instruction,
               const std::vector<std::vector<Code>>& operations, std::uint64_t seed, const std::vector<Read>& reads,
               const std::vector<Write>& writes) {
                circuit::JudgePlan plan = to_plan(std::move(inputs), std::move(outputs), instruction, operations);
                for (const auto& [bit, width, word] : reads)
                    plan.reads.push_back({{bit, width}, word});
                for (const auto& [bit, width, words] : writes)
                    plan.writes.push_back({{bit, width}, words});
                new (self) circuit::Judge(oracle, circuit::to_aig(aig), std::move(plan), seed);
            },
            "oracle"_a, "aig"_a, "inputs"_a, "outputs"_a, "instruction"_a, "operations"_a, "seed"_a, "reads"_a,
            "writes"_a, nb::keep_alive<1, 2>())
        .def("run", &run, "kind"_a, "first"_a, "chunks"_a, "threads"_a,
             "Judges chunks: rows, wrong rows, wrong by output word, rows and wrong by operation, a wrong row.")
        .def("rows", &chunk, "kind"_a, "chunk"_a, "The questions of a chunk.");
}
