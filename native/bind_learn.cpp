// The exact learner's jobs for Python.

#include "circuit/check.h"
#include "circuit/evaluate.h"
#include "circuit/joined.h"
#include "circuit/region.h"

#include <cstring>
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/vector.h>
#include <utility>

namespace nb = nanobind;
using namespace tapeout::circuit;

namespace {

using RowArray = nb::ndarray<const Word, nb::numpy, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Pairs = std::vector<std::pair<int, int>>;
using Facts = nb::typed<nb::dict, nb::str, nb::any>;

Rows rows_of(const RowArray& array) {
    Rows rows(array.shape(1), array.shape(0));
    if (rows.size())
        std::memcpy(rows.data(), array.data(), array.size() * sizeof(Word));
    return rows;
}

template <typename T>
auto matrix(const T* data, std::size_t rows, std::size_t columns) {
    T* copy = new T[rows * columns + 1];
    if (rows > 0 && columns > 0)
        std::memcpy(copy, data, rows * columns * sizeof(T));
    nb::capsule owner(copy, [](void* p) noexcept { delete[] static_cast<T*>(p); });
    const std::size_t shape[2] = {rows, columns};
    return nb::ndarray<nb::numpy, T, nb::ndim<2>>(copy, 2, shape, owner);
}

std::vector<Gate> gates_of(const nb::ndarray<const Lit, nb::ndim<2>, nb::c_contig, nb::device::cpu>& fanins) {
    std::vector<Gate> gates;
    for (std::size_t i = 0; i < fanins.shape(0); ++i)
        gates.push_back({fanins(i, 0), fanins(i, 1)});
    return gates;
}

RegionTask make_task(const Oracle& oracle, const Pairs& words, std::vector<int> outputs, const Pairs& fixed,
                     Word seed) {
    RegionTask task;
    for (const auto& [first, width] : words)
        task.words.push_back({first, width});
    task.outputs = std::move(outputs);
    task.mask.resize(row_words(oracle.input_bits()));
    task.value = task.mask;
    for (const auto& [bit, value] : fixed) {
        set_bit(task.mask.data(), static_cast<std::size_t>(bit), true);
        set_bit(task.value.data(), static_cast<std::size_t>(bit), value);
    }
    task.seed = seed;
    return task;
}

std::vector<Lit> flat(const std::vector<Gate>& gates) {
    std::vector<Lit> literals;
    for (const auto& [a, b] : gates)
        literals.insert(literals.end(), {a, b});
    return literals;
}

// A fold as lists by name (src/tapeout/circuit/folds.py); empty where there is none.
Facts fold_facts(const std::optional<FoldTrace>& fold) {
    Facts facts;
    if (!fold)
        return facts;
    facts["over"] = std::vector<int>{fold->over.first, fold->over.width};
    facts["step"] = flat(fold->step);
    facts["next"] = fold->next;
    facts["shown"] = fold->shown;
    facts["inputs"] = fold->inputs;
    facts["state"] = fold->state;
    facts["record"] = fold->record;
    return facts;
}

std::optional<FoldTrace> fold_of(const Facts& facts) {
    if (facts.size() == 0)
        return std::nullopt;
    const auto literals = [&](const char* name) { return nb::cast<std::vector<Lit>>(facts[name]); };
    FoldTrace fold;
    const auto over = nb::cast<std::vector<int>>(facts["over"]);
    fold.over = {over.at(0), over.at(1)};
    const std::vector<Lit> step = literals("step");
    for (std::size_t i = 0; i + 1 < step.size(); i += 2)
        fold.step.push_back({step[i], step[i + 1]});
    fold.next = literals("next");
    fold.shown = literals("shown");
    fold.inputs = literals("inputs");
    fold.state = literals("state");
    fold.record = literals("record");
    return fold;
}

Facts facts_of(const RegionResult& result, std::size_t row_width) {
    const std::vector<Lit> gates = flat(result.circuit.gates);
    Facts answer;
    answer["split"] = result.split;
    answer["fanins"] = matrix(gates.data(), result.circuit.gates.size(), 2);
    answer["outputs"] = result.circuit.outputs;
    answer["support"] = result.support;
    answer["partners"] = result.partners;
    answer["order"] = result.order;
    answer["hints"] = matrix(result.hints.data(), result.hints.size(), row_width);
    answer["lively"] = matrix(result.lively.data(), result.lively.size(), row_width);
    answer["queries"] = result.queries;
    answer["nodes"] = result.nodes;
    answer["cut"] = result.cut;
    answer["rounds"] = result.rounds;
    answer["orders"] = result.orders;
    answer["left"] = result.left;
    answer["additive"] = result.additive;
    answer["fold"] = fold_facts(result.circuit.fold);
    answer["waiting"] = result.waiting;
    nb::list rows; // of a sum: [subtracted, literals of the row, literals of the total behind it]
    for (const SumTrace::Row& row : result.circuit.sum.rows) {
        nb::list parts;
        parts.append(row.subtract);
        parts.append(row.row);
        parts.append(row.total);
        rows.append(parts);
    }
    answer["trace"] = rows;
    return answer;
}

Rows hint_rows(const RowArray& hints, std::size_t row_width) {
    Rows rows = rows_of(hints);
    return rows.width() == row_width ? rows : Rows(row_width, 0);
}

Facts learn(Oracle& oracle, const Pairs& words, std::vector<int> outputs, const Pairs& fixed, const RowArray& hints,
            Word seed, std::size_t tests, bool wait) {
    RegionTask task = make_task(oracle, words, std::move(outputs), fixed, seed);
    const std::size_t row_width = row_words(oracle.input_bits());
    task.hints = hint_rows(hints, row_width);
    task.tests = tests;
    task.wait = wait;
    RegionResult result;
    {
        nb::gil_scoped_release release;
        result = learn_region(oracle, task);
    }
    return facts_of(result, row_width);
}

Facts join(Oracle& oracle, const Pairs& words, std::vector<int> outputs, const Pairs& fixed, const RowArray& hints,
           Word seed, std::size_t tests, const std::vector<std::pair<std::vector<int>, Pairs>>& low,
           const nb::ndarray<const Lit, nb::ndim<2>, nb::c_contig, nb::device::cpu>& low_fanins,
           std::vector<Lit> low_outputs, const Facts& low_fold,
           const nb::ndarray<const Lit, nb::ndim<2>, nb::c_contig, nb::device::cpu>& known,
           const std::vector<std::size_t>& known_sizes) {
    RegionTask task = make_task(oracle, words, std::move(outputs), fixed, seed);
    const std::size_t row_width = row_words(oracle.input_bits());
    task.hints = hint_rows(hints, row_width);
    task.tests = tests;
    std::size_t gate = 0;
    for (const std::size_t size : known_sizes) {
        auto& circuit = task.known.emplace_back();
        for (std::size_t i = 0; i < size && gate < known.shape(0); ++i, ++gate)
            circuit.push_back({known(gate, 0), known(gate, 1)});
    }
    const Circuit circuit{gates_of(low_fanins), std::move(low_outputs), {}, fold_of(low_fold)};
    std::vector<JoinedPart> parts;
    for (const auto& [bits, region] : low) {
        const RegionTask part = make_task(oracle, words, bits, region, seed);
        parts.push_back({bits, part.mask, part.value});
    }
    RegionResult result;
    {
        nb::gil_scoped_release release;
        result = learn_joined(oracle, task, std::move(parts), circuit);
    }
    return facts_of(result, row_width);
}

Facts check(Oracle& oracle, const nb::ndarray<const Lit, nb::ndim<2>, nb::c_contig, nb::device::cpu>& fanins,
            const nb::ndarray<const Lit, nb::ndim<1>, nb::c_contig, nb::device::cpu>& outputs, const Pairs& words,
            const Pairs& fixed, const RowArray& hints,
            const std::vector<std::pair<std::vector<int>, std::vector<std::vector<int>>>>& focuses, Word seed,
            std::size_t rows, std::size_t most) {
    const RegionTask task = make_task(oracle, words, {}, fixed, seed);
    Region region(task.mask.size());
    region.mask = task.mask;
    region.value = task.value;
    Rows rows_hints = rows_of(hints);
    if (rows_hints.width() != task.mask.size())
        rows_hints = Rows(task.mask.size(), 0);
    std::vector<Focus> known;
    for (const auto& [support, partners] : focuses)
        known.push_back({support, partners});
    Aig aig;
    aig.inputs = oracle.input_bits();
    aig.gates = gates_of(fanins);
    aig.outputs.assign(outputs.data(), outputs.data() + outputs.shape(0));
    Mismatches result;
    {
        nb::gil_scoped_release release;
        Evaluator circuit(aig);
        result = check_region(oracle, circuit, task.words, region, rows_hints, known, seed, rows, most);
    }
    Facts answer;
    answer["rows"] = matrix(result.rows.data(), result.rows.size(), row_words(oracle.input_bits()));
    answer["outputs"] = matrix(result.outputs.data(), result.outputs.size(), row_words(oracle.output_bits()));
    answer["wrong"] = result.wrong;
    return answer;
}

// Rows drawn for a region.
auto sample(const Pairs& words, const Pairs& fixed, std::size_t row_width, Word seed, std::size_t count) {
    Region region(row_width);
    for (const auto& [bit, value] : fixed)
        region.fix(static_cast<std::size_t>(bit), value);
    std::vector<Span> spans;
    for (const auto& [first, width] : words)
        spans.push_back({first, width});
    Rows rows(row_width, count);
    Sampler(spans, row_width, region, seed).fill(rows);
    return matrix(rows.data(), count, row_width);
}

std::pair<Word, Word> signature(Oracle& oracle, const Pairs& words, std::vector<int> outputs, const Pairs& fixed,
                                Word seed, std::size_t rows) {
    const RegionTask task = make_task(oracle, words, std::move(outputs), fixed, seed);
    nb::gil_scoped_release release;
    const Hash hash = region_signature(oracle, task, rows);
    return {hash.a, hash.b};
}

} // namespace

