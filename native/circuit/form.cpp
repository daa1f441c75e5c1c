#include "circuit/form.h"

#include <algorithm>
#include <bit>
#include <map>

namespace tapeout::circuit {

namespace {

struct Digit {
    std::size_t column;
    bool negative;
};

int ones(Value value) {
    return std::popcount(static_cast<std::uint64_t>(value)) + std::popcount(static_cast<std::uint64_t>(value >> 64));
}

// A weight modulo 2^width as a sum of few powers of two with signs: binary, or the non-adjacent form (Reitwiesner
// 1960).
std::vector<Digit> digits_of(Value weight, const Arithmetic& arithmetic) {
    std::vector<Digit> binary, adjacent;
    for (std::size_t column = 0; column < arithmetic.width; ++column)
        if (weight >> column & 1)
            binary.push_back({column, false});
    if (arithmetic.group == Group::exclusive)
        return binary;
    Value rest = weight;
    for (std::size_t column = 0; column < arithmetic.width; ++column, rest >>= 1) {
        if (!(rest & 1))
            continue;
        const bool negative = (rest & 2) && column + 1 < arithmetic.width;
        adjacent.push_back({column, negative});
        if (negative)
            rest = (rest + 1) & (arithmetic.all() >> column);
    }
    return binary.size() <= adjacent.size() ? binary : adjacent;
}

struct Row {
    bool negative = false;
    std::map<std::size_t, Lit> digits;
    std::size_t low() const { return digits.begin()->first; }
    std::size_t high() const { return digits.rbegin()->first; }
};

bool has_room(const Row& row, const Row& into) {
    return row.negative == into.negative && std::none_of(row.digits.begin(), row.digits.end(), [&](const auto& digit) {
               return into.digits.contains(digit.first);
           });
}

// The digits of one input as rows with one literal a column.
std::vector<Row> rows_of_input(const std::vector<std::pair<Digit, Lit>>& digits) {
    std::vector<Row> rows;
    for (const auto& [digit, literal] : digits) {
        const Row single{digit.negative, {{digit.column, literal}}};
        const auto at = std::find_if(rows.begin(), rows.end(), [&](const Row& row) { return has_room(single, row); });
        if (at == rows.end())
            rows.push_back(single);
        else
            at->digits.insert(single.digits.begin(), single.digits.end());
    }
    return rows;
}

// The rows to add, the lowest first, so that no carry runs through columns that later rows begin.
std::vector<Row> pack(const Form& form, bool shared) {
    const Arithmetic& arithmetic = form.arithmetic();
    std::map<int, std::vector<std::pair<Digit, Lit>>> inputs;
    for (const Form::Term& term : form.terms()) {
        auto digits = digits_of(term.weight, arithmetic);
        if (shared && digits.size() == 1 && digits[0].negative) {
            const std::size_t column = digits[0].column; // -2^k = 2^k - 2^(k + 1)
            digits = {{column, false}};
            if (column + 1 < arithmetic.width)
                digits.push_back({column + 1, true});
        }
        for (const Digit& digit : digits)
            inputs[term.row].emplace_back(digit, term.literal);
    }
    std::vector<Row> parts;
    for (const auto& [input, digits] : inputs)
        for (Row& row : rows_of_input(digits))
            parts.push_back(std::move(row));
    std::stable_sort(parts.begin(), parts.end(), [](const Row& a, const Row& b) { return a.low() < b.low(); });
    std::vector<Row> rows;
    for (Row& part : parts) {
        const auto at =
            std::find_if(rows.begin(), rows.end(), [&](const Row& row) { // no gap: what reaches far up is late
                return part.low() <= row.high() + 1 && has_room(part, row);
            });
        if (at == rows.end())
            rows.push_back(std::move(part));
        else
            at->digits.insert(part.digits.begin(), part.digits.end());
    }
    std::stable_sort(rows.begin(), rows.end(), [](const Row& a, const Row& b) {
        return a.negative != b.negative ? b.negative : a.high() < b.high();
    });
    return rows;
}

// a + b + carry: seven gates, the fewest.
Lit full_adder(Strash& gates, Lit a, Lit b, Lit& carry) {
    const Lit both = gates.and_(a, b), half = gates.and_(both ^ 1, gates.and_(a ^ 1, b ^ 1) ^ 1);
    const Lit passed = gates.and_(half, carry);
    const Lit sum = gates.and_(passed ^ 1, gates.and_(half ^ 1, carry ^ 1) ^ 1);
    carry = gates.or_(both, passed);
    return sum;
}

void add_row(Strash& gates, const Row& row, std::vector<Lit>& total) {
    Lit carry = row.negative;
    for (std::size_t column = row.low(); column < total.size(); ++column) {
        const auto at = row.digits.find(column);
        const Lit digit = at == row.digits.end() ? Lit{0} : at->second;
        total[column] = full_adder(gates, total[column], digit ^ static_cast<Lit>(row.negative), carry);
    }
}

} // namespace

Form::Form(Arithmetic arithmetic, const std::vector<Lit>& word, bool whole) : arithmetic_(arithmetic) {
    for (std::size_t bit = 0; bit < word.size(); ++bit)
        add(word[bit], Value{1} << bit, -1, whole);
}

void Form::add(Lit literal, Value weight, int row, bool whole) {
    if (literal == 1)
        add_constant(weight);
    if (literal <= 1 || weight == 0)
        return;
    if (whole) {
        terms_.push_back({literal, weight, row, true});
        return;
    }
    if (literal & 1) { // w * !x = w - w * x
        add_constant(weight);
        literal ^= 1;
        weight = arithmetic_.subtract(0, weight);
    }
    const auto [at, fresh] = places_.try_emplace(literal, terms_.size());
    if (fresh)
        terms_.push_back({literal, weight, row, false});
    else
        terms_[at->second].weight = arithmetic_.add(terms_[at->second].weight, weight);
}

Value Form::scaled(Value weight, Value factor) const {
    return weight * factor & arithmetic_.all();
}

void Form::add_product(Strash& gates, const Form& form, Value factor, Lit literal, int row) {
    if (literal == 1)
        add_constant(scaled(form.constant_, factor));
    else
        add(literal, scaled(form.constant_, factor), row);
    for (const Term& term : form.terms_)
        if (const Value weight = scaled(term.weight, factor)) // else no gate is made
            add(gates.and_(term.literal, literal), weight, row < 0 ? term.row : row, term.whole);
}

std::size_t Form::digits() const {
    std::size_t count = 0;
    for (const Term& term : terms_)
        count += digits_of(term.weight, arithmetic_).size();
    return count;
}

std::size_t Form::columns() const {
    Value taken = 0;
    for (const Term& term : terms_)
        for (const Digit& digit : digits_of(term.weight, arithmetic_))
            taken |= Value{1} << digit.column;
    return static_cast<std::size_t>(ones(taken));
}

std::vector<Lit> emit(Strash& gates, const Form& form, bool shared, SumTrace* trace) {
    const Arithmetic& arithmetic = form.arithmetic();
    std::vector<Lit> total(arithmetic.width);
    for (std::size_t bit = 0; bit < arithmetic.width; ++bit)
        total[bit] = static_cast<Lit>(form.constant() >> bit & 1);
    if (arithmetic.group == Group::exclusive) {
        for (const Form::Term& term : form.terms())
            for (const Digit& digit : digits_of(term.weight, arithmetic))
                total[digit.column] = gates.xor_(total[digit.column], term.literal);
        return total;
    }
    const bool traced = trace && form.constant() == 0;
    for (const Row& row : pack(form, shared)) {
        add_row(gates, row, total);
        if (!traced)
            continue;
        SumTrace::Row& step = trace->rows.emplace_back();
        step.subtract = row.negative;
        step.row.resize(arithmetic.width);
        for (const auto& [column, literal] : row.digits)
            step.row[column] = literal;
        step.total = total;
    }
    return total;
}

} // namespace tapeout::circuit