void bind_learn(nb::module_& m) {
    using namespace nb::literals;
    m.def("learn_region", &learn, "oracle"_a, "words"_a, "outputs"_a, "fixed"_a, "hints"_a, "seed"_a, "tests"_a,
          "wait"_a = false,
          "One job of the exact learner: a circuit for the outputs on a region, or the input to split it on.");
    m.def(
        "learn_joined", &join, "oracle"_a, "words"_a, "outputs"_a, "fixed"_a, "hints"_a, "seed"_a, "tests"_a, "low"_a,
        "low_fanins"_a, "low_outputs"_a, "low_fold"_a, "known"_a, "known_sizes"_a,
        "One job of the exact learner: outputs that are the upper bits of a sum whose lower bits are known words, what "
        "the steps of a known fold show, or a known word up to signs.");
    m.def("check_region", &check, "oracle"_a, "fanins"_a, "outputs"_a, "words"_a, "fixed"_a, "hints"_a, "focuses"_a,
          "seed"_a, "rows"_a, "most"_a,
          "A circuit against its oracle on rows of a region: wrong rows, their wrong outputs, how many were wrong.");
    m.def("sample_region", &sample, "words"_a, "fixed"_a, "row_words"_a, "seed"_a, "rows"_a,
          "Rows drawn for a region.");
    m.def("region_signature", &signature, "oracle"_a, "words"_a, "outputs"_a, "fixed"_a, "seed"_a, "rows"_a,
          "A hash of what the outputs do in a region.");
}
